//go:build linux && race

package table

func init() { raceDetector = true }

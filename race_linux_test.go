//go:build race

package flagstone_test

func init() { raceDetector = true }

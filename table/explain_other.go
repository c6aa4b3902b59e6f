//go:build !linux

package table

func explain(err error) error { return err }

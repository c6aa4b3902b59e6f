//go:build !amd64 && !arm64

package shm

import "unsafe"

func prefetch(unsafe.Pointer) {}

// Pause spends a moment of a spinning wait.
func Pause() {}

//go:build amd64 || arm64

package shm

import "unsafe"

//go:noescape
func prefetch(p unsafe.Pointer)

// Pause spends a moment of a spinning wait.
func Pause()

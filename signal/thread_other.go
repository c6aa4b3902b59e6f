//go:build !linux

package signal

import "syscall"

// thread is for systems that have signals to threads.
func thread(syscall.Signal) uint32 { return 0 }

//go:build !linux

package signal

// thread is for systems that have signals to threads.
func thread(<-chan struct{}) uint32 { return 0 }

package shm

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// marked points to a word that is 1 in the process that shares memory and 0 in the
// children that it forks, as the kernel wipes its page there; nil until NotForked.
var marked atomic.Pointer[atomic.Uint32]

// sharer is the process that shares memory if the kernel cannot wipe the word, which is
// then always 0; else it is 0.
var sharer int

// Forked reports whether this process was forked, without exec, by one that shares
// memory. It costs a load and a branch.
func Forked() bool {
	word := marked.Load()
	return word != nil && word.Load() == 0 && (sharer == 0 || os.Getpid() != sharer)
}

// NotForked returns ErrForked in a forked child. The first process to call it is the
// one whose children are told apart; whoever shares memory has called it.
func NotForked() error {
	if mark(); Forked() {
		return ErrForked
	}
	return nil
}

var mark = sync.OnceFunc(func() {
	word := new(atomic.Uint32)
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err == nil {
		err = unix.Madvise(page, unix.MADV_WIPEONFORK)
	}
	if err == nil {
		word = (*atomic.Uint32)(unsafe.Pointer(&page[0])) // stays mapped for good
		word.Store(1)
	} else { // before Linux 4.14
		sharer = os.Getpid()
	}
	marked.Store(word)
})

// keepFromChildren leaves the mapping out of what forked children get, so that what
// they do cannot reach those who share it. What the library's own checks leave out is
// a fault there. Children of os/exec run on the parent's memory until they exec.
func keepFromChildren(m []byte) error {
	if err := unix.Madvise(m, unix.MADV_DONTFORK); err != nil {
		return fmt.Errorf("keep %d bytes from children: %w", len(m), err)
	}
	return nil
}

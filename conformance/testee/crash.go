package main

import (
	"os"
	"sync/atomic"
	"syscall"

	"github.com/flagstone-shm/flagstone/internal/step"
)

func crash(*session, *line) (answer, error) {
	die()
	return answer{}, nil
}

// die ends the process as if somebody had killed it; it does not return.
func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// left counts the stores down to the one before which the process dies; at 0 it goes on.
var left atomic.Int64

func crashAfter(_ *session, l *line) (answer, error) {
	if !step.On {
		return answer{}, errUnsupported
	}
	n := l.number(l.words[0])
	if l.err != nil {
		return answer{}, l.err
	}
	left.Store(int64(n))
	return ok()
}

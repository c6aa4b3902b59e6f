//go:build !steps

package step

// On reports whether steps are compiled in.
const On = false

// Here passes a step: the calling line's next system call.
func Here() {}

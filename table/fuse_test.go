//go:build linux

package table

import (
	"encoding/binary"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// mountFUSE mounts an empty folder whose file system is this test, or skips.
func mountFUSE(t *testing.T) (dir string) {
	t.Helper()
	device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip(err)
	}
	dir = t.TempDir()
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d", device, os.Getuid(), os.Getgid())
	if err := unix.Mount("fuse", dir, "fuse", 0, options); err != nil {
		unix.Close(device)
		t.Skipf("cannot mount fuse: %v", err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); serveFUSE(device) }()
	t.Cleanup(func() {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		<-ended // what reads is told that there is no mount
		unix.Close(device)
	})
	return dir
}

// serveFUSE answers as an empty folder does until it is unmounted.
func serveFUSE(device int) {
	const ( // linux/fuse.h
		lookup, getattr, statfs, opendir, initialise = 1, 3, 17, 27, 26
		header                                       = 40
	)
	b, le := make([]byte, 1<<20), binary.LittleEndian
	for {
		n, err := unix.Read(device, b)
		if err == unix.EINTR || err == unix.ENOENT { // the latter: a request was taken back
			continue
		}
		if err != nil || n < header {
			return
		}
		var body []byte
		errno := int32(0)
		switch le.Uint32(b[4:]) {
		case initialise:
			body = make([]byte, 64)
			le.PutUint32(body, 7)
			le.PutUint32(body[4:], 31)
			le.PutUint32(body[20:], 1<<16) // largest write
		case getattr:
			body = make([]byte, 16+88)
			le.PutUint64(body[16:], 1)                // inode
			le.PutUint32(body[16+60:], 0o40000|0o700) // mode
			le.PutUint32(body[16+64:], 2)             // links
		case statfs:
			body = make([]byte, 80)
			le.PutUint64(body, 1<<20) // blocks
			le.PutUint64(body[8:], 1<<20)
			le.PutUint64(body[16:], 1<<20)
			le.PutUint32(body[40:], 4096) // of bytes
			le.PutUint32(body[44:], 255)
		case opendir:
			body = make([]byte, 16)
		case lookup:
			errno = -int32(unix.ENOENT)
		case 2, 42: // forget: no answer
			continue
		default:
			errno = -int32(unix.ENOSYS)
		}
		answer := make([]byte, 16, 16+len(body))
		le.PutUint32(answer, uint32(16+len(body)))
		le.PutUint32(answer[4:], uint32(errno))
		copy(answer[8:], b[8:16]) // which request
		if _, err := unix.Write(device, append(answer, body...)); err != nil {
			return
		}
	}
}

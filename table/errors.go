package table

import (
	"errors"
	"fmt"

	"github.com/flagstone-shm/flagstone/internal/format"
	"github.com/flagstone-shm/flagstone/internal/shm"
	"github.com/flagstone-shm/flagstone/lock"
)

// Errors of this package. They come wrapped with the step that failed and the
// names and values involved.
var (
	// ErrNotFound says that there is no such domain.
	ErrNotFound = errors.New("no such domain")
	// ErrDestroyed says that somebody destroyed the domain, or removed, replaced or moved
	// its files. What is mapped stays readable; close the handle and open the domain anew.
	ErrDestroyed = errors.New("domain was destroyed")
	// ErrOptions says that an option is out of its range.
	ErrOptions = format.ErrOptions
	// ErrUnsafeDir says that a directory may be changed by those who must not.
	ErrUnsafeDir = errors.New("unsafe directory")
	// ErrNoRegion says that living processes have all regions. Opening a domain
	// again with more of them needs Destroy first.
	ErrNoRegion = errors.New("no free region")
	// ErrNoEntry says that the directory is full.
	ErrNoEntry = errors.New("no free directory entry")
	// ErrNoMutex says that the domain has no mutex of that number.
	ErrNoMutex = errors.New("no such mutex")
	// ErrNotHeld says that a mutex was unlocked that this handle does not hold.
	ErrNotHeld = errors.New("mutex is not held")
	// ErrTooManyHeld says that the handle already holds or wants as many mutexes
	// as a region can list.
	ErrTooManyHeld = errors.New("too many mutexes held or wanted")
	// ErrTooManyMapped says that the handle already maps as many segments as a
	// region can list.
	ErrTooManyMapped = errors.New("too many segments mapped")
	// ErrRetired says that an entry has no segment to offer: it is retired, used
	// again for another segment, or not yet published.
	ErrRetired = errors.New("segment is not published")
	// ErrState says that a reservation was published or aborted before, or taken
	// back because its creator was thought dead; or that a drain was ended by
	// another.
	ErrState = errors.New("entry has moved on")
	// ErrSegmentSize says that a segment's file has not the size that the
	// directory states.
	ErrSegmentSize = errors.New("segment file has the wrong size")

	// ErrBusy says that the context ended before a lock was free.
	ErrBusy = lock.ErrBusy
	// ErrClosed says that the handle was closed.
	ErrClosed = lock.ErrClosed
	// ErrLost says that a mutex was taken away while held: this process was
	// thought dead.
	ErrLost = lock.ErrLost
	// ErrForked says that the handle belongs to the process that this one was forked
	// from without exec, or, of Open, Inspect and Destroy, that this process is such a
	// child: only what exec starts can open domains of its own.
	ErrForked = shm.ErrForked
	// ErrNoSpace says that the file system has no room. Nothing was made.
	ErrNoSpace = shm.ErrNoSpace
	// ErrNoMemory says that this process or its control group may not have so much
	// memory, or address space. Of a control group it comes with ErrNoSpace: creating the
	// segment would have got the process killed. Nothing was made.
	ErrNoMemory = shm.ErrNoMemory
	// ErrNoDescriptor says that this process, or the system, has as many files open as it
	// may.
	ErrNoDescriptor = errors.New("no file descriptor left")
	// ErrAccess says that this user may not do it to the file or directory, or that the
	// file system is mounted for reading.
	ErrAccess = errors.New("no access")
	// ErrFileSystem says that a domain cannot be on this type of file system: that of a
	// network or in user space, or one where shared mappings or locks do not work.
	ErrFileSystem = shm.ErrFileSystem
	// ErrLocks says that the kernel, or a sandbox, has no open file description locks. It
	// wraps errors.ErrUnsupported.
	ErrLocks = fmt.Errorf("open file description locks do not work: %w", errors.ErrUnsupported)
	// ErrMissing says that the file of a published segment is gone: somebody has removed
	// it. Destroy the domain.
	ErrMissing = errors.New("segment file is missing")
	// ErrFault says that a mapped file was truncated under the handle.
	ErrFault = shm.ErrFault
	// ErrUnsafeFile says that a file is not a regular one of the right owner and
	// mode, reached without a symbolic link.
	ErrUnsafeFile = shm.ErrUnsafeFile
	// ErrUnsupported says that processes share no memory on this system: domains
	// are for Linux. It wraps errors.ErrUnsupported.
	ErrUnsupported = shm.ErrUnsupported
)

// What a FormatError wraps. Nothing was changed when one is returned.
var (
	// ErrFormat is wrapped by every FormatError.
	ErrFormat = format.ErrFormat
	// ErrMagic says that the file is not a control segment.
	ErrMagic = format.ErrMagic
	// ErrEndian says that a host of the other byte order made it.
	ErrEndian = format.ErrEndian
	// ErrVersion says that it needs a newer version of this package.
	ErrVersion = format.ErrVersion
	// ErrFeature says that it uses features unknown to this version.
	ErrFeature = format.ErrFeature
	// ErrFingerprint says that its layout differs from this version's.
	ErrFingerprint = format.ErrFingerprint
	// ErrChecksum says that its header is damaged.
	ErrChecksum = format.ErrChecksum
	// ErrGeometry says that its numbers contradict one another or are absurd.
	ErrGeometry = format.ErrGeometry
	// ErrTruncated says that the file is shorter than its header states.
	ErrTruncated = format.ErrTruncated
	// ErrOversized says that the file is longer than its header states.
	ErrOversized = format.ErrOversized
	// ErrNotReady says that its READY word is none of the defined values.
	ErrNotReady = format.ErrNotReady
	// ErrStaleBoot says that it was made before this machine's last boot: nothing
	// in it is alive. Destroy the domain.
	ErrStaleBoot = format.ErrStaleBoot
)

// FormatError says which field of which file is not as it has to be.
type FormatError = format.Error

// AccessError says what is wrong with the owner or mode of a file or directory.
type AccessError struct {
	Path      string
	Field     string // "owner", "group", "mode" or "type"
	Got, Want uint32 // for "mode" Want is the widest allowed
	Err       error  // ErrUnsafeDir, ErrUnsafeFile or, where the kernel keeps this user out, ErrAccess and EACCES
}

// Error names path, field and both values, and what to do.
func (e *AccessError) Error() string {
	format := "%s: %v: %s is %d, want %d; "
	switch e.Field {
	case "mode":
		format = "%s: %v: %s is %#o, want at most %#o; take the rights of others away, set the sticky bit (chmod +t) of a directory of many users, or open with Group if a group is to share it"
	case "type":
		format = "%s: %v: %s is %#o, want %#o: not a directory or not a regular file; remove it, or choose another name"
	case "owner":
		format += "open as that user, or let all who share it open with Group"
	case "group":
		format += "let this user join that group"
	}
	return fmt.Sprintf(format, e.Path, e.Err, e.Field, e.Got, e.Want)
}

// Unwrap returns Err.
func (e *AccessError) Unwrap() error { return e.Err }

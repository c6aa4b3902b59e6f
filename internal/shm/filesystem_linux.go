package shm

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/internal/step"
)

// fileSystem is what is known of a type of file system.
type fileSystem struct {
	name   string
	memory bool // its pages are memory that counts for who uses them first
	remote bool // others than this kernel may change what is in it
}

// fileSystems are the types known, by what statfs says.
var fileSystems = map[int64]fileSystem{
	unix.TMPFS_MAGIC: {name: "tmpfs", memory: true},
	unix.RAMFS_MAGIC: {name: "ramfs", memory: true},

	unix.EXT4_SUPER_MAGIC:      {name: "ext2, ext3 or ext4"},
	unix.XFS_SUPER_MAGIC:       {name: "xfs"},
	unix.BTRFS_SUPER_MAGIC:     {name: "btrfs"},
	unix.OVERLAYFS_SUPER_MAGIC: {name: "overlay"},
	unix.F2FS_SUPER_MAGIC:      {name: "f2fs"},
	0x2fc12fc1:                 {name: "zfs"},
	0xca451a4e:                 {name: "bcachefs"},
	0x3153464a:                 {name: "jfs"},

	unix.NFS_SUPER_MAGIC:  {name: "nfs", remote: true},
	unix.SMB_SUPER_MAGIC:  {name: "smb", remote: true},
	unix.SMB2_SUPER_MAGIC: {name: "smb2", remote: true},
	unix.CIFS_SUPER_MAGIC: {name: "cifs", remote: true},
	unix.CEPH_SUPER_MAGIC: {name: "ceph", remote: true},
	unix.AFS_SUPER_MAGIC:  {name: "afs", remote: true},
	unix.AFS_FS_MAGIC:     {name: "afs", remote: true},
	unix.V9FS_MAGIC:       {name: "9p", remote: true},
	unix.CODA_SUPER_MAGIC: {name: "coda", remote: true},
	unix.FUSE_SUPER_MAGIC: {name: "fuse or virtiofs", remote: true},
	0x564c:                {name: "ncp", remote: true},
	0x01161970:            {name: "gfs2", remote: true},
	0x7461636f:            {name: "ocfs2", remote: true},
	0x0bd00bd0:            {name: "lustre", remote: true},
	0x47504653:            {name: "gpfs", remote: true},
	0x19830326:            {name: "beegfs", remote: true},
	0x20030528:            {name: "orangefs", remote: true},
	0xaad7aaea:            {name: "panfs", remote: true},
	0x786f4256:            {name: "vboxsf", remote: true},
	0xbacbacbc:            {name: "vmhgfs", remote: true},
}

// CheckFileSystem returns ErrFileSystem if f is on a network's file system or one in
// user space: mappings and locks of several hosts, or of host and guest, do not agree
// there. Known is false for a type that is to be tried out.
func CheckFileSystem(f *os.File) (known bool, err error) {
	var fs unix.Statfs_t
	if err := statfs(f, &fs); err != nil {
		return false, err
	}
	kind := uint32(fs.Type) // of which some are negative in 32 bits
	is, known := fileSystems[int64(kind)]
	if is.remote {
		return true, fmt.Errorf("%s: %w: one of this host's memory or disks is needed, here is %s (type %#x), where others may change what is mapped; use a tmpfs such as /dev/shm",
			f.Name(), ErrFileSystem, is.name, kind)
	}
	return known, nil
}

// CheckMapping returns ErrFileSystem unless what is stored through a mapping of the
// first is seen through one of the second, another description of the same file. The
// file is empty before and after.
func CheckMapping(first, second *os.File) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w: shared mappings are needed, here they do not work; use a tmpfs such as /dev/shm: %w", first.Name(), ErrFileSystem, err)
		}
	}()
	step.Here()
	if err := first.Truncate(layout.PageSize); err != nil {
		return err
	}
	a, err := Map(first, layout.PageSize)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := Map(second, layout.PageSize)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := agree(a, b); err != nil {
		return err
	}
	step.Here()
	return first.Truncate(0)
}

// agree stores into one segment and loads from the other.
func agree(a, b *Segment) (err error) {
	defer a.Catch(Guard(), &err)
	const mark = "flagstone"
	a.Window().Write(0, []byte(mark))
	if got := b.Window().Append(nil, 0, uint64(len(mark))); string(got) != mark {
		return fmt.Errorf("%q was stored, %q is seen", mark, got)
	}
	return nil
}

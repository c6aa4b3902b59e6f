package vectors

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

// BootID is what stands in the images for the boot id of the machine that they are
// placed on; any other stays.
var BootID = [16]byte{'t', 'h', 'i', 's', ' ', 'b', 'o', 'o', 't', ' ', 'i', 's', ' ', 'n', 'o', 'w'}

// Place writes the image as the files of domain name in dir.
func (v *Vector) Place(dir, name string) error { return PlaceFiles(v.Files, dir, name) }

// PlaceFiles writes files of a version directory as a domain's.
func PlaceFiles(files []File, dir, name string) error {
	to := filepath.Join(dir, name+".flagstone", fmt.Sprintf("v%d", layout.Major))
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	for _, f := range files {
		b := f.Bytes
		if f.Name == "control" {
			b = patch(b, boot)
		}
		if err := os.WriteFile(filepath.Join(to, f.Name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// patch puts the boot id into a control segment's header; a checksum that was right is
// right again.
func patch(control, boot []byte) []byte {
	const at, sum = layout.OffsetControlHeaderBootID, layout.OffsetControlHeaderChecksum
	out := append([]byte(nil), control...)
	if len(out) < sum+8 || string(out[at:at+16]) != string(BootID[:]) {
		return out
	}
	right := binary.LittleEndian.Uint64(out[sum:]) == xxh3.Hash(out[:sum])
	copy(out[at:], boot)
	if right {
		binary.LittleEndian.PutUint64(out[sum:], xxh3.Hash(out[:sum]))
	}
	return out
}

// bootID returns the 16 bytes of the running kernel's boot id.
func bootID() ([]byte, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, err
	}
	return hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", ""))
}

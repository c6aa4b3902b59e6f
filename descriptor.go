package flagstone

import (
	"context"
	"fmt"
	"hash/crc32"
	"net/url"
	"strconv"
	"strings"

	"github.com/flagstone-shm/flagstone/internal/layout"
	"github.com/flagstone-shm/flagstone/table"
)

// Descriptor names one slab, for an application that hands it on to other processes of
// the host in messages of its own. It is a value, of which a text can be made.
type Descriptor struct {
	Domain     [2]uint64 // uuid
	SlabID     uint64    // segment id
	Entry      int       // in the domain's directory
	Generation uint32    // of the entry, which other slabs may use later
	Size       uint64    // of the slab's file in bytes
	Name       string
}

// Descriptor returns the slab's.
func (s *Slab) Descriptor() Descriptor {
	e := s.entry
	return Descriptor{s.cache.table.UUID(), e.SegmentID, e.Index, e.Generation, e.Size, e.Name}
}

// OpenDescriptor opens exactly the slab that the descriptor names, as OpenSlab does; of
// a tier of this cache it returns what Tiers has. It returns ErrForeign for a slab of
// another domain, ErrRetired for one that is gone, also if its place in the directory is
// another's by now, ErrOptions for a descriptor that contradicts the directory, and
// else what OpenSlab does.
func (c *Cache) OpenDescriptor(ctx context.Context, d Descriptor) (*Slab, error) {
	s, err := c.openDescriptor(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("open slab %q, %016x, in %s: %w", d.Name, d.SlabID, c.table.Name(), err)
	}
	return s, nil
}

func (c *Cache) openDescriptor(ctx context.Context, d Descriptor) (*Slab, error) {
	err := ctx.Err()
	if err == nil {
		err = c.table.Usable()
	}
	switch {
	case err != nil:
		return nil, err
	case d.Domain != c.table.UUID():
		return nil, fmt.Errorf("%w: %016x%016x, this one is %016x%016x", ErrForeign, d.Domain[0], d.Domain[1], c.table.UUID()[0], c.table.UUID()[1])
	}
	var e, top table.Entry
	all := c.table.Entries()
	for _, other := range all {
		if other.Index == d.Entry && other.SegmentID == d.SlabID && other.Generation == d.Generation && other.State.Published() {
			e = other
		}
	}
	for _, other := range all {
		if isTop(&other) && other.SegmentID == e.Stack {
			top = other
		}
	}
	switch {
	case e.SegmentID == 0 || top.SegmentID == 0:
		return nil, fmt.Errorf("%w: entry %d, generation %d", ErrRetired, d.Entry, d.Generation)
	case e.Kind != table.KindSlab || e.Size != d.Size || e.Name != d.Name:
		return nil, fmt.Errorf("%w: entry %d is slab %q of %d bytes, not %q of %d", ErrOptions, d.Entry, e.Name, e.Size, d.Name, d.Size)
	}
	return c.openSlab(e, top)
}

// The text of a descriptor is one line:
//
//	flagstone:1/DOMAIN/SLAB/ENTRY/GENERATION/SIZE/NAME/SUM
//
// with uuid, segment id and sum, the CRC-32C of all before it, in hexadecimal digits,
// the others decimal, and the name as in a URL's path.
const descriptorPrefix = "flagstone:1/"

var descriptorSum = crc32.MakeTable(crc32.Castagnoli)

// MarshalText returns the descriptor as one line of printable ASCII, without a newline.
func (d Descriptor) MarshalText() ([]byte, error) {
	b := fmt.Appendf(nil, "%s%016x%016x/%016x/%d/%d/%d/%s/", descriptorPrefix,
		d.Domain[0], d.Domain[1], d.SlabID, d.Entry, d.Generation, d.Size, url.PathEscape(d.Name))
	return fmt.Appendf(b, "%08x", crc32.Checksum(b, descriptorSum)), nil
}

// UnmarshalText is the inverse of MarshalText, and accepts nothing else: ErrDescriptor
// names the field that is wrong.
func (d *Descriptor) UnmarshalText(text []byte) error {
	const longest = 512
	if len(text) > longest {
		return fmt.Errorf("%w: length %d, the limit is %d", ErrDescriptor, len(text), longest)
	}
	rest, ok := strings.CutPrefix(string(text), descriptorPrefix)
	if !ok {
		return fmt.Errorf("%w: version: need it to begin with %q", ErrDescriptor, descriptorPrefix)
	}
	fields := strings.Split(rest, "/")
	if len(fields) != 7 {
		return fmt.Errorf("%w: %d fields, need 7", ErrDescriptor, len(fields))
	}
	var parsed Descriptor
	var domain [2]string
	if uuid := fields[0]; len(uuid) == 32 {
		domain = [2]string{uuid[:16], uuid[16:]}
	}
	var entry, generation, sum uint64
	for _, f := range []struct {
		name, text string
		base, bits int
		to         *uint64
	}{
		{"domain", domain[0], 16, 64, &parsed.Domain[0]},
		{"domain", domain[1], 16, 64, &parsed.Domain[1]},
		{"slab", fields[1], 16, 64, &parsed.SlabID},
		{"entry", fields[2], 10, 31, &entry},
		{"generation", fields[3], 10, 32, &generation},
		{"size", fields[4], 10, 64, &parsed.Size},
		{"sum", fields[6], 16, 32, &sum},
	} {
		var err error
		if *f.to, err = strconv.ParseUint(f.text, f.base, f.bits); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrDescriptor, f.name, err)
		}
	}
	parsed.Entry, parsed.Generation = int(entry), uint32(generation)
	var err error
	if parsed.Name, err = url.PathUnescape(fields[5]); err != nil {
		return fmt.Errorf("%w: name: %w", ErrDescriptor, err)
	}
	if len(parsed.Name) > layout.NameLength {
		return fmt.Errorf("%w: name: %d bytes, the limit is %d", ErrDescriptor, len(parsed.Name), layout.NameLength)
	}
	if same, _ := parsed.MarshalText(); string(same) != string(text) { // which has no other way to be written
		return fmt.Errorf("%w: sum: %08x is not that of what is before it", ErrDescriptor, sum)
	}
	*d = parsed
	return nil
}

package table

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/flagstone-shm/flagstone/internal/shm"
)

// Reader is a handle that only looks: it has no region, is seen by nobody, and
// maps everything for reading, so that it cannot write. It is for exporters and
// inspection. All methods may be called concurrently.
type Reader struct {
	reading
	closed func() error
}

// Inspect opens a domain for reading; of the options Dir, Name and Group count. It
// waits for nobody: ErrNotFound also says that the domain is still being made, or
// being destroyed. Else its errors are those of Open.
func Inspect(o Options) (*Reader, error) {
	if err := checkName(o.Name); err != nil {
		return nil, err
	}
	r, err := inspect(orDefaultDir(o.Dir), o)
	return r, wrap(err, "inspect domain %s in %s", o.Name, orDefaultDir(o.Dir))
}

func inspect(dir string, o Options) (_ *Reader, err error) {
	d := domain{name: o.Name, version: versionDir, group: o.Group, readOnly: true}
	defer func() {
		d.base.Close()
		d.parent.Close()
		if err != nil {
			d.dir.Close()
			d.control.Close()
		}
	}()
	if d.base, err = openBase(dir); err == nil {
		err = d.open(false)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	if _, err := shm.CheckFileSystem(d.control); err != nil {
		return nil, err
	}
	todo, err := d.look()
	if err == nil && todo != nothing {
		err = fmt.Errorf("%s is being made or destroyed: %w", d.control.Name(), ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	r := &Reader{}
	if err := r.attach(&d); errors.Is(err, errMoved) {
		return nil, fmt.Errorf("%w: %w", ErrNotFound, err)
	} else if err != nil {
		return nil, err
	}
	r.closed = sync.OnceValue(func() error {
		r.shut()
		return r.detach()
	})
	return r, nil
}

// Close gives mapping and files back. Calls under way are finished first. Further
// calls return the same. In a forked child it is Table.Close.
func (r *Reader) Close() error {
	if shm.Forked() {
		return r.letGo()
	}
	return r.closed()
}

// Attach maps the segment of a published entry for reading. Nobody sees that it is
// mapped; if it is retired it stays readable here. Errors are those of Table.Attach.
func (r *Reader) Attach(e Entry) (seg *shm.Segment, err error) {
	err = r.useLive(func() error {
		seg, err = r.mapPublished(e)
		return err
	})
	return seg, wrap(err, "attach segment %016x of entry %d", e.SegmentID, e.Index)
}

// Watch is Table.Watch, but nobody rings: it looks every 0.2 s.
func (r *Reader) Watch(ctx context.Context) <-chan Event { return r.watch(ctx, nil, func() {}) }

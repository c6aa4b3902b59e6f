package demo

import (
	"context"
	"fmt"

	"github.com/zeebo/xxh3"
)

// blockSize is what the second act cuts source text into, in bytes.
const blockSize = 4 << 10

// block is a record of the second act: a piece of a package's source text.
type block struct {
	key   string
	value []byte
}

// blocks cuts the packages' source text into blocks, in order, up to so many.
func (t tree) blocks(ctx context.Context, paths []string, most int) (out []block, err error) {
	for _, path := range paths {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		text, err := t.text(path)
		if err != nil {
			return nil, err
		}
		for n := 0; n*blockSize < len(text); n++ {
			if len(out) == most {
				return out, nil
			}
			out = append(out, block{fmt.Sprintf("%s%s#%d", textKey, path, n), text[n*blockSize : min((n+1)*blockSize, len(text))]})
		}
	}
	return out, nil
}

// digest is a block as readers know it.
type digest struct {
	key []byte
	sum uint64
}

func digests(all []block) (out []digest) {
	for _, b := range all {
		out = append(out, digest{[]byte(b.key), xxh3.Hash(b.value)})
	}
	return out
}

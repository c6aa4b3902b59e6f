package main

import (
	"context"
	stdhex "encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
)

// keyFlags say how KEY is to be read.
type keyFlags struct{ hash, hex bool }

func (f *keyFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.hash, "hash", false, "KEY is the application's own 64-bit hash, decimal or 0x...")
	cmd.Flags().BoolVar(&f.hex, "hex", false, "KEY is in hexadecimal, for keys that are not text")
	cmd.MarkFlagsMutuallyExclusive("hash", "hex")
}

// key is a key, or an application's hash in the place of one.
type key struct {
	bytes  []byte
	hash   uint64
	byHash bool
}

func (f keyFlags) parse(text string) (k key, err error) {
	switch {
	case f.hash:
		k.byHash = true
		k.hash, err = strconv.ParseUint(text, 0, 64)
	case f.hex:
		k.bytes, err = stdhex.DecodeString(text)
	default:
		k.bytes = []byte(text)
	}
	if err != nil {
		return k, usage{fmt.Errorf("key %q: %w", text, err)}
	}
	return k, nil
}

func (k key) String() string {
	if k.byHash {
		return fmt.Sprintf("hash 0x%016x", k.hash)
	}
	return fmt.Sprintf("key %q", k.bytes)
}

func (k key) get(c *flagstone.Cache) ([]byte, bool, error) {
	if k.byHash {
		return c.GetHash(nil, k.hash)
	}
	return c.Get(nil, k.bytes)
}

func (k key) set(ctx context.Context, c *flagstone.Cache, value []byte, ttl time.Duration) error {
	if k.byHash {
		return c.SetHash(ctx, k.hash, value, ttl)
	}
	return c.Set(ctx, k.bytes, value, ttl)
}

func (k key) del(ctx context.Context, c *flagstone.Cache) (bool, error) {
	if k.byHash {
		return c.DeleteHash(ctx, k.hash)
	}
	return c.Delete(ctx, k.bytes)
}

// keyJSON is a key: bytes, or the application's hash.
type keyJSON struct {
	Key  *blob `json:"key,omitempty"`
	Hash *hex  `json:"hash,omitempty"`
}

func (k key) json() keyJSON {
	if k.byHash {
		h := hex(k.hash)
		return keyJSON{Hash: &h}
	}
	return keyJSON{Key: newBlob(k.bytes)}
}

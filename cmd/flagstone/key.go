package main

import (
	"context"
	stdhex "encoding/hex"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
)

// keyFlags say how KEY is to be read, and where the key is.
type keyFlags struct {
	hash, hex bool
	namespace string
}

func (f *keyFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.hex, "hex", false, "KEY is in hexadecimal, for keys that are not text")
	addNamespace(cmd, &f.namespace)
}

// addHash is for commands that work on applications' hashes too.
func (f *keyFlags) addHash(cmd *cobra.Command) {
	f.add(cmd)
	cmd.Flags().BoolVar(&f.hash, "hash", false, "KEY is the application's own 64-bit hash, decimal or 0x...")
	cmd.MarkFlagsMutuallyExclusive("hash", "hex")
	cmd.MarkFlagsMutuallyExclusive("hash", "namespace")
}

func addNamespace(cmd *cobra.Command, namespace *string) {
	cmd.Flags().StringVar(namespace, "namespace", "", "the keys of this namespace")
}

// keyspace is what a cache and a namespace have in common.
type keyspace interface {
	Get(dst, key []byte) ([]byte, bool, error)
	SetItem(ctx context.Context, key []byte, it flagstone.Item) (flagstone.Token, error)
	SetIfAbsent(ctx context.Context, key, value []byte, ttl time.Duration) (bool, error)
	Increment(ctx context.Context, key []byte, delta, initial int64, ttl time.Duration) (int64, error)
	TTL(key []byte) (time.Duration, bool, error)
	Touch(ctx context.Context, key []byte, ttl time.Duration) (bool, error)
	Delete(ctx context.Context, key []byte) (bool, error)
	All(ctx context.Context) iter.Seq2[flagstone.Record, error]
	Tagged(ctx context.Context, tag uint32) iter.Seq2[flagstone.Record, error]
}

// in returns the cache, or its namespace of that name.
func in(c *flagstone.Cache, namespace string) keyspace {
	if namespace == "" {
		return c
	}
	return c.Namespace(namespace)
}

// key is a key, or an application's hash in the place of one.
type key struct {
	bytes     []byte
	namespace string
	hash      uint64
	byHash    bool
}

func (f keyFlags) parse(text string) (k key, err error) {
	k.namespace = f.namespace
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
	switch {
	case k.byHash:
		return fmt.Sprintf("hash 0x%016x", k.hash)
	case k.namespace != "":
		return fmt.Sprintf("key %q of namespace %q", k.bytes, k.namespace)
	}
	return fmt.Sprintf("key %q", k.bytes)
}

func (k key) get(c *flagstone.Cache) ([]byte, bool, error) {
	if k.byHash {
		return c.GetHash(nil, k.hash)
	}
	return in(c, k.namespace).Get(nil, k.bytes)
}

func (k key) set(ctx context.Context, c *flagstone.Cache, it flagstone.Item) error {
	if k.byHash {
		return c.SetHash(ctx, k.hash, it.Value, it.TTL)
	}
	_, err := in(c, k.namespace).SetItem(ctx, k.bytes, it)
	return err
}

func (k key) del(ctx context.Context, c *flagstone.Cache) (bool, error) {
	if k.byHash {
		return c.DeleteHash(ctx, k.hash)
	}
	return in(c, k.namespace).Delete(ctx, k.bytes)
}

// keyJSON is a key: bytes, or the application's hash.
type keyJSON struct {
	Key       *blob  `json:"key,omitempty"`
	Hash      *hex   `json:"hash,omitempty"`
	Namespace string `json:"namespace,omitempty"`
}

func (k key) json() keyJSON {
	if k.byHash {
		h := hex(k.hash)
		return keyJSON{Hash: &h}
	}
	return keyJSON{Key: newBlob(k.bytes), Namespace: k.namespace}
}

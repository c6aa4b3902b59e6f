package flagstone

import (
	"context"
	"testing"
	"time"
)

func TestCache_OpenSetGetClose(t *testing.T) {
	ctx := context.Background()
	o := Options{Dir: t.TempDir(), Size: 1 << 20}
	a, err := Open(ctx, "c", o)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := Open(ctx, "c", Options{Dir: o.Dir})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := a.Set(ctx, []byte("k"), []byte("v"), time.Minute); err != nil {
		t.Fatal(err)
	}
	if v, ok, err := b.Get(nil, []byte("k")); string(v) != "v" || !ok || err != nil {
		t.Fatal(string(v), ok, err)
	}
	if err := Destroy(ctx, o.Dir, "c"); err != nil {
		t.Fatal(err)
	}
	_, _, err = b.Get(nil, []byte("x"))
	t.Log(err)
}

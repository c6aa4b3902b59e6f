package flagstone_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/flagstone-shm/flagstone"
)

// user is a value for JSON.
type user struct {
	Name   string
	Age    int
	Groups []string
	Scores map[string]float64
	Friend *user `json:",omitempty"`
}

// sample is a value for Binary that can append nothing, and marshals by pointer.
type sample struct{ x, y uint32 }

func (s *sample) MarshalBinary() ([]byte, error) { return fmt.Appendf(nil, "%d %d", s.x, s.y), nil }

func (s *sample) UnmarshalBinary(data []byte) error {
	_, err := fmt.Sscanf(string(data), "%d %d", &s.x, &s.y)
	return err
}

func users() *rapid.Generator[user] {
	return rapid.Custom(func(t *rapid.T) user {
		u := user{Name: rapid.String().Draw(t, "name"), Age: rapid.Int().Draw(t, "age")}
		if rapid.Bool().Draw(t, "full") {
			u.Groups = rapid.SliceOfN(rapid.String(), 0, 4).Draw(t, "groups")
			u.Scores = rapid.MapOfN(rapid.String(), rapid.Float64(), 0, 4).Draw(t, "scores")
			u.Friend = &user{Name: rapid.String().Draw(t, "friend")}
		}
		return u
	})
}

func addresses() *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		if rapid.Bool().Draw(t, "v4") {
			return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "bytes")))
		}
		a := netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "bytes")))
		return a.WithZone(rapid.StringMatching(`[a-z0-9]{0,5}`).Draw(t, "zone"))
	})
}

func samples() *rapid.Generator[sample] {
	return rapid.Custom(func(t *rapid.T) sample {
		return sample{rapid.Uint32().Draw(t, "x"), rapid.Uint32().Draw(t, "y")}
	})
}

func TestTyped_EveryCodec_AsAMap(t *testing.T) {
	type name string
	t.Run("JSON", func(t *testing.T) { typedAsMap(t, flagstone.JSON[user](), users()) })
	t.Run("string", func(t *testing.T) { typedAsMap(t, flagstone.Raw[string](), rapid.String()) })
	t.Run("name", func(t *testing.T) {
		typedAsMap(t, flagstone.Raw[name](), rapid.Custom(func(t *rapid.T) name { return name(rapid.String().Draw(t, "name")) }))
	})
	t.Run("bytes", func(t *testing.T) {
		typedAsMap(t, flagstone.Raw[[]byte](), rapid.SliceOfN(rapid.Byte(), 0, 2000))
	})
	t.Run("BinaryAppender", func(t *testing.T) { typedAsMap(t, flagstone.Binary[netip.Addr](), addresses()) })
	t.Run("BinaryMarshaler", func(t *testing.T) { typedAsMap(t, flagstone.Binary[sample](), samples()) })
}

// typedAsMap compares a Typed over a cache and one over a namespace of it, which
// have the same keys, with a map each.
func typedAsMap[T any](t *testing.T, codec flagstone.Codec[T], values *rapid.Generator[T]) {
	cache := open(t, flagstone.Options{Dir: t.TempDir(), Entries: 5000})
	stores := []flagstone.Store{cache, cache.Namespace("n")}
	keys := rapid.SampledFrom([]string{"", "a", "b", strings.Repeat("long", 100)})
	rapid.Check(t, func(t *rapid.T) {
		must(t, cache.Clear(ctx))
		models := make([]typedModel[T], len(stores))
		for i, s := range stores {
			models[i] = typedModel[T]{flagstone.NewTyped(s, codec), map[string]T{}, map[string]flagstone.Token{}}
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			key, v := keys.Draw(t, "key"), values.Draw(t, "value")
			mustKeepNothing(t, codec, v)
			models[rapid.IntRange(0, 1).Draw(t, "store")].step(t, key, v)
		}
	})
}

// mustKeepNothing checks that a codec keeps what it is given: dst, and nothing of data.
func mustKeepNothing[T any](t *rapid.T, codec flagstone.Codec[T], v T) {
	t.Helper()
	b, err := codec.Append([]byte("before"), v)
	must(t, err)
	data, found := strings.CutPrefix(string(b), "before")
	if !found {
		t.Fatalf("%q was appended to %q", b, "before")
	}
	reused := []byte(data)
	got, err := codec.Decode(reused)
	must(t, err)
	if string(reused) != data {
		t.Fatalf("Decode made %q of %q", reused, data)
	}
	clear(reused)
	same(t, got, v)
}

func same[T any](t tb, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

// typedModel is a Typed and what should be in it.
type typedModel[T any] struct {
	typed  *flagstone.Typed[T]
	values map[string]T
	tokens map[string]flagstone.Token // of some values
}

func (m *typedModel[T]) put(key string, v T, token flagstone.Token) {
	m.values[key] = v
	if delete(m.tokens, key); token != 0 {
		m.tokens[key] = token
	}
}

func (m *typedModel[T]) step(t *rapid.T, key string, v T) {
	old, there := m.values[key]
	ttl := rapid.SampledFrom([]time.Duration{flagstone.NoExpiry, time.Hour}).Draw(t, "ttl")
	switch op := rapid.IntRange(0, 9).Draw(t, "op"); op {
	case 0:
		must(t, m.typed.Set(ctx, key, v, ttl))
		m.put(key, v, 0)
	case 1:
		token, err := m.typed.SetItem(ctx, key, v, flagstone.Item{Value: []byte("not this"), TTL: ttl, Tag: 7})
		must(t, err)
		m.put(key, v, token)
	case 2:
		stored, err := m.typed.SetIfAbsent(ctx, key, v, ttl)
		must(t, err)
		if same(t, stored, !there); stored {
			m.put(key, v, 0)
		}
	case 3:
		want, known := m.tokens[key]
		token, stored, err := m.typed.CompareAndSwap(ctx, key, want, v, ttl)
		must(t, err)
		if same(t, stored, known); stored {
			m.put(key, v, token)
		}
	case 4:
		for _, look := range []func(string) (T, bool, error){m.typed.Get, m.typed.Peek} {
			got, ok, err := look(key)
			must(t, err)
			same(t, ok, there)
			same(t, got, old)
		}
	case 5:
		got, it, ok, err := m.typed.GetItem(key)
		must(t, err)
		same(t, ok, there)
		same(t, got, old)
		if token, known := m.tokens[key]; known {
			same(t, it.Token, token)
		}
		if there {
			m.put(key, old, it.Token)
		}
		same(t, it.Value, nil)
	case 6:
		got, err := m.typed.GetOrLoad(ctx, key, func(context.Context) (T, flagstone.Item, error) {
			if there {
				t.Fatalf("loaded %q, which is there", key)
			}
			return v, flagstone.Item{TTL: ttl}, nil
		})
		must(t, err)
		if !there {
			m.put(key, v, 0)
			old = v
		}
		same(t, got, old)
	case 7:
		found, err := m.typed.Touch(ctx, key, ttl)
		must(t, err)
		same(t, found, there)
		if left, ok, err := m.typed.TTL(key); err != nil || ok != there || there && (left == flagstone.NoExpiry) != (ttl == flagstone.NoExpiry) {
			t.Fatalf("touched for %v, TTL is %v, %v, %v", ttl, left, ok, err)
		}
	case 8:
		found, err := m.typed.Delete(ctx, key)
		must(t, err)
		same(t, found, there)
		delete(m.values, key)
		delete(m.tokens, key)
	case 9:
		all := map[string]T{}
		for r, err := range m.typed.All(ctx) {
			must(t, err)
			same(t, r.Item.Value, nil)
			all[r.Key] = r.Value
		}
		same(t, all, m.values)
	}
}

func TestTyped_StoredByAnother_ErrCodecAndNoMiss(t *testing.T) {
	cache := open(t, options(t.TempDir()))
	typed := flagstone.NewTyped(cache, flagstone.JSON[user]())
	must(t, cache.Set(ctx, []byte("foreign"), []byte(`{"Name":"x","Age":"old"}`), 0))
	must(t, typed.Set(ctx, "own", user{Name: "me"}, 0))
	must(t, cache.SetHash(ctx, 1, []byte("by hash"), 0))

	refuses := func(v user, ok bool, err error) {
		t.Helper()
		mustFail(t, err, flagstone.ErrCodec)
		mustName(t, err, "foreign", "user")
		if cause := new(json.UnmarshalTypeError); !errors.As(err, &cause) {
			t.Errorf("%v does not wrap the codec's error", err)
		}
		if ok {
			t.Error("ok beside an error")
		}
		same(t, v, user{})
	}
	refuses(typed.Get("foreign"))
	v, _, ok, err := typed.GetItem("foreign")
	refuses(v, ok, err)
	v, err = typed.GetOrLoad(ctx, "foreign", func(context.Context) (user, flagstone.Item, error) {
		t.Error("loaded what is there")
		return user{}, flagstone.Item{}, nil
	})
	refuses(v, false, err)

	found := map[string]user{}
	for r, err := range typed.All(ctx) {
		if found[r.Key] = r.Value; r.Key == "foreign" {
			refuses(r.Value, false, err)
		} else {
			must(t, err)
		}
	}
	same(t, found, map[string]user{"foreign": {}, "own": {Name: "me"}})
}

func TestTyped_ValueRefused_ErrCodecAndNothingChanged(t *testing.T) {
	cache := open(t, options(t.TempDir()))
	typed := flagstone.NewTyped(cache.Namespace("n"), flagstone.JSON[float64]())
	token, err := typed.SetItem(ctx, "key", 1, flagstone.Item{})
	must(t, err)
	nan := math.NaN()
	load := func(context.Context) (float64, flagstone.Item, error) { return nan, flagstone.Item{}, nil }

	errs := []error{typed.Set(ctx, "key", nan, 0)}
	_, err = typed.SetItem(ctx, "key", nan, flagstone.Item{})
	errs = append(errs, err)
	_, err = typed.SetIfAbsent(ctx, "other key", nan, 0)
	errs = append(errs, err)
	_, _, err = typed.CompareAndSwap(ctx, "key", token, nan, 0)
	errs = append(errs, err)
	_, err = typed.GetOrLoad(ctx, "other key", load)
	errs = append(errs, err)
	for _, err := range errs {
		mustFail(t, err, flagstone.ErrCodec)
		mustName(t, err, "key", "NaN")
	}
	var all []float64
	for r, err := range typed.All(ctx) {
		must(t, err)
		all = append(all, r.Value)
	}
	same(t, all, []float64{1})
}

func TestTyped_LoadFails_ItsErrorAndNegativeTTL(t *testing.T) {
	cache := open(t, options(t.TempDir()))
	typed := flagstone.NewTyped(cache, flagstone.Raw[string]())
	gone, loads := errors.New("no such row"), 0
	load := func(context.Context) (string, flagstone.Item, error) {
		loads++
		return "not this", flagstone.Item{NegativeTTL: time.Hour}, gone
	}
	_, err := typed.GetOrLoad(ctx, "key", load)
	mustFail(t, err, gone)
	_, err = typed.GetOrLoad(ctx, "key", load)
	mustFail(t, err, flagstone.ErrLoad)
	mustName(t, err, gone.Error())
	same(t, loads, 1)
}

func TestTyped_All_StopsAndPassesErrorsOn(t *testing.T) {
	cache := open(t, options(t.TempDir()))
	typed := flagstone.NewTyped(cache, flagstone.Raw[string]())
	for i := range 3 {
		must(t, typed.Set(ctx, fmt.Sprint(i), "", 0))
	}
	next, stop := iter.Pull2(typed.All(ctx))
	if _, err, ok := next(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	stop()
	must(t, cache.Close())
	for r, err := range typed.All(ctx) {
		mustFail(t, err, flagstone.ErrClosed)
		same(t, r, flagstone.TypedRecord[string]{})
	}
}

func TestTyped_ManyGoroutines_EachItsOwnRoom(t *testing.T) {
	cache := open(t, options(t.TempDir()))
	typed := flagstone.NewTyped(cache, flagstone.Raw[string]())
	var wg sync.WaitGroup
	var loads atomic.Int32
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				key, want := fmt.Sprint("key", g), strings.Repeat(fmt.Sprint(g, ","), 1+i%50)
				if err := typed.Set(ctx, key, want, 0); err != nil {
					t.Error(err)
				}
				if got, ok, err := typed.Get(key); got != want || !ok || err != nil {
					t.Errorf("%s is %.40q, %v, %v, want %.40q", key, got, ok, err, want)
				}
				got, err := typed.GetOrLoad(ctx, fmt.Sprint("shared", i), func(context.Context) (string, flagstone.Item, error) {
					loads.Add(1)
					return fmt.Sprint("value", i), flagstone.Item{}, nil
				})
				if got != fmt.Sprint("value", i) || err != nil {
					t.Errorf("loaded %.40q, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
	same(t, loads.Load(), 200)
	n, err := cache.Len()
	must(t, err)
	same(t, n, 208)
}

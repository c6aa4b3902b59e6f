package demo

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestSummary_Package_SaysWhatIsExported(t *testing.T) {
	tree := newTree(goTree(t, 3, 0))
	got, err := tree.summary("p0")
	if err != nil {
		t.Fatal(err)
	}
	want := "package p0 p0\n" +
		"doc Package p0 is number 0.\n" +
		"import vendor/example.org/v\n" +
		"\n" +
		"func F\tF does nothing.\n" +
		"type T\tT is a type.\n" +
		"method T M\tM is its method.\n"
	if string(got) != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	again, err := tree.summary("p0")
	if err != nil || !bytes.Equal(got, again) {
		t.Errorf("the second time %q, %v", again, err)
	}
}

func TestSummary_NoSuchPackage_Error(t *testing.T) {
	tree := newTree(goTree(t, 1, 0))
	if s, err := tree.summary("nowhere"); err == nil {
		t.Errorf("got %q", s)
	}
}

func TestWalk_AnyOrder_TransitiveAndSameDigest(t *testing.T) {
	tree := newTree(goTree(t, 12, 0))
	all, err := tree.catalogue()
	if err != nil {
		t.Fatal(err)
	}
	closure := map[string]bool{}
	all.closure("p11", closure)
	if len(closure) < 8 || !closure["vendor/example.org/v"] {
		t.Fatalf("p11 needs %v", closure)
	}
	var digests, orders []string
	for seed := range uint64(4) {
		var visited []string
		paths, digest, err := walk("p11", rand.New(rand.NewPCG(seed, 0)), func(path string) ([]byte, error) {
			visited = append(visited, path)
			return tree.summary(path)
		})
		if err != nil {
			t.Fatal(err)
		}
		orders = append(orders, slices.Concat(visited)[1]+visited[2]+visited[3])
		slices.Sort(visited)
		if len(visited) != len(closure) || !slices.Equal(visited, paths) {
			t.Errorf("seed %d: visited %v, said %v, want %d", seed, visited, paths, len(closure))
		}
		for _, path := range visited {
			if !closure[path] {
				t.Errorf("seed %d: %s is not needed", seed, path)
			}
		}
		digests = append(digests, digest)
	}
	if len(slices.Compact(digests)) != 1 {
		t.Errorf("digests %v", digests)
	}
	if len(slices.Compact(orders)) == 1 {
		t.Error("all walks began alike")
	}
}

func TestWalk_OtherSummary_OtherDigest(t *testing.T) {
	order := func() *rand.Rand { return rand.New(rand.NewPCG(1, 1)) }
	_, a, _ := walk("p", order(), func(string) ([]byte, error) { return []byte("one"), nil })
	_, b, _ := walk("p", order(), func(string) ([]byte, error) { return []byte("two"), nil })
	if a == b {
		t.Error("the digests are equal")
	}
}

func TestCatalogue_Tree_PackagesOnly(t *testing.T) {
	goroot := goTree(t, 2, 0)
	linked := t.TempDir() // as Debian has it
	if err := os.Symlink(filepath.Join(goroot, "src"), filepath.Join(linked, "src")); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{goroot, linked} {
		all, err := newTree(root).catalogue()
		if want := []string{"p0", "p1", "vendor/example.org/v"}; err != nil || !slices.Equal(all.paths(), want) {
			t.Errorf("%s: %v, %v; want %v", root, all.paths(), err, want)
		}
	}
}

func TestText_Package_AllFiles(t *testing.T) {
	goroot := goTree(t, 1, 600)
	got, err := newTree(goroot).text("p0")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(goroot, "src/p0/p.go"))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d, %v", len(got), len(want), err)
	}
}

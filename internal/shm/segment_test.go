//go:build linux

package shm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone/internal/layout"
)

const fileVariable = "FLAGSTONE_TEST_FILE"

// The child adds up a word until its parent has seen enough, and sleeps on a futex
// in between.
func TestMain(m *testing.M) {
	if path := os.Getenv(fileVariable); path != "" {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			panic(err)
		}
		s, err := Map(f, 4096)
		if err != nil {
			panic(err)
		}
		word, bell := At[layout.Uint64](s.Window(), 0), At[layout.Uint32](s.Window(), 64)
		fmt.Println("ready")
		for {
			seen := bell.Load()
			if seen == 2 {
				fmt.Println(word.Add(1))
				os.Exit(0)
			}
			if seen == 1 {
				word.Add(100)
				bell.Store(0)
				_ = FutexWake(bell, 1)
			}
			if err := FutexWait(bell, 0, time.Second); err != nil {
				panic(err)
			}
		}
	}
	os.Exit(m.Run())
}

func openDir(t *testing.T, path string) *os.File {
	t.Helper()
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

func create(t *testing.T, size uint64) (*Segment, *os.File) {
	t.Helper()
	s, f, err := Create(openDir(t, t.TempDir()), "segment", size, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return s, f
}

func TestProcesses_OneSegment_ShareWordsAndFutexes(t *testing.T) {
	s, f := create(t, 4096)
	defer s.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fileVariable+"="+f.Name())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	lines := bufio.NewScanner(out)
	lines.Scan()
	word, bell := At[layout.Uint64](s.Window(), 0), At[layout.Uint32](s.Window(), 64)
	word.Store(7)
	for range 50 {
		bell.Store(1)
		if err := FutexWake(bell, 1); err != nil {
			t.Fatal(err)
		}
		for bell.Load() == 1 {
			if err := FutexWait(bell, 1, time.Second); err != nil {
				t.Fatal(err)
			}
		}
	}
	bell.Store(2)
	_ = FutexWake(bell, 1)
	if !lines.Scan() || lines.Text() != "5008" {
		t.Fatal(lines.Text())
	}
}

func TestCreate_ThereAlready_RefusedAndUntouched(t *testing.T) {
	dir := openDir(t, t.TempDir())
	path := filepath.Join(dir.Name(), "segment")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Create(dir, "segment", 4096, 0o600); !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); string(b) != "precious" {
		t.Fatal(b, err)
	}
}

func TestCreate_MakesBlocksForAll(t *testing.T) {
	s, f := create(t, 1<<20)
	defer s.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Size != 1<<20 || st.Blocks*512 < 1<<20 || st.Mode&0o777 != 0o600 {
		t.Fatalf("%+v, %v", st, err)
	}
}

func blocks(t *testing.T, f *os.File) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks
}

func TestRelease_Mapped_PagesGoAndZerosAreRead(t *testing.T) {
	for _, size := range []uint64{8, 4096, 3*4096 + 8, 1 << 20} {
		path, err := os.MkdirTemp("/dev/shm", "flagstone-release-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(path)
		s, f, err := Create(openDir(t, path), "x", size, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		defer f.Close()
		s.Bytes()[size-1] = 1
		if blocks(t, f) == 0 {
			t.Fatal("no pages to give back")
		}
		if err := Release(f, size); err != nil {
			t.Fatal(err)
		}
		if n := blocks(t, f); n != 0 {
			t.Fatalf("%d blocks of %d bytes left", n, size)
		}
		if s.Bytes()[size-1] != 0 {
			t.Fatal("the old byte is read")
		}
		if info, err := f.Stat(); err != nil || uint64(info.Size()) != size {
			t.Fatalf("size %d, %v, want %d", info.Size(), err, size)
		}
		if err := errors.Join(f.Truncate(0), Release(f, 0)); err != nil { // a file that somebody cut
			t.Fatal(err)
		}
	}
}

func TestRelease_ReadOnlyFile_ErrorNamesIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, []byte("12345678"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Release(f, 8); !errors.Is(err, unix.EBADF) || !strings.Contains(err.Error(), path) {
		t.Fatal(err)
	}
}

func TestOpen_NotARegularFile_Refused(t *testing.T) {
	dir := openDir(t, t.TempDir())
	at := func(name string) string { return filepath.Join(dir.Name(), name) }
	for _, err := range []error{
		os.WriteFile(at("file"), nil, 0o600), os.Symlink("file", at("link")), os.Symlink("nowhere", at("dangling")),
		os.Mkdir(at("dir"), 0o700), unix.Mkfifo(at("fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"link", "dangling", "dir", "fifo"} {
		for _, make := range []bool{false, true} {
			if _, err := OpenFile(dir, name, make, 0o600); !errors.Is(err, ErrUnsafeFile) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s, create %v: %v", name, make, err)
			}
		}
	}
	if _, err := os.Lstat(at("nowhere")); err == nil {
		t.Error("a link was followed and its target made")
	}
	if _, err := OpenFile(dir, "none", false, 0o600); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	f, err := OpenFile(dir, "file", false, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestMap_AbsurdSizes_Refused(t *testing.T) {
	_, f := create(t, 4096)
	for _, size := range []uint64{0, 7, 4095, 1 << 63, 1<<64 - 8} {
		if _, err := Map(f, size); err == nil {
			t.Errorf("%d bytes were mapped", size)
		}
	}
}

// A full file system says so before anything is visible.
func TestCreate_NoRoom_ErrNoSpaceAndNothingLeft(t *testing.T) {
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("cannot mount a small file system:", err)
	}
	defer func() { _ = unix.Unmount(mount, unix.MNT_DETACH) }()
	dir, err := os.Open(mount)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, size := range []uint64{2 << 20, 1 << 40} {
		_, _, err := Create(dir, "segment", size, 0o600)
		if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), fmt.Sprint(size, " bytes needed")) {
			t.Errorf("%d bytes: %v", size, err)
		}
		if left, _ := os.ReadDir(mount); len(left) != 0 {
			t.Errorf("%v is left", left)
		}
	}
	s, f, err := Create(dir, "segment", 512<<10, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	s.Window().Zero(0, s.Window().Len()) // it was reserved: no fault
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFault_FileTruncated_ErrFaultAndProcessLives(t *testing.T) {
	s, f := create(t, 64<<10)
	defer s.Close()
	w := s.Window()
	w.Write(0, []byte("kept"))
	if err := f.Truncate(4096); err != nil {
		t.Fatal(err)
	}
	const gone = 8192
	for name, access := range map[string]func(){
		"load":   func() { At[layout.Uint64](w, gone).Load() },
		"store":  func() { At[layout.Uint64](w, gone).Store(1) },
		"add":    func() { At[layout.Uint32](w, gone).Add(1) },
		"CAS":    func() { At[layout.Uint64](w, gone).CompareAndSwap(0, 1) },
		"Append": func() { w.Append(nil, gone-5, 10_000) },
		"Equal":  func() { w.Equal(gone, make([]byte, 100)) },
		"Write":  func() { w.Write(gone, make([]byte, 100)) },
		"Zero":   func() { w.Zero(gone, 9000) },
		"Match":  func() { w.MatchTags(gone, 1) },
	} {
		err := guarded(s, access)
		if !errors.Is(err, ErrFault) || !strings.Contains(err.Error(), f.Name()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.Prefetch(gone)
	if !w.Equal(0, []byte("kept")) {
		t.Error("the rest is lost too")
	}
}

func TestClose_ReaderInside_SeesZeros(t *testing.T) {
	s, _ := create(t, 64<<10)
	w := s.Window()
	word := At[layout.Uint64](w, 4096)
	word.Store(5)
	inside, done := make(chan struct{}), make(chan error)
	go func() {
		first := true
		done <- guarded(s, func() {
			for word.Load() == 5 && len(w.Append(nil, 4096, 100)) == 100 {
				if first {
					close(inside)
					first = false
				}
			}
		})
	}()
	<-inside
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if word.Load() != 0 || !w.Equal(0, make([]byte, 64<<10)) {
		t.Error("not zeros")
	}
	err := guarded(s, func() { clear(s.Bytes()[:1]) })
	if writable := closedProtection&unix.PROT_WRITE != 0; writable != (err == nil) || !writable && !errors.Is(err, ErrFault) {
		t.Errorf("a write after Close: %v", err)
	}
}

func TestMapReadOnly_Store_FaultsLoadSeesOthers(t *testing.T) {
	dir := openDir(t, t.TempDir())
	s, f, err := Create(dir, "s", 4096, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	defer s.Close()
	file, err := OpenReadOnly(dir, "s")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Write([]byte{1}); err == nil {
		t.Error("written to")
	}
	looking, err := MapReadOnly(file, 4096)
	if err != nil {
		t.Fatal(err)
	}
	At[layout.Uint64](s.Window(), 8).Store(77)
	word := At[layout.Uint64](looking.Window(), 8)
	if word.Load() != 77 {
		t.Error("not seen")
	}
	if closedProtection&unix.PROT_WRITE == 0 { // not a race build
		if err := guarded(looking, func() { word.Store(1) }); !errors.Is(err, ErrFault) {
			t.Errorf("a store: %v", err)
		}
	}
	if err := looking.Close(); err != nil || word.Load() != 0 {
		t.Errorf("closed: %v, %d", err, word.Load())
	}
}

// mapped returns the line of /proc/self/maps for the address, if there is one.
func mapped(t *testing.T, base uintptr) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var from, to uintptr
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err == nil && base >= from && base < to {
			return line
		}
	}
	return ""
}

func TestSegment_Unreachable_MappingGoes(t *testing.T) {
	for _, closed := range []bool{false, true} {
		s, f := create(t, 1<<20)
		if line := mapped(t, uintptr(s.base)); !strings.Contains(line, f.Name()) {
			t.Fatalf("%q", line)
		}
		base := uintptr(s.base)
		if closed {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if line := mapped(t, base); line == "" || strings.Contains(line, f.Name()) {
				t.Fatalf("after Close: %q", line)
			}
		}
		runtime.KeepAlive(s)
		s = nil
		gone := false
		for deadline := time.Now().Add(20 * time.Second); !gone && time.Now().Before(deadline); {
			runtime.GC()
			gone = !strings.Contains(mapped(t, base), f.Name()) && (!closed || mapped(t, base) == "")
			runtime.Gosched()
		}
		if !gone {
			t.Fatalf("closed %v: still mapped: %q", closed, mapped(t, base))
		}
	}
}

// resident returns Rss of the mapping at the address in kB.
func resident(t *testing.T, base uintptr) (kB int) {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(b), fmt.Sprintf("%08x-", base))
	_, after, ok := strings.Cut(after, "Rss:")
	if _, err := fmt.Sscanf(after, "%d", &kB); err != nil || !found || !ok {
		t.Fatalf("no mapping at %#x: %v", base, err)
	}
	return kB
}

// broken by populating: a slab would count in the size of every process.
func TestMap_TouchesNoPage(t *testing.T) {
	s, f := create(t, 4<<20)
	defer s.Close()
	if kB := resident(t, uintptr(s.base)); kB != 0 {
		t.Errorf("Create: %d kB resident", kB)
	}
	s.Window().Zero(0, s.Window().Len())
	if kB := resident(t, uintptr(s.base)); kB < 4<<10 {
		t.Errorf("%d kB resident after all was written: this test has lost its point", kB)
	}
	again, err := Map(f, 4<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if kB := resident(t, uintptr(again.base)); kB != 0 {
		t.Errorf("Map: %d kB resident", kB)
	}
	if At[layout.Uint64](again.Window(), 0).Load() != 0 {
		t.Fatal("not zero")
	}
}

package flagstone_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/signal"
)

// Children are this test binary again, told by the environment in which directory
// the cache is. They obey lines on stdin, answer each with a line on stdout, and
// end when stdin does.
const dirVariable = "FLAGSTONE_TEST_DIR"

func TestMain(m *testing.M) {
	dir := os.Getenv(dirVariable)
	if dir == "" {
		os.Exit(m.Run())
	}
	serve(dir)
}

const (
	name     = "c"
	shards   = 4
	maxValue = 64 << 10
	patience = 60 * time.Second // bound of a wait that should be short
	never    = 24 * time.Hour   // a poll that does not come to the rescue
)

func options(dir string) flagstone.Options {
	return flagstone.Options{
		Dir: dir, Entries: 2000, Shards: shards, Regions: 16,
		Wake: signal.Options{Poll: never},
	}
}

// orders is a child's stdin.
var orders = bufio.NewScanner(os.Stdin)

// serve is a child's life.
func serve(dir string) {
	var c *flagstone.Cache
	for orders.Scan() {
		words := strings.Fields(orders.Text())
		answer, err := obey(&c, dir, words[0], append(words[1:], "", "", ""))
		if err != nil {
			answer = "error: " + strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		fmt.Println(answer)
	}
	if c != nil {
		c.Close()
	}
}

func obey(c **flagstone.Cache, dir, order string, arg []string) (answer string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n, _ := strconv.Atoi(arg[0])
	switch order {
	case "open": // answers its region
		o := options(dir)
		o.Regions = max(n, o.Regions*(1-n))
		if *c, err = flagstone.Open(ctx, name, o); err != nil {
			return "", err
		}
		return strconv.Itoa((*c).Table().Self()), nil
	case "lead":
		go (*c).Lead(context.Background())
		return "ok", nil
	case "set":
		return "ok", (*c).Set(ctx, []byte(arg[0]), []byte(arg[1]), 0)
	case "get":
		v, ok, err := (*c).Get(nil, []byte(arg[0]))
		return fmt.Sprint(ok, " ", string(v)), err
	case "count": // sets keys round and round, n or for ever, answering each number once it is set
		for i := 0; n == 0 || i < n; i++ {
			if err := (*c).Set(ctx, numbered(i), numberedValue(i), 0); err != nil {
				return "", err
			}
			fmt.Println(i)
		}
		return "done", nil
	case "increment": // the key, n times or for ever, answering each
		times, _ := strconv.Atoi(arg[1])
		for i := 1; times == 0 || i <= times; i++ {
			if _, err := (*c).Increment(ctx, []byte(arg[0]), 1, 0, 0); err != nil {
				return "", err
			}
			fmt.Println(i)
		}
		return "done", nil
	case "swap": // counts the key up n times by CompareAndSwap; the first who is there makes it
		times, _ := strconv.Atoi(arg[1])
		lost := 0
		if _, err := (*c).SetIfAbsent(ctx, []byte(arg[0]), []byte("0"), 0); err != nil {
			return "", err
		}
		for done := 0; done < times; {
			it, ok, err := (*c).GetItem(nil, []byte(arg[0]))
			if errors.Is(err, flagstone.ErrBusy) {
				continue
			}
			if err != nil || !ok {
				return fmt.Sprint("lost the key: ", ok), err
			}
			was, _ := strconv.Atoi(string(it.Value))
			_, stored, err := (*c).CompareAndSwap(ctx, []byte(arg[0]), it.Token, fmt.Append(nil, was+1), 0)
			if err != nil {
				return "", err
			}
			if stored {
				done++
			} else {
				lost++
			}
		}
		return fmt.Sprint("done ", lost), nil
	case "churn": // sets and deletes keys of its own, replaces n that stay, and rebuilds, for ever
		fmt.Println("ok")
		for i := 0; ; i++ {
			own := fmt.Append(nil, "own", os.Getpid(), i%300)
			err := (*c).Set(context.Background(), own, numberedValue(i), 0)
			if err == nil {
				err = (*c).Set(context.Background(), fmt.Append(nil, "stays", i%n), fmt.Append(nil, "stays", i%n), 0)
			}
			if err == nil {
				_, err = (*c).Delete(context.Background(), fmt.Append(nil, "own", os.Getpid(), (i+150)%300))
			}
			if err == nil && i%5 == 0 {
				err = (*c).Rebuild(context.Background())
			}
			if err != nil {
				return "", err
			}
		}
	case "write": // sets keys of its own for ever
		fmt.Println("ok")
		for i := 0; ; i++ {
			if err := (*c).Set(context.Background(), fmt.Append(nil, "own", os.Getpid(), i%100), []byte("new"), 0); err != nil {
				return "", err
			}
		}
	case "space": // what get and set are, and clear, in the namespace arg[0]
		n := (*c).Namespace(arg[0])
		switch arg[1] {
		case "set":
			return "ok", n.Set(ctx, []byte(arg[2]), []byte(arg[2]), 0)
		case "get":
			v, ok, err := n.Get(nil, []byte(arg[2]))
			return fmt.Sprint(ok, " ", string(v)), err
		}
		return "ok", n.Clear(ctx)
	case "hammer": // sets one key for ever, each value of one letter
		fmt.Println("ok")
		for i := 0; ; i++ {
			if err := (*c).Set(context.Background(), []byte(arg[0]), letters(i), 0); err != nil {
				return "", err
			}
		}
	case "raised": // waits until some region has raised the flag
		for {
			for _, r := range (*c).Table().Regions() {
				if r.Flags&uint32(n) != 0 {
					return "raised", nil
				}
			}
			select {
			case <-(*c).Table().C():
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
	case "exclude": // stays in Exclusive until it is killed
		return "", (*c).Table().Exclusive(ctx, func() error { fmt.Println("ok"); select {} })
	case "close":
		err := (*c).Close()
		*c = nil
		return "closed", err
	}
	return obeyMore(ctx, c, dir, order, arg)
}

// obeyMore is set where processes share a cache.
var obeyMore func(ctx context.Context, c **flagstone.Cache, dir, order string, arg []string) (answer string, err error)

// numbered is the key that the child sets as its i'th.
func numbered(i int) []byte { return fmt.Append(nil, "number", i%laps) }

const laps = 100

func numberedValue(i int) []byte { return bytes.Repeat(fmt.Append(nil, i, ";"), 1+i%40) }

// letters is a value that shows whether it is torn.
func letters(i int) []byte { return bytes.Repeat([]byte{byte('a' + i%26)}, maxValue-i%3*100) }

func whole(v []byte) bool { return len(v) > 0 && len(bytes.Trim(v, string(v[:1]))) == 0 }

// child is a process that serves.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  *bufio.Scanner
	region int
}

// prepare is set where children can be given more than a directory.
var prepare = func(*exec.Cmd) {}

// start starts a child that has not opened the cache yet.
func start(t *testing.T, dir string) *child {
	t.Helper()
	c := prepared(t, dir)
	must(t, c.cmd.Start())
	t.Cleanup(c.kill)
	return c
}

// prepared is start before it starts it.
func prepared(t *testing.T, dir string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command("/proc/self/exe"), region: -1}
	c.cmd.Env = append(os.Environ(), dirVariable+"="+dir)
	c.cmd.Stderr = os.Stderr
	prepare(c.cmd)
	var err error
	c.stdin, err = c.cmd.StdinPipe()
	must(t, err)
	out, err := c.cmd.StdoutPipe()
	must(t, err)
	c.lines = bufio.NewScanner(out)
	return c
}

// opened starts a child that has opened the cache.
func opened(t *testing.T, dir string) *child {
	t.Helper()
	c := start(t, dir)
	c.open()
	return c
}

func (c *child) open() {
	c.t.Helper()
	answer := c.ask("open")
	var err error
	if c.region, err = strconv.Atoi(answer); err != nil {
		c.t.Fatalf("open: %s", answer)
	}
}

func (c *child) tell(order string, args ...any) {
	c.t.Helper()
	_, err := fmt.Fprintln(c.stdin, strings.TrimSpace(order+" "+fmt.Sprintln(args...)))
	must(c.t, err)
}

// hear returns the child's next line.
func (c *child) hear() string {
	c.t.Helper()
	watchdog := time.AfterFunc(2*patience, func() { _ = c.cmd.Process.Kill() })
	defer watchdog.Stop()
	if !c.lines.Scan() {
		c.t.Fatalf("child said nothing: %v", c.lines.Err())
	}
	return c.lines.Text()
}

func (c *child) ask(order string, args ...any) string {
	c.t.Helper()
	c.tell(order, args...)
	return c.hear()
}

// expect wants that answer.
func (c *child) expect(answer, order string, args ...any) {
	c.t.Helper()
	if got := c.ask(order, args...); got != answer {
		c.t.Fatalf("%s %v: %s, want %s", order, args, got, answer)
	}
}

// refused wants an answer that is that error.
func (c *child) refused(want error, order string, args ...any) {
	c.t.Helper()
	if got := c.ask(order, args...); !strings.HasPrefix(got, "error:") || !strings.Contains(got, want.Error()) {
		c.t.Fatalf("%s %v: %s, want %v", order, args, got, want)
	}
}

// kill ends it as a crash does, and waits until the kernel has let go of its locks.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// limited returns a context that ends if a test hangs.
func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// brief returns a context that ends soon.
func brief(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// open opens a cache and closes it with the test.
func open(t testing.TB, o flagstone.Options) *flagstone.Cache {
	t.Helper()
	c, err := flagstone.Open(limited(t), name, o)
	if errors.Is(err, flagstone.ErrUnsupported) {
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func must(t tb, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mustFail checks that err wraps all that it should.
func mustFail(t tb, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			t.Fatalf("got error %v, want %v", err, w)
		}
	}
}

// mustName checks that an error's text has all the words.
func mustName(t tb, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Fatalf("%q does not name %s", err, w)
		}
	}
}

func mustGet(t testing.TB, c *flagstone.Cache, key, want string) {
	t.Helper()
	if v, ok, err := c.Get(nil, []byte(key)); err != nil || !ok || string(v) != want {
		t.Fatalf("%s is %.80q, %v, %v, want %.80q", key, v, ok, err, want)
	}
}

func mustMiss(t testing.TB, c *flagstone.Cache, key string) {
	t.Helper()
	if v, ok, err := c.Get(nil, []byte(key)); err != nil || ok {
		t.Fatalf("%s is %.80q, %v, %v, want a miss", key, v, ok, err)
	}
}

// sound checks the cache.
func sound(t testing.TB, c *flagstone.Cache) {
	t.Helper()
	problems, err := c.Check(limited(t))
	must(t, err)
	if len(problems) > 0 {
		t.Fatal(strings.Join(problems, "\n"))
	}
}

// keyIn returns a key that belongs to the shard: the low bits of its hash say so.
func keyIn(c *flagstone.Cache, shard int) []byte {
	for i := 0; ; i++ {
		if k := fmt.Appendf(nil, "key-%d", i); int(c.HashOf(k)%shards) == shard {
			return k
		}
	}
}

// slabFile returns the path of the cache's only slab.
func slabFile(t testing.TB, dir string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, name+".flagstone", "v*", "slab-*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("slabs: %v, %v", found, err)
	}
	return found[0]
}

func controlFile(t testing.TB, dir string) string {
	t.Helper()
	return filepath.Join(filepath.Dir(slabFile(t, dir)), "control")
}

// eventually waits until a condition holds that another process or goroutine
// brings about.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// tb is what testing and rapid have in common.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// scan calls visit for every record until it returns false, and returns the error.
func scan(ctx context.Context, c *flagstone.Cache, visit func(flagstone.Record) bool) error {
	for r, err := range c.All(ctx) {
		if err != nil || !visit(r) {
			return err
		}
	}
	return nil
}

//go:build linux

// Command fragments is a web server of several processes on one port (SO_REUSEPORT)
// that puts its page together from fragments, each computed by one process for all.
// It starts four workers, this program again, asks them for the page from many
// connections at once, and counts how often each fragment was computed: once.
//
// It exits with status 0 only if that held.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flagstone-shm/flagstone"
)

const (
	workers  = 4
	visitors = 16
	visits   = 20 // by each
	domain   = "fragments"
)

// fragments are what the page consists of, in this order.
var fragments = []string{"head", "menu", "news", "offers", "foot"}

func main() {
	run := parent
	if len(os.Args) == 3 { // a worker is told the directory and where to listen
		run = serve
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "fragments:", err)
		os.Exit(1)
	}
}

// page is the handler of a worker.
type page struct{ cache *flagstone.Namespace }

func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body []byte
	var err error
	for _, name := range fragments {
		// Appends the fragment to the body. Where it is missing one worker computes it
		// and the others wait; where it has expired they take the old one meanwhile.
		if body, err = p.cache.AppendOrLoad(r.Context(), body, []byte(name), compute(name)); err != nil {
			http.Error(w, name+": "+err.Error(), http.StatusInternalServerError)
			return
		}
	}
	w.Header().Set("Worker", strconv.Itoa(os.Getpid()))
	_, _ = w.Write(body)
}

// compute returns what computes a fragment. It tells the parent each time.
func compute(name string) flagstone.Loader {
	return func(context.Context) (flagstone.Item, error) {
		fmt.Println(name)
		time.Sleep(20 * time.Millisecond) // a slow query
		html := fmt.Sprintf("<div id=%q>computed by process %d</div>\n", name, os.Getpid())
		return flagstone.Item{Value: []byte(html), TTL: time.Minute, StaleFor: time.Hour}, nil
	}
}

// serve is a worker: it prints where it listens, then each fragment that it
// computes, and ends with its stdin.
func serve(ctx context.Context) (err error) {
	cache, err := flagstone.Open(ctx, domain, flagstone.Options{Dir: os.Args[1], Size: 1 << 20})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cache.Close()) }()
	listener, err := (&net.ListenConfig{Control: reusePort}).Listen(ctx, "tcp", os.Args[2])
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	server := http.Server{Handler: &page{cache.Namespace("page:v1")}}
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		_ = listener.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return server.Shutdown(ctx)
}

// reusePort lets several processes listen on one port; the kernel deals
// connections out to them.
func reusePort(_, _ string, c syscall.RawConn) (err error) {
	control := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
	return errors.Join(control, err)
}

func parent(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "fragments-") // elsewhere /dev/shm, which is the default
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	defer func() { err = errors.Join(err, flagstone.Destroy(context.WithoutCancel(ctx), dir, domain)) }()

	// The first worker takes any port, the others the same.
	address, all := "127.0.0.1:0", []*worker{}
	for range workers {
		w, err := start(ctx, dir, address)
		if err != nil {
			return err
		}
		defer w.kill()
		address, all = w.address, append(all, w)
	}
	answers, err := visit(ctx, "http://"+address)
	if err != nil {
		return err
	}
	computed := map[string]int{}
	for i, w := range all {
		names, err := w.end()
		if err != nil {
			return err
		}
		fmt.Printf("worker %d answered %d requests and computed %q\n", i, answers[strconv.Itoa(w.cmd.Process.Pid)], names)
		for _, name := range names {
			computed[name]++
		}
	}
	for _, name := range fragments {
		fmt.Printf("%-6s computed %d times for %d pages\n", name, computed[name], visitors*visits)
		if computed[name] != 1 {
			err = errors.Join(err, fmt.Errorf("%s was computed %d times, want once", name, computed[name]))
		}
	}
	if len(answers) < 2 {
		err = errors.Join(err, fmt.Errorf("%d workers answered, want several", len(answers)))
	}
	return err
}

// visit asks for the page on many connections and returns how many requests each
// worker answered. All must be the same page.
func visit(ctx context.Context, url string) (map[string]int, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	results := make(chan result)
	for range visitors {
		go func() {
			for range visits {
				results <- ask(ctx, client, url)
			}
		}()
	}
	answers, bodies := map[string]int{}, map[string]bool{}
	var err error
	for range visitors * visits {
		r := <-results
		err = errors.Join(err, r.err)
		answers[r.worker]++
		bodies[r.body] = true
	}
	if err == nil && len(bodies) != 1 {
		err = fmt.Errorf("%d different pages", len(bodies))
	}
	return answers, err
}

// result is what a request brought.
type result struct {
	worker, body string
	err          error
}

func ask(ctx context.Context, client *http.Client, url string) result {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return result{err: err}
	}
	response, err := client.Do(r)
	if err != nil {
		return result{err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return result{response.Header.Get("Worker"), string(body), err}
}

// worker is a process that serves.
type worker struct {
	cmd     *exec.Cmd
	stdin   io.Closer
	lines   *bufio.Scanner
	address string
}

// start starts a worker and waits until it listens.
func start(ctx context.Context, dir, address string) (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &worker{cmd: exec.CommandContext(ctx, self, dir, address)}
	w.cmd.Stderr = os.Stderr
	if w.stdin, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.lines = bufio.NewScanner(out)
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	if !w.lines.Scan() {
		w.kill()
		return nil, errors.New("a worker did not start")
	}
	w.address = w.lines.Text()
	return w, nil
}

// end lets the worker end and returns the fragments that it computed.
func (w *worker) end() (computed []string, err error) {
	err = w.stdin.Close()
	for w.lines.Scan() {
		computed = append(computed, w.lines.Text())
	}
	return computed, errors.Join(err, w.lines.Err(), w.cmd.Wait())
}

func (w *worker) kill() { _ = w.cmd.Process.Kill() }

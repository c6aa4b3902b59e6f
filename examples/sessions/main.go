// Command sessions is a store of HTTP sessions that web servers on one host share,
// with sliding expiry. It starts two servers, this program again, logs in at one and
// goes on at the other, kills the first with SIGKILL, and sees the session live as
// long as it is used and end when it is not.
//
// It exits with status 0 only if all of that held.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"time"

	"github.com/flagstone-shm/flagstone"
)

const (
	idle   = 500 * time.Millisecond // half an hour elsewhere
	domain = "sessions"
)

func main() {
	run := client
	if len(os.Args) == 2 { // a server is told the directory
		run = serve
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "sessions:", err)
		os.Exit(1)
	}
}

// serve is a server. It prints where it listens and ends with its stdin.
func serve(ctx context.Context) error {
	cache, err := flagstone.Open(ctx, domain, flagstone.Options{Dir: os.Args[1], Size: 1 << 20})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, cache.Close())
	}
	fmt.Println(listener.Addr())
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		_ = listener.Close()
	}()
	if err := http.Serve(listener, handler(NewSessions(cache, idle))); !errors.Is(err, net.ErrClosed) {
		return errors.Join(err, cache.Close())
	}
	return cache.Close()
}

// answer writes the session, or what is wrong.
func answer(w http.ResponseWriter, s Session, err error) {
	switch {
	case errors.Is(err, ErrNoSession):
		http.Error(w, err.Error(), http.StatusUnauthorized)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		_ = json.NewEncoder(w).Encode(s)
	}
}

// server is a running one.
type server struct {
	url string
	cmd *exec.Cmd
}

func start(ctx context.Context, dir string) (s server, err error) {
	self, err := os.Executable()
	if err != nil {
		return s, err
	}
	s.cmd = exec.CommandContext(ctx, self, dir)
	s.cmd.Stderr = os.Stderr
	if _, err = s.cmd.StdinPipe(); err != nil { // which ends with this process
		return s, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return s, err
	}
	if err = s.cmd.Start(); err != nil {
		return s, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return s, errors.Join(fmt.Errorf("server did not start: %w", err), s.kill())
	}
	s.url = "http://" + line[:len(line)-1]
	return s, nil
}

func (s server) kill() error {
	err := s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	return err
}

// browser keeps cookies.
type browser struct{ http.Client }

var errNoSession = errors.New("the session has ended")

func (b *browser) get(ctx context.Context, s server, path string) (session Session, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return session, err
	}
	response, err := b.Do(r)
	if err != nil {
		return session, err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
		return session, json.NewDecoder(response.Body).Decode(&session)
	case http.StatusUnauthorized:
		return session, errNoSession
	}
	return session, fmt.Errorf("%s: %s", path, response.Status)
}

func client(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "sessions-") // elsewhere /dev/shm, which is the default
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	defer func() { err = errors.Join(err, flagstone.Destroy(context.WithoutCancel(ctx), dir, domain)) }()
	first, err := start(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { _ = first.kill() }()
	second, err := start(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { _ = second.kill() }()
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	b := &browser{http.Client{Jar: jar}}

	// A session begins at the first server and lasts a visit at both and a kill.
	// Should this machine be too slow for that, it has another try.
	for try := 1; ; try++ {
		began := time.Now()
		err := visitBoth(ctx, b, first, second)
		if err == nil {
			break
		}
		if !errors.Is(err, errNoSession) || time.Since(began) < idle/2 || try == 10 {
			return err
		}
	}
	if err := first.kill(); err != nil {
		return err
	}
	fmt.Println("the first server was killed")
	if err := slide(ctx, b, second); err != nil {
		return err
	}
	return expire(ctx, b, second)
}

func visitBoth(ctx context.Context, b *browser, first, second server) error {
	if _, err := b.get(ctx, first, "/login?user=alice"); err != nil {
		return err
	}
	fmt.Println("alice logged in at the first server")
	if _, err := b.get(ctx, first, "/visit"); err != nil {
		return err
	}
	session, err := b.get(ctx, second, "/visit")
	if err != nil {
		return err
	}
	if session != (Session{"alice", 2}) {
		return fmt.Errorf("the second server knows %+v, want the second visit of alice", session)
	}
	fmt.Printf("the second server knows %+v\n", session)
	return nil
}

// slide uses a session for much longer than it would last unused.
func slide(ctx context.Context, b *browser, s server) error {
	if _, err := b.get(ctx, s, "/login?user=bob"); err != nil {
		return err
	}
	began, last := time.Now(), time.Now()
	for time.Since(began) < 3*idle {
		asked := time.Now()
		_, err := b.get(ctx, s, "/who")
		switch {
		case errors.Is(err, errNoSession) && time.Since(last) > idle/2: // this machine was too slow
			return slide(ctx, b, s)
		case err != nil:
			return fmt.Errorf("in use, %v after its begin: %w", time.Since(began), err)
		}
		last = asked
		time.Sleep(idle / 20)
	}
	fmt.Printf("bob's session outlived %v in use\n", 3*idle)
	return nil
}

// expire leaves a session alone until it must be over.
func expire(ctx context.Context, b *browser, s server) error {
	time.Sleep(idle + idle/2)
	session, err := b.get(ctx, s, "/who")
	if !errors.Is(err, errNoSession) {
		return fmt.Errorf("unused for %v, and still %+v, %v", idle+idle/2, session, err)
	}
	fmt.Printf("unused for %v it ended\n", idle)
	return nil
}

package testee_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/flagstone-shm/flagstone/conformance/internal/fake"
	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

func TestMain(m *testing.M) {
	fake.Main()
	os.Exit(m.Run())
}

func start(t *testing.T, deadline time.Duration, answers ...string) *testee.Testee {
	t.Helper()
	p, err := testee.Start(fake.Program("fake", answers...), deadline)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func TestDo_Answers_AreParsed(t *testing.T) {
	p := start(t, 0, "get=ok 76 4", "del=no", "lock=err busy it is held", "fly=unsupported", `scan=ok 2\na b\nc d`, `check=ok 0`, "batch=ok 1\\n-")
	for _, c := range []struct{ command, want string }{
		{"get 6b", "ok 76 4"},
		{"del 6b", "no"},
		{"lock 1", "err busy it is held"},
		{"fly", "unsupported"},
		{"scan", "ok 2\n  a b\n  c d"},
		{"check", "ok 0"},
		{"batch 6b", "ok 1\n  -"},
		{"anything", "ok"},
	} {
		a, err := p.Do(strings.Fields(c.command)...)
		if err != nil || a.String() != c.want {
			t.Errorf("%s: %v, %v, not %s", c.command, a, err, c.want)
		}
	}
	if err := p.End(); err != nil {
		t.Error(err)
	}
}

func TestDo_Nonsense_IsAnError(t *testing.T) {
	for _, answer := range []string{
		"", "OK", "yes", "ok\\nok", "no way", "unsupported get", "err", "err ", " ok",
	} {
		p := start(t, 2*time.Second, "get="+answer)
		_, err := p.Do("get", "6b")
		if answer == "ok\\nok" { // the second line is nobody's
			_, err = p.Do("get", "6b")
			for end := time.Now().Add(5 * time.Second); err == nil && time.Now().Before(end); {
				_, err = p.Do("close")
			}
		}
		if !errors.Is(err, testee.ErrNonsense) {
			t.Errorf("%q: %v", answer, err)
		}
		if _, err := p.Do("get", "6b"); err == nil {
			t.Errorf("%q: it goes on", answer)
		}
	}
}

func TestDo_NonsenseRows_AreErrors(t *testing.T) {
	for _, answer := range []string{"ok", "ok x", "ok -1", "ok 1 2", "ok 99999999999999999999", "ok 16777217"} {
		p := start(t, 0, "scan="+answer)
		if a, err := p.Do("scan"); !errors.Is(err, testee.ErrNonsense) {
			t.Errorf("%q: %v, %v", answer, a, err)
		}
	}
}

func TestDo_Silence_EndsTheTesteeByTheDeadline(t *testing.T) {
	p := start(t, 200*time.Millisecond, "get="+fake.Silent)
	if _, err := p.Do("hello"); err != nil {
		t.Fatal(err)
	}
	a, b := p.Send("get", "6b"), p.Send("get", "6c")
	for _, c := range []*testee.Call{a, b} {
		if _, err := c.Wait(); !errors.Is(err, testee.ErrLate) {
			t.Errorf("%s: %v", c.Line, err)
		}
	}
	select {
	case <-p.Gone():
	case <-time.After(10 * time.Second):
		t.Error("it was not killed")
	}
}

func TestDo_MissingRows_EndTheTesteeByTheDeadline(t *testing.T) {
	p := start(t, 200*time.Millisecond, "scan=ok 2\\na")
	if _, err := p.Do("scan"); !errors.Is(err, testee.ErrLate) {
		t.Error(err)
	}
}

func TestDo_DeathOfTheTestee_IsSaid(t *testing.T) {
	for _, how := range []string{fake.Dies, fake.Half, fake.Closes} {
		p := start(t, 5*time.Second, "get="+how)
		if a, err := p.Do("get", "6b"); !errors.Is(err, testee.ErrGone) {
			t.Errorf("%s: %v, %v", how, a, err)
		}
		if !strings.Contains(p.Stderr(), "the fake testee speaks") {
			t.Errorf("%s: standard error: %q", how, p.Stderr())
		}
	}
}

func TestEnd_StatusOfTheTestee_IsLookedAt(t *testing.T) {
	p := start(t, 0, "get="+fake.Dies)
	p.Send("get", "6b")
	if err := p.End(); err == nil {
		t.Error("it ended with 3")
	}
}

func TestSend_Pipelined_AnswersAreInOrder(t *testing.T) {
	p := start(t, 0, "a=ok 1", "b=ok 2")
	var calls []*testee.Call
	const n = 20000 // more than pipes hold
	for i := range n {
		calls = append(calls, p.Send(string(rune('a'+i%2)), strings.Repeat("x", 20)))
	}
	for i, c := range calls {
		a, err := c.Wait()
		if err != nil || len(a.Words) != 1 || a.Words[0] != string(rune('1'+i%2)) {
			t.Fatalf("call %d: %v, %v", i, a, err)
		}
	}
}

func TestSend_NotOneLine_IsRefused(t *testing.T) {
	p := start(t, 0)
	for _, line := range []string{"", "get\nset"} {
		if _, err := p.Do(line); err == nil {
			t.Errorf("%q was sent", line)
		}
	}
	if a, err := p.Do("get"); err != nil || a.Kind != testee.OK {
		t.Error(a, err)
	}
}

func TestStop_Continue_TheTesteeStandsStillAndGoesOn(t *testing.T) {
	p := start(t, 0)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	c := p.Send("hello")
	select {
	case <-c.Done():
		t.Error("a stopped testee answered")
	case <-time.After(100 * time.Millisecond):
	}
	if err := p.Continue(); err != nil {
		t.Fatal(err)
	}
	if a, err := c.Wait(); err != nil || a.Kind != testee.OK {
		t.Error(a, err)
	}
}

func TestKill_TheTestee_IsGone(t *testing.T) {
	p := start(t, 0)
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Do("hello"); !errors.Is(err, testee.ErrGone) {
		t.Error(err)
	}
}

func TestStart_NoProgram_IsAnError(t *testing.T) {
	if _, err := testee.Start(testee.Program{Name: "none"}, 0); err == nil {
		t.Error("nothing was started")
	}
	if _, err := testee.Start(testee.Program{Name: "none", Words: []string{"/does/not/exist"}}, 0); err == nil {
		t.Error("nothing was started")
	}
}

func TestBytes_HexAndBack_IsTheSame(t *testing.T) {
	for _, s := range []string{"", "a", "\x00\xff", strings.Repeat("x", 1000)} {
		if b, err := testee.Bytes(testee.Hex(s)); err != nil || string(b) != s {
			t.Errorf("%q: %q, %v", s, b, err)
		}
	}
	for _, s := range []string{"", "0", "FF", "xx", "--"} {
		if b, err := testee.Bytes(s); err == nil {
			t.Errorf("%q: %q", s, b)
		}
	}
	for _, s := range []string{"", "-1", "+1", "01", "0x1", "18446744073709551616"} {
		if n, err := testee.Number(s); err == nil {
			t.Errorf("%q: %d", s, n)
		}
	}
}

func TestStop_ADeadTestee_IsSaidAtOnce(t *testing.T) {
	p := start(t, 0, "get="+fake.Silent)
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := p.Stop(); err == nil || time.Since(begin) > testee.Deadline/2 {
		t.Error(err, time.Since(begin))
	}
}

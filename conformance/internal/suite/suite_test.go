package suite_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/flagstone-shm/flagstone/conformance/internal/fake"
	"github.com/flagstone-shm/flagstone/conformance/internal/script"
	"github.com/flagstone-shm/flagstone/conformance/internal/suite"
	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

func TestMain(m *testing.M) {
	fake.Main()
	os.Exit(m.Run())
}

// run runs one case with a fake testee, and returns what came of it.
func run(t *testing.T, c suite.Case, expect suite.Expectations, answers ...string) suite.Result {
	t.Helper()
	results, err := suite.Run(context.Background(), plan(t, c, expect, suite.Mix{fake.Program("fake", append(answers, fake.Hello)...)}))
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != 1 {
		t.Fatalf("%d results", len(results))
	}
	return results[0]
}

func plan(t *testing.T, c suite.Case, expect suite.Expectations, mixes ...suite.Mix) suite.Plan {
	s := suite.Suite{Name: "s", Cases: func(suite.Options) ([]suite.Case, error) { return []suite.Case{c}, nil }}
	return suite.Plan{Suites: []suite.Suite{s}, Mixes: mixes, Expect: expect, Options: suite.Options{Dir: t.TempDir()}}
}

const text = `
	open -> ok _ _
	set 'k' 'v' -> ok $v
	get 'k' -> ok 'v' $v 0 0 0
	~ steward -> ok 7
	scan -> ok 1
	| 'k' 'v' $v 0 0 0
	set 'k' - -> err full|busy
`

var rightAnswers = []string{"open=ok 0 1", "set 6b 76=ok 1024", "set 6b -=err full no room", "get=ok 76 1024 0 0 0", "steward=ok 7", `scan=ok 1\n6b 76 1024 0 0 0`}

func TestRun_RightAnswers_Pass(t *testing.T) {
	r := run(t, script.Case("c", suite.Full, "1", text), nil, rightAnswers...)
	if r.Status != suite.Passed || r.Bad() || r.ID() != "s/c" {
		t.Errorf("%v: %v", r.Status, r.Messages)
	}
}

func TestRun_WrongAnswers_Fail(t *testing.T) {
	for _, wrong := range []string{
		"open=ok 0", "open=no", "open=err busy", "open=ok 0 1 2",
		"set 6b 76=ok 2048", "set 6b 76=ok", "set 6b -=ok 1", "set 6b -=err toolarge", "set 6b -=no",
		"get=no", "get=ok 77 1024 0 0 0", "get=ok 76 1024 0 0", "get=ok 76 1024 0 0 0 0", "get=nonsense", "get=unsupported", "get=" + fake.Dies, "get=" + fake.Half,
		"scan=ok 0", `scan=ok 1\n6b 76 1024 0 0 1`, `scan=ok 2\n6b 76 1024 0 0 0\n6c 76 1024 0 0 0`, `scan=ok 1\n-`,
	} {
		r := run(t, script.Case("c", suite.Full, "1", text), nil, append([]string{wrong}, rightAnswers...)...)
		if r.Status != suite.Failed || !r.Bad() {
			t.Errorf("%s: %v", wrong, r.Status)
		}
		if said := strings.Join(r.Messages, "\n"); !strings.Contains(said, "the fake testee speaks") {
			t.Errorf("%s: its standard error is missing: %s", wrong, said)
		}
	}
}

func TestRun_Rows_AreComparedOneByOne(t *testing.T) {
	for rows, want := range map[string]suite.Status{
		"| *\n| b 2":        suite.Passed,
		"| *":               suite.Passed,
		"| a 1\n| *":        suite.Passed,
		"| a 1\n| b 2\n| *": suite.Passed,
		"| *\n| b 3":        suite.Failed,
		"| a 1":             suite.Failed,
		"|":                 suite.Failed,
		"| a 1\n| b 2\n| c": suite.Failed,
		"| a 2\n| *":        suite.Failed,
	} {
		if r := run(t, script.Case("c", suite.Full, "1", "scan\n"+rows), nil, `scan=ok 2\na 1\nb 2`); r.Status != want {
			t.Errorf("%q: %v: %v", rows, r.Status, r.Messages)
		}
	}
}

func TestRun_Levels_DecideWhatIsOffered(t *testing.T) {
	hello := func(level string) string { return strings.Replace(fake.Hello, "full", level, 1) }
	for _, c := range []struct {
		level  suite.Level
		hello  string
		text   string
		answer string
		want   suite.Status
	}{
		{suite.Full, "writer", "incr 'k' 1 -> ok 1", "incr=ok 1", suite.NotOffered},
		{suite.Writer, "reader", "set 'k' 'v'", "set=ok 1", suite.NotOffered},
		{suite.Writer, "full", "incr 'k' 1 -> ok 1", "incr=unsupported", suite.Failed},
		{suite.Writer, "writer", "incr 'k' 1 -> ok 1", "incr=unsupported", suite.NotOffered},
		{suite.Writer, "writer", "set 'k' 'v'", "set=unsupported", suite.Failed},
		{suite.Full, "full", "crashafter 4", "crashafter=unsupported", suite.NotOffered},
		{suite.Reader, "full", "fly -> unsupported", "fly=unsupported", suite.Passed},
		{suite.Reader, "full", "fly -> unsupported", "fly=ok", suite.Failed},
	} {
		if r := run(t, script.Case("c", c.level, "1", c.text), nil, c.answer, hello(c.hello)); r.Status != c.want {
			t.Errorf("%v: %v: %v", c, r.Status, r.Messages)
		}
	}
}

func TestRun_Expectations_TurnFailuresAndPasses(t *testing.T) {
	ok := script.Case("c", suite.Full, "1", "get 'k' -> ok")
	for _, c := range []struct {
		list, answer string
		bad          bool
		expected     string
	}{
		{"s/c known fault", "get=no", false, "known fault"},
		{"s/c known fault", "get=ok", true, "known fault"},
		{"s/c@fake of this mix", "get=no", false, "of this mix"},
		{"s/c@other,fake of another mix", "get=no", true, ""},
		{"other/c of another suite", "get=no", true, ""},
		{"# nothing\n\n", "get=no", true, ""},
	} {
		expect, err := suite.ReadExpectations(strings.NewReader(c.list))
		if err != nil {
			t.Fatal(err)
		}
		if r := run(t, ok, expect, c.answer); r.Bad() != c.bad || r.Expected != c.expected {
			t.Errorf("%q, %s: bad %v, expected %q", c.list, c.answer, r.Bad(), r.Expected)
		}
	}
	if _, err := suite.Run(context.Background(), plan(t, ok, suite.Expectations{"s/gone": "why"}, suite.Mix{fake.Program("fake", fake.Hello)})); err == nil {
		t.Error("an expectation of a case that does not exist")
	}
}

func TestReadExpectations_Nonsense_IsRefused(t *testing.T) {
	for _, list := range []string{"s/c", "case why", "s/c why\ns/c again"} {
		if e, err := suite.ReadExpectations(strings.NewReader(list)); err == nil {
			t.Errorf("%q: %v", list, e)
		}
	}
}

func TestRun_WrongHello_RunsNothing(t *testing.T) {
	for _, hello := range []string{
		"hello=ok", "hello=no", "hello=ok flagstone-conformance 2 fake full 1 0 0", "hello=ok flagstone-conformance 1 fake wizard 1 0 0", "hello=" + fake.Dies,
	} {
		p := plan(t, script.Case("c", suite.Full, "1", "get 'k'"), nil, suite.Mix{fake.Program("fake", hello)})
		if results, err := suite.Run(context.Background(), p); err == nil {
			t.Errorf("%s: %v", hello, results)
		}
	}
}

func TestRun_PanicAndErrors_FailTheCaseOnly(t *testing.T) {
	for name, f := range map[string]func(*suite.T){
		"panic":  func(*suite.T) { panic("of the case") },
		"fatal":  func(t *suite.T) { t.Fatalf("wrong") },
		"error":  func(t *suite.T) { t.Errorf("wrong") },
		"gone":   func(t *suite.T) { t.OK(0, "crash") },
		"answer": func(t *suite.T) { t.No(0, "get") },
		"errors": func(t *suite.T) { t.Err(0, "busy", "get") },
	} {
		r := run(t, suite.Case{Name: name, Level: suite.Full, Run: f}, nil, "crash="+fake.Dies)
		if r.Status != suite.Failed || len(r.Messages) == 0 {
			t.Errorf("%s: %v %v", name, r.Status, r.Messages)
		}
	}
	if r := run(t, suite.Case{Name: "skip", Level: suite.Full, Run: func(t *suite.T) { t.Skip("not here") }}, nil); r.Status != suite.NotOffered || r.Bad() {
		t.Errorf("skip: %v", r.Status)
	}
}

func TestRun_CaseEnds_NothingIsLeft(t *testing.T) {
	var p *testee.Testee
	c := suite.Case{Name: "c", Level: suite.Full, Run: func(t *suite.T) {
		p = t.Testee(0)
		if err := os.WriteFile(t.Dir()+"/file", nil, 0o600); err != nil {
			t.Fatalf("%v", err)
		}
	}}
	all := plan(t, c, nil, suite.Mix{fake.Program("fake", fake.Hello)})
	if _, err := suite.Run(context.Background(), all); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(all.Options.Dir)
	if err != nil || len(left) > 0 {
		t.Error(left, err)
	}
	<-p.Gone()
}

func TestRun_Mixes_AreWhatTheSuiteTellsApart(t *testing.T) {
	a, b := fake.Program("a", fake.Hello), fake.Program("b", fake.Hello)
	c := script.Case("c", suite.Reader, "1", "0: get 'k'\n1: get 'k'\n2: get 'k'")
	for _, of := range []struct {
		alone, parts bool
		want         string
	}{{false, false, "a,a b,b a,b"}, {false, true, "a,a b,b a,b b,a"}, {true, false, "a b"}} {
		p := plan(t, c, nil, suite.Mix{a, a}, suite.Mix{b, b}, suite.Mix{a, b}, suite.Mix{b, a})
		p.Suites[0].Alone, p.Suites[0].Parts = of.alone, of.parts
		results, err := suite.Run(context.Background(), p)
		if err != nil {
			t.Fatal(err)
		}
		var mixes []string
		for i := range results {
			mixes = append(mixes, results[i].Mix)
		}
		if got := strings.Join(mixes, " "); got != of.want {
			t.Errorf("%q, not %q", got, of.want)
		}
	}
}

func TestRun_Interrupted_SaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p := plan(t, script.Case("c", suite.Full, "1", "get 'k'"), nil, suite.Mix{fake.Program("fake", fake.Hello)})
	if _, err := suite.Run(ctx, p); err == nil {
		t.Error("it ran")
	}
}

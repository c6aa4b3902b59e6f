// Package fake is a testee of no implementation, for the tests of the runner: it
// answers as it is told, which may be wrong, late or not at all.
package fake

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/flagstone-shm/flagstone/conformance/internal/testee"
)

// Hello is the answer of a full peer to hello.
const Hello = "hello=ok flagstone-conformance 1 fake full 1 0 0000000000000000"

// What an answer may be instead of a line.
const (
	Silent = "!silent" // none
	Dies   = "!dies"   // none: the process ends with 3
	Half   = "!half"   // half a line, and the end
	Closes = "!closes" // closes its standard output and goes on
)

// argument makes a test binary a testee.
const argument = "fake-testee"

// Program returns a testee that gives these answers: "COMMAND=ANSWER", the command
// being a line's beginning, the first that fits; and without one "ok". In an answer \n
// begins a new line.
func Program(name string, answers ...string) testee.Program {
	return testee.Program{Name: name, Words: append([]string{os.Args[0], argument}, answers...)}
}

// Main is called at the beginning of TestMain: in a process that Program started it
// does not return.
func Main() {
	if len(os.Args) > 1 && os.Args[1] == argument {
		os.Exit(run(os.Args[2:]))
	}
}

func run(answers []string) int {
	signal.Ignore(syscall.SIGHUP)
	fmt.Fprintln(os.Stderr, "the fake testee speaks")
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<26)
	for lines.Scan() {
		switch a := answer(answers, lines.Text()); a {
		case Silent:
		case Dies:
			return 3
		case Half:
			fmt.Print("ok hal")
			return 0
		case Closes:
			_ = os.Stdout.Close()
			time.Sleep(time.Hour)
		default:
			fmt.Println(a)
		}
	}
	return 0
}

func answer(answers []string, line string) string {
	for _, a := range answers {
		command, text, _ := strings.Cut(a, "=")
		if strings.HasPrefix(line, command) {
			return strings.ReplaceAll(text, `\n`, "\n")
		}
	}
	return "ok"
}

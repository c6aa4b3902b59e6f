// Command conformance runs the suites against testees, as conformance/README.md says.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is the command without the process around it. It returns the exit code.
func run(args []string, out, errs io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	a := &app{out: out, errs: errs}
	root := a.command()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errs)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if a.bad > 0 {
		return exitFailed // the report has said it
	}
	fmt.Fprintf(errs, "conformance: %v\n", err)
	if a.running {
		return exitError
	}
	fmt.Fprintf(errs, "see `%s --help`\n", cmd.CommandPath())
	return exitUsage
}

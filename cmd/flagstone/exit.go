package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/cmd/flagstone/internal/demo"
	"github.com/flagstone-shm/flagstone/cmd/flagstone/internal/replay"
	"github.com/flagstone-shm/flagstone/cmd/flagstone/internal/trace"
	"github.com/flagstone-shm/flagstone/table"
)

// Exit codes.
const (
	exitOK       = 0
	exitNegative = 1 // the answer is no
	exitUsage    = 2
	exitError    = 3
)

// errNegative is wrapped by answers that are no.
var errNegative = errors.New("no")

// negative is an answer that is no.
type negative string

func (n negative) Error() string { return string(n) }
func (n negative) Unwrap() error { return errNegative }

// errUsage is wrapped by what the command line got wrong.
var errUsage = errors.New("usage")

type usage struct{ error }

func (u usage) Unwrap() []error { return []error{errUsage, u.error} }

// report says on stderr what went wrong and what to do about it, and returns the
// exit code.
func (a *app) report(command string, err error) int {
	if err == nil {
		return exitOK
	}
	code, advice := a.judge(err)
	if code == exitUsage {
		advice = fmt.Sprintf("see `%s --help`", command)
	}
	if a.json {
		_ = json.NewEncoder(a.errs).Encode(struct {
			Error  string `json:"error"`
			Advice string `json:"advice,omitempty"`
			Exit   int    `json:"exit"`
		}{err.Error(), advice, code})
		return code
	}
	fmt.Fprintf(a.errs, "flagstone: %v\n", err)
	if advice != "" {
		fmt.Fprintf(a.errs, "%s\n", advice)
	}
	return code
}

// judge returns the exit code of an error, and what to do about it.
func (a *app) judge(err error) (code int, advice string) {
	is := func(target error) bool { return errors.Is(err, target) }
	var access *table.AccessError
	switch {
	case is(errNegative), is(demo.ErrFailed):
		return exitNegative, ""
	case !a.running:
		return exitUsage, ""
	case is(errUsage), is(flagstone.ErrOptions), is(table.ErrOptions), is(flagstone.ErrTTL),
		is(replay.ErrCapacity), is(trace.ErrFormat):
		return exitUsage, ""
	case is(flagstone.ErrNotFound) && a.name == "":
		return exitError, fmt.Sprintf("`flagstone ls` lists those in %s, --dir looks elsewhere", a.dir)
	case is(flagstone.ErrNotFound) && len(a.otherVersions(a.name)) > 0:
		return exitError, fmt.Sprintf("there is %s; `flagstone create %s` makes one for this", alsoIn(a.otherVersions(a.name)), a.name)
	case is(flagstone.ErrNotFound):
		return exitError, fmt.Sprintf("make it with `flagstone create %s`, or say with --dir where it is; `flagstone ls` lists those in %s", a.name, a.dir)
	case is(table.ErrStaleBoot):
		return exitError, fmt.Sprintf("remove it with `flagstone destroy %s`, then make it again", a.name)
	case is(flagstone.ErrNoRegion):
		return exitError, "close a handle, `flagstone stat` shows whose they are; or destroy the cache and create it with more --regions"
	case is(errIndependent):
		return exitError, fmt.Sprintf("it is an independent slab, no tier of %s: programs move its records with Cache.Move and remove it with Slab.Retire", a.name)
	case is(flagstone.ErrNoSlab):
		return exitError, fmt.Sprintf("`flagstone stat %s` shows the slabs", a.name)
	case is(table.ErrNoEntry):
		return exitError, fmt.Sprintf("the directory is full: `flagstone drain %s SLAB` removes one, `flagstone stat %[1]s` shows them", a.name)
	case is(flagstone.ErrRetired):
		return exitError, fmt.Sprintf("somebody else has drained it; `flagstone stat %s` shows what there is", a.name)
	case is(flagstone.ErrUnattached):
		return exitError, "raise this process's limits (`ulimit -n`, `ulimit -v`) and try again"
	case is(flagstone.ErrFull):
		return exitError, fmt.Sprintf("make room with `flagstone evict %s --older-than D --max N` or `flagstone grow %[1]s`, or create a cache with --on-full evict", a.name)
	case is(flagstone.ErrKeyTooLong), is(flagstone.ErrValueTooLong):
		return exitError, "create the cache with a larger --max-key or --max-value"
	case is(flagstone.ErrNotCounter):
		return exitError, fmt.Sprintf("a counter is a value of 8 bytes; `flagstone del %s KEY` removes what is there", a.name)
	case is(flagstone.ErrBusy) && a.looking:
		return exitError, fmt.Sprintf("somebody is writing or repairing there: try again; if it stays, `flagstone check %s` takes over from who died at it", a.name)
	case is(flagstone.ErrBusy) && a.name != "":
		return exitError, fmt.Sprintf("`flagstone stat %s` shows who holds the locks of slabs; --timeout waits longer", a.name)
	case errors.As(err, &access) && access.Field == "mode" && access.Got&0o007 == 0 && !a.group:
		return exitError, "if the cache is meant to be shared with a group say --group"
	case is(table.ErrFormat), is(flagstone.ErrFault), is(flagstone.ErrCorrupt):
		return exitError, fmt.Sprintf("if nobody needs what is in it: `flagstone destroy %s`", a.name)
	}
	return exitError, ""
}

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone"
	"github.com/flagstone-shm/flagstone/cmd/flagstone/internal/demo"
	"github.com/flagstone-shm/flagstone/signal"
	"github.com/flagstone-shm/flagstone/table"
)

// app is one call of the command: its streams and global flags.
type app struct {
	in        io.Reader
	out, errs io.Writer

	dir     string
	json    bool
	group   bool
	timeout time.Duration

	name    string // of the cache in use, for advice
	looking bool   // at it, without a part in it
	running bool   // the command line was understood
}

const about = `Flagstone is a cache in shared memory: the processes of one host share it at
memory speed, without a server, and any of them may be killed at any time.

ls, stat, dump, get, ttl, keys and watch only look: they have no part in the cache,
write nothing, work though all its regions are taken, and nobody notices them.

Exit codes: 0 success; 1 a negative answer (get, ttl and touch missed, del found
nothing, set --if-absent found a value, drain and move found no room, check found
problems that it did not repair, watch saw fewer events than asked for, gc could not
remove everything, torture found a violation); 2 wrong usage; 3 any other error.`

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use: "flagstone", Short: "Make, inspect and use caches shared by processes", Long: about,
		SilenceErrors: true, SilenceUsage: true,
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.dir, "dir", table.DefaultDir, "directory of the caches, in memory or on a disk of this host")
	flags.BoolVar(&a.json, "json", false, "print JSON")
	flags.BoolVar(&a.group, "group", false, "the cache is shared with the group of its directory")
	flags.DurationVar(&a.timeout, "timeout", 10*time.Second, "longest wait for locks and for others that open or destroy; 0 is no limit")
	root.AddCommand(
		a.createCommand(), a.sizeCommand(), a.lsCommand(), a.statCommand(), a.dumpCommand(),
		a.getCommand(), a.setCommand(), a.delCommand(), a.incrCommand(), a.ttlCommand(), a.touchCommand(),
		a.keysCommand(), a.evictCommand(),
		a.growCommand(), a.drainCommand(), a.moveCommand(), a.stewardCommand(),
		a.checkCommand(), a.watchCommand(), a.destroyCommand(), a.gcCommand(),
		a.replayCommand(), a.workerCommand(), a.tortureCommand(), demo.Command(), a.versionCommand(),
	)
	root.InitDefaultCompletionCmd()
	a.noteRunning(root)
	return root
}

// noteRunning makes every command note that it runs: what failed before that was
// the command line.
func (a *app) noteRunning(cmd *cobra.Command) {
	if f := cmd.RunE; f != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			a.running = true
			return f(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		a.noteRunning(sub)
	}
}

// noWake is for handles that live for one operation: nobody needs to signal them.
var noWake = signal.Options{Mode: signal.ModePoll, Poll: time.Second}

// work is what is done with an open cache.
type work func(context.Context, *flagstone.Cache) error

// use calls f with a handle on the cache of that name, and closes it.
func (a *app) use(ctx context.Context, name string, f work) error {
	return a.with(ctx, name, flagstone.Options{MustExist: true, Wake: noWake}, f)
}

// look is use for what only looks: it takes no region, rings nobody and writes
// nothing.
func (a *app) look(ctx context.Context, name string, f work) error {
	a.looking = true
	return a.with(ctx, name, flagstone.Options{ReadOnly: true}, f)
}

func (a *app) with(ctx context.Context, name string, o flagstone.Options, f work) error {
	ctx, cancel := a.within(ctx)
	defer cancel()
	a.name, o.Dir, o.Group = name, a.dir, a.group
	cache, err := flagstone.Open(ctx, name, modest(o))
	if err != nil {
		return err
	}
	return closing(cache, f(ctx, cache))
}

// inspect is look for the control segment. Close has to follow.
func (a *app) inspect(name string) (*table.Reader, error) {
	a.name, a.looking = name, true
	return table.Inspect(table.Options{Dir: a.dir, Name: name, Group: a.group})
}

// within returns ctx limited by --timeout.
func (a *app) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if a.timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, a.timeout)
}

// closing closes the handle and returns err, or what went wrong then.
func closing(handle io.Closer, err error) error {
	if e := handle.Close(); err == nil && e != nil {
		return fmt.Errorf("close: %w", e)
	}
	return err
}

// completeNames completes the name of a cache.
func (a *app) completeNames(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names, err := table.List(a.dir)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/flagstone-shm/flagstone/table"
)

type eventJSON struct {
	Time   time.Time   `json:"time"`
	Event  string      `json:"event"`
	Region *regionJSON `json:"region,omitempty"`
	Entry  *entryJSON  `json:"entry,omitempty"`
	// Of "steward"; without it nobody is.
	Steward *holderJSON `json:"steward,omitempty"`
}

func (a *app) watchCommand() *cobra.Command {
	var count int
	var span time.Duration
	cmd := &cobra.Command{
		Use: "watch NAME", Short: "Print what happens: processes that come, go and die, slabs, stewards", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeNames,
		Long: `Prints one line per event, first what is there already as joined, published and
steward, until interrupted, or the cache is destroyed. It only looks, five times a
second: what comes and goes between two looks is not seen.
Events: joined, left, died, flags of a process; published, draining, reopened,
retired of a slab or another segment; steward; destroyed.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if count < 0 || span < 0 {
				return usage{fmt.Errorf("--count %d --for %v: need no less than 0", count, span)}
			}
			domain, err := a.inspect(args[0])
			if err != nil {
				return err
			}
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			if span > 0 {
				ctx, cancel = context.WithTimeout(ctx, span)
				defer cancel()
			}
			return closing(domain, a.watch(ctx, domain, count))
		},
	}
	cmd.Flags().IntVar(&count, "count", 0, "stop after so many events; with --for exit 1 if there were fewer")
	cmd.Flags().DurationVar(&span, "for", 0, "stop after this time")
	return cmd
}

// watch prints events until ctx ends, count of them (0: no limit) were printed,
// or the cache is destroyed.
func (a *app) watch(ctx context.Context, domain *table.Reader, count int) error {
	seen := 0
	for e := range domain.Watch(ctx) {
		out := newEvent(e, domain.Regions)
		if err := a.line(out, out.text()); err != nil {
			return err
		}
		if seen++; seen == count || e.Kind == table.Destroyed {
			return nil
		}
	}
	switch {
	case ctx.Err() == nil:
		return errors.New("watch: the cache's files can no longer be read")
	case seen < count && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return negative(fmt.Sprintf("%d of %d events", seen, count))
	}
	return nil
}

// newEvent is what to print of an event; regions tells whose is which.
func newEvent(e table.Event, regions func() []table.Region) eventJSON {
	out := eventJSON{Time: e.Time, Event: e.Kind.String()}
	if e.Region != nil {
		r := newRegion(*e.Region)
		out.Region = &r
	}
	if e.Entry != nil {
		entry := newEntry(*e.Entry)
		out.Entry = &entry
	}
	if e.Steward != nil {
		out.Steward = newHolder(*e.Steward, regions())
	}
	return out
}

func (e eventJSON) text() string {
	text := fmt.Sprintf("%s %-9s", e.Time.Local().Format("15:04:05.000"), e.Event)
	switch {
	case e.Region != nil:
		return fmt.Sprintf("%s region %d, process %d, flags %#x", text, e.Region.Region, e.Region.Pid, e.Region.Flags)
	case e.Entry != nil:
		return fmt.Sprintf("%s entry %d, %s, segment %s, %s", text, e.Entry.Entry, e.Entry.what(), e.Entry.Segment, bytesText(e.Entry.Size))
	case e.Steward != nil:
		return fmt.Sprintf("%s process %s, region %d", text, holder(e.Steward.Pid), e.Steward.Region)
	case e.Event == table.StewardChanged.String():
		return text + " nobody"
	}
	return text
}

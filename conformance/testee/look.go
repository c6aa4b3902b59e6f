package main

import (
	"fmt"

	"github.com/flagstone-shm/flagstone/internal/inside"
)

// stat sums over the shards of each tier.
func stat(s *session, _ *line) (answer, error) {
	tiers, err := s.cache.Tiers()
	if err != nil {
		return answer{}, err
	}
	var rows []string
	err = s.under.Read(func(v inside.View) (bool, error) {
		rows = nil
		for i, t := range v.Tiers() {
			st, err := t.Slab.Stats()
			if err != nil {
				return false, err
			}
			rows = append(rows, fmt.Sprintf("%d %s %d %d %d", tiers[i].Tier(), hex16(tiers[i].ID()), st.Records, st.Cells, st.Bytes))
		}
		return true, nil
	})
	if err != nil {
		return answer{}, err
	}
	return many(rows)
}

func dump(s *session, l *line) (answer, error) {
	ctx, cancel := l.waiting()
	defer cancel()
	tiers, err := s.cache.Tiers()
	if err != nil {
		return answer{}, err
	}
	var rows []string
	err = s.under.Update(ctx, func(v inside.View) error {
		all, err := v.Dump(ctx)
		rows = nil
		for _, d := range all {
			number := d.Tier
			if number < len(tiers) { // else it has come since
				number = tiers[number].Tier()
			}
			rows = append(rows, fmt.Sprintf("shard %d %d %d %d %d %d %d", number, d.Shard, d.Live, d.Used, d.Sequence, d.Turn, d.Small))
			for i := range d.Records {
				r := &d.Records[i]
				queue := "main"
				if r.Small {
					queue = "small"
				}
				rows = append(rows, fmt.Sprintf("record %s %s %d %s %d %d", queue, text(r.Key), r.Flags, row(&r.Item), r.LastUse, r.Count))
			}
		}
		return err
	})
	if err != nil {
		return answer{}, err
	}
	return many(rows)
}

func check(s *session, l *line) (answer, error) {
	ctx, cancel := l.waiting()
	defer cancel()
	problems, err := s.cache.Check(ctx)
	if err != nil {
		return answer{}, err
	}
	return many(problems)
}

func rebuild(s *session, l *line) (answer, error) {
	ctx, cancel := l.waiting()
	defer cancel()
	return done(s.cache.Rebuild(ctx))
}

// repair counts as mended what Check finds no more.
func repair(s *session, l *line) (answer, error) {
	ctx, cancel := l.waiting()
	defer cancel()
	t, err := s.member()
	if err != nil {
		return answer{}, err
	}
	before, err := t.Check()
	if err != nil {
		return answer{}, err
	}
	if err := s.cache.Repair(ctx); err != nil {
		return answer{}, err
	}
	after, err := t.Check()
	if err != nil {
		return answer{}, err
	}
	return ok(max(len(before)-len(after), 0))
}

package replay

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/bits"
	"time"

	"github.com/flagstone-shm/flagstone"
)

// Job is what a worker process is told, as a line of JSON on its stdin. A second
// line starts it; the end of stdin ends it.
type Job struct {
	Dir, Name  string
	Input      Input
	Requests   uint64 // of the whole trace
	Contiguous bool
	ValueSize  int
	Worker     int // from 0
	Workers    int
}

// Tally is what a worker counted.
type Tally struct {
	Requests uint64
	Hits     uint64
	Unsure   uint64 // of the misses: lookups that gave up (flagstone.ErrBusy)
	Nanos    uint64 // in the cache, reading the trace not included
}

// message is what a worker says, a line of JSON on its stdout each.
type message struct {
	Ready    bool   `json:",omitempty"`
	Requests uint64 `json:",omitempty"` // so far
	Done     *Tally `json:",omitempty"`
	Error    string `json:",omitempty"`
}

// Work is the worker process: it replays its share of the job that it is told.
func Work(ctx context.Context, in io.Reader, out io.Writer) error {
	say := json.NewEncoder(out)
	tally, err := work(ctx, json.NewDecoder(in), say)
	if err != nil {
		return errors.Join(err, say.Encode(message{Error: err.Error()}))
	}
	return say.Encode(message{Requests: tally.Requests, Done: &tally})
}

func work(ctx context.Context, orders *json.Decoder, say *json.Encoder) (tally Tally, err error) {
	var job Job
	if err := orders.Decode(&job); err != nil {
		return tally, err
	}
	cache, err := flagstone.Open(ctx, job.Name, flagstone.Options{
		Dir: job.Dir, MustExist: true, Steward: flagstone.StewardOptions{Off: true},
	})
	if err != nil {
		return tally, err
	}
	defer func() { err = errors.Join(err, cache.Close()) }()
	keys := job.Input.open()
	defer keys.close()
	if err := say.Encode(message{Ready: true}); err != nil {
		return tally, err
	}
	var start time.Time
	if err := orders.Decode(&start); err != nil {
		return tally, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // the parent closes stdin only when it wants nothing more, or is dead
		_ = orders.Decode(&start)
		cancel()
	}()
	player := player{cache: cache, value: make([]byte, job.ValueSize)}
	for {
		more, err := job.fill(keys, &player.batch)
		if err != nil {
			return player.Tally, err
		}
		if err := player.play(ctx); err != nil || !more {
			return player.Tally, err
		}
		if err := say.Encode(message{Requests: player.Requests}); err != nil {
			return player.Tally, err
		}
	}
}

// mine reports whether request i of the trace belongs to this worker, and
// whether any from it on does.
func (j Job) mine(i uint64) (mine, more bool) {
	if !j.Contiguous {
		return i%uint64(j.Workers) == uint64(j.Worker), i < j.Requests
	}
	return i >= j.share(j.Worker), i < j.share(j.Worker+1)
}

// share returns where the contiguous share of a worker begins.
func (j Job) share(worker int) uint64 {
	hi, lo := bits.Mul64(j.Requests, uint64(worker))
	q, _ := bits.Div64(hi, lo, uint64(j.Workers))
	return q
}

// batch is some requests, read from the trace before the clock runs.
type batch struct {
	bytes []byte
	ends  []int
}

// fill reads the worker's next requests; more is false if they are the last.
func (j Job) fill(keys *stream, b *batch) (more bool, err error) {
	b.bytes, b.ends = b.bytes[:0], b.ends[:0]
	for len(b.ends) < every && len(b.bytes) < 16*every {
		mine, more := j.mine(keys.read)
		if !more {
			return false, nil
		}
		key, err := keys.next()
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if mine {
			b.bytes = append(b.bytes, key...)
			b.ends = append(b.ends, len(b.bytes))
		}
	}
	return true, nil
}

// player does the requests.
type player struct {
	Tally
	cache *flagstone.Cache
	batch batch
	value []byte
	buf   []byte
}

// play gets the keys of the batch, and sets those that it misses.
func (p *player) play(ctx context.Context) error {
	begin := time.Now()
	from := 0
	for _, end := range p.batch.ends {
		key := p.batch.bytes[from:end]
		from = end
		value, ok, err := p.cache.Get(p.buf[:0], key)
		p.buf = value
		switch {
		case ok:
			p.Hits++
			continue
		case errors.Is(err, flagstone.ErrBusy):
			p.Unsure++
		case err != nil:
			return err
		}
		if err := p.cache.Set(ctx, key, p.value, flagstone.NoExpiry); err != nil {
			return err
		}
	}
	p.Requests += uint64(len(p.batch.ends))
	p.Nanos += uint64(time.Since(begin))
	return ctx.Err()
}

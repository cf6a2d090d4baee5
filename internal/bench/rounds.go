package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

// plan says how often and how long a workload is measured.
type plan struct {
	rounds int           // that count
	warm   bool          // one that does not is before them
	time   time.Duration // of one, where it is repeated
}

// patience is how often the time of all its rounds a server is measured in one
// workload: when that is used up it gets no further round, and where warming up
// has used it up that was the measurement. A search that takes seconds is not made
// more certain by minutes.
const patience = 3

func (b *bench) plan(w *workload) plan {
	p := plan{rounds: b.cfg.Rounds, warm: !w.once && !w.first, time: b.cfg.Time}
	if w.tls && b.measured[strings.TrimSuffix(w.name, overTLS)] {
		// What can be warm is; and only the difference is wanted.
		p.warm, p.time = false, p.time/2
		if w.heavy {
			p.rounds = 1
		}
	}
	if w.once {
		p.rounds = 1
	}
	return p
}

// measure runs all rounds of one workload. The servers take turns, and who
// begins changes, so that what else the machine does hits both alike. An error
// is the end of everything.
func (b *bench) measure(ctx context.Context, w *workload, done, part float64) (*Result, error) {
	r := &Result{Workload: w.name, What: w.what, Unit: w.unit, Sides: make([]Side, len(b.servers))}
	p := b.plan(w)
	turns := make([]turn, len(b.servers))
	for i, s := range b.servers {
		turns[i] = turn{s: s, side: &r.Sides[i]}
		r.Sides[i].Skipped = s.lacks(w)
	}
	runs := slices.ContainsFunc(r.Sides, func(s Side) bool { return s.Skipped == "" })
	if w.still && runs {
		var err error
		if r.Note, err = b.settle(ctx, w.name, done); err != nil {
			for i := range r.Sides {
				r.Sides[i].Error = err.Error()
			}
			return r.finish(), err
		}
	}
	first := 1
	if p.warm {
		first = 0
	}
	total := float64((p.rounds + 1 - first) * len(turns))
	for round := first; round <= p.rounds; round++ {
		for n := range turns {
			t := &turns[n]
			if round%2 == 1 {
				t = &turns[len(turns)-1-n]
			}
			if t.over(p) {
				continue
			}
			what := fmt.Sprintf("%s, round %d of %d, %s", w.name, round, p.rounds, t.s.Name)
			if round == 0 {
				what = fmt.Sprintf("%s, warming up, %s", w.name, t.s.Name)
			}
			t.s.done = done + part*float64((round-first)*len(turns)+n)/total
			b.cfg.Reporter.Step(what, t.s.done)
			// In one round both servers are given the same mail, as far as they come,
			// and another in the next: very large messages are few.
			b.cfg.Mail.seek(float64(round) / float64(p.rounds+1))
			t.take(ctx, w, p, round > 0)
			if ctx.Err() != nil {
				t.side.Error = "interrupted"
				return r.finish(), ctx.Err()
			}
			if t.side.Error != "" {
				if err := t.s.gone(ctx); err != nil {
					return r.finish(), err
				}
			}
		}
	}
	return r.finish(), nil
}

// gone returns an error where nobody can log in any more.
func (s *server) gone(ctx context.Context) error {
	c, err := s.login(ctx, false, 0)
	if err != nil {
		return fmt.Errorf("%s is gone, with what it was given: the next run removes that (%w)", s.Name, err)
	}
	c.close()
	return nil
}

// turn is one server's turns in a workload.
type turn struct {
	s     *server
	side  *Side
	spent time.Duration // in measurements, with that to warm up
}

// over reports whether there are to be no more.
func (t *turn) over(p plan) bool {
	return t.side.Skipped != "" || t.side.Error != "" || len(t.side.Samples) > 0 && t.impatient(p)
}

func (t *turn) impatient(p plan) bool { return t.spent > patience*time.Duration(p.rounds)*p.time }

// take does one measurement.
func (t *turn) take(ctx context.Context, w *workload, p plan, counts bool) {
	limit := p.time
	if !counts {
		limit = min(limit/2, time.Second)
	}
	sample, err := t.s.run(ctx, w, limit)
	t.spent += time.Duration(sample.Seconds * float64(time.Second))
	switch {
	case err != nil:
		t.side.Error = strings.ReplaceAll(err.Error(), "\n", "; ")
	case counts || t.impatient(p):
		t.side.Samples = append(t.side.Samples, sample)
	}
}

// run does one measurement, for so long where it is repeated.
func (s *server) run(ctx context.Context, w *workload, limit time.Duration) (sample Sample, err error) {
	e := &env{ctx: ctx, server: s, w: w, time: limit}
	defer func() { err = errors.Join(err, e.end()) }()
	if w.before != nil {
		if err := w.before(e); err != nil {
			return sample, fmt.Errorf("getting ready: %w", err)
		}
	}
	runtime.GC() // what getting ready has left is not the measurement's
	if sample, err = w.run(e); err != nil {
		return sample, err
	}
	// Where the memory of the server cannot be read, the others count.
	if u, err := s.usage(true); err == nil {
		sample.Memory = float64(u.pss) / 1e6
		s.info.Memory = max(s.info.Memory, sample.Memory)
		s.info.Peak = max(s.info.Peak, float64(u.peak)/1e6)
	}
	return sample, nil
}

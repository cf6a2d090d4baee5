package imaptest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Concurrent lets several sessions work on one mailbox at the same time. What
// happens cannot be replayed, so only that is checked which holds in any
// order: sequence numbers and UIDs that stay true for each session, EXPUNGE
// only where it is allowed, one set of flags for each mod-sequence, one body
// for each UID, \Recent in one session at most, and at the end the same mailbox
// for all. Options.Restarts is not used.
func Concurrent(t *testing.T, target Target, options RandomOptions) {
	skipRandom(t, &target)
	o := options.withDefaults()
	for run := range o.Runs {
		seed := o.Seed + uint64(run)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			w := &world{server: target.New(t), options: o, truth: newTruth()}
			defer w.closeAll()
			w.lock = &sync.Mutex{}
			if err := w.begin(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := w.together(t.Context(), seed); err != nil {
				t.Errorf("RandomOptions{Seed: %d}: %v\n--- what happened:\n%s", seed, err, strings.Join(w.shown, "\n"))
			}
		})
	}
}

// together runs all sessions, then compares what they see.
func (w *world) together(ctx context.Context, seed uint64) error {
	var group sync.WaitGroup
	errs := make([]error, len(w.sessions))
	for i, s := range w.sessions {
		s.truth = nil
		group.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for range w.options.Steps {
				if ctx.Err() != nil {
					return
				}
				if err := w.wander(s, rng); err != nil {
					errs[i] = fmt.Errorf("session %s: %w", s.name, err)
					return
				}
			}
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var first *session
	for _, s := range w.sessions {
		if err := w.look(s); err != nil {
			return fmt.Errorf("at the end, session %s: %w", s.name, err)
		}
		if first == nil {
			first = s
		}
		if !slices.Equal(s.view, first.view) || !maps.Equal(s.told, first.told) {
			return fmt.Errorf("session %s sees %v %v; session %s sees %v %v",
				first.name, first.view, first.told, s.name, s.view, s.told)
		}
	}
	return nil
}

// look brings a session up to date and reads all flags.
func (w *world) look(s *session) error {
	if !s.selected {
		s.start(false)
		if _, err := w.ok(s, "SELECT INBOX", true, nil); err != nil {
			return err
		}
	}
	if _, err := w.ok(s, "NOOP", true, nil); err != nil {
		return err
	}
	clear(s.told)
	if len(s.view) == 0 {
		return nil
	}
	_, err := w.ok(s, "FETCH 1:* (UID FLAGS)", false, nil)
	return err
}

// wander runs one random command of a session that shares the mailbox with
// others. BAD is always wrong, since the session's numbers are true; NO is
// allowed where another session may have been faster.
func (w *world) wander(s *session, rng *rand.Rand) error {
	op := randomOp{a: rng.Uint32(), b: rng.Uint32(), c: rng.Uint32()}
	if !s.selected {
		s.start(false)
		if _, err := w.ok(s, "SELECT INBOX", true, nil); err != nil {
			return err
		}
		return s.resolve()
	}
	text, mayExpunge := wanderText(s, rng.IntN(14), op)
	r, err := s.command(text, mayExpunge, nil)
	switch {
	case err != nil:
		return fmt.Errorf("%.60s: %w", text, err)
	case r.status == "BAD":
		return fmt.Errorf("%.60s: %s", text, r.raw)
	case text == "UNSELECT" || text == "CLOSE":
		s.stop()
		return nil
	}
	return s.resolve()
}

func wanderText(s *session, kind int, op randomOp) (text string, mayExpunge bool) {
	flags := strings.Join(someFlags(op.a>>8&(op.b>>4)), " ")
	if kind < 3 || len(s.view) == 0 {
		return fmt.Sprintf("APPEND INBOX (%s) {\"Subject: %d\\r\\n\\r\\nbody %d\\r\\n\"}", flags, op.a, op.b), true
	}
	seqs := choose(s.view, op)
	uids := make([]uint32, len(seqs))
	for i, seq := range seqs {
		uids[i] = s.view[seq-1]
	}
	sign := []string{"", "+", "-"}[op.b%3]
	switch kind {
	case 3, 4:
		return fmt.Sprintf("STORE %s %sFLAGS (%s)", set(seqs), sign, flags), false
	case 5:
		return fmt.Sprintf("UID STORE %s %sFLAGS.SILENT (%s)", set(uids), sign, flags), true
	case 6:
		return "EXPUNGE", true
	case 7:
		return "UID EXPUNGE " + set(uids), true
	case 8:
		return "COPY " + set(seqs[:min(3, len(seqs))]) + " INBOX", true
	case 9:
		return "FETCH " + set(seqs) + " (UID FLAGS BODY.PEEK[])", false
	case 10:
		return "UID FETCH " + set(uids) + " (FLAGS BODY.PEEK[])", true
	case 11:
		return "UID SEARCH UNSEEN", true
	case 12:
		return []string{"UNSELECT", "CLOSE", "NOOP", "NOOP"}[op.c%4], true
	default:
		return "NOOP", true
	}
}

package mailstore

import (
	"context"
	"errors"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
)

// Loose rows are put into pages in the background when a mailbox has many of
// them, so that what they add to opening it stays small beside the pages, and
// what folding costs is shared by thousands of changes. Folding changes nothing
// that anyone can see; each step is an op like any other, and a crash between
// two of them leaves a mailbox that is as good as before.

// foldBytes is about how much one step of folding writes: little, as other
// changes wait for it.
const foldBytes = 128 << 10

// foldLimit returns how many loose records a mailbox may have.
func (s *Store) foldLimit(c *counters) uint64 {
	return max(uint64(s.opts.FoldRows), 2*uint64(s.opts.PageRows), c.messages/16)
}

// fold begins to put loose rows into pages, in the background, where there are
// too many of them, unless it is doing so already.
func (a *account) fold() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.folding || len(a.unfolded) == 0 {
		return
	}
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	if a.store.closed {
		return
	}
	a.folding = true
	a.store.background.Go(a.foldLoop)
}

func (a *account) foldLoop() {
	for {
		a.mu.Lock()
		num := boxNum(0)
		for num = range a.unfolded {
			break
		}
		if len(a.unfolded) == 0 {
			a.folding = false
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		err := a.foldBox(a.store.ctx, num)
		a.mu.Lock()
		delete(a.unfolded, num) // where it failed, the next change tries again
		a.mu.Unlock()
		if err != nil && imap.KindOf(err) != imap.Closed && a.store.ctx.Err() == nil {
			a.store.opts.Logger.Warn("tidying the index of a mailbox", "account", a.user, "err", err)
		}
	}
}

// foldBox puts the loose rows of a mailbox into pages, and what storings say into
// rows, where there is too much of them.
func (a *account) foldBox(ctx context.Context, num boxNum) error {
	a.mu.Lock()
	st := a.box(num).state.Load()
	a.mu.Unlock()
	if st == nil {
		return nil
	}
	if st.storings >= a.store.storingLimit() {
		if err := inSteps(ctx, a, settling{box: num, next: 1}); err != nil {
			return err
		}
	}
	if st.c.loose < a.store.foldLimit(&st.c) {
		return nil
	}
	return inSteps(ctx, a, folding{box: num, next: 1})
}

// pass is work on a mailbox that goes in steps.
type pass[P any] interface {
	*P
	run(t *opTx) error // makes one step
	more() bool        // reports whether there is another one
}

// inSteps makes each step of p an op. A run of one may be repeated, so each begins
// with what the last one left.
func inSteps[P any, S pass[P]](ctx context.Context, a *account, p P) error {
	for S(&p).more() {
		var step P
		err := a.submit(ctx, &op{weight: 2 * foldBytes, run: func(t *opTx) error {
			step = p
			return S(&step).run(t)
		}})
		if err != nil {
			return err
		}
		p = step
	}
	return nil
}

// folding is one pass through the loose rows of a mailbox.
type folding struct {
	box   boxNum
	next  imap.UID // where the next step begins, 0 at the end
	begun bool
	old   uint64 // loose records that the pass began with
	left  uint64 // those that it has left alone
}

func (f *folding) more() bool { return f.next != 0 }

// run makes one step.
func (f *folding) run(t *opTx) error {
	st := t.state(f.box)
	if st == nil {
		f.next = 0
		return nil
	}
	if !f.begun {
		f.begun, f.old = true, st.c.loose
	}
	uids, more, err := f.collect(t)
	if err != nil {
		return err
	}
	f.next = 0
	if more {
		f.next = uids.Ranges()[len(uids.Ranges())-1].Stop + 1
	}
	if err := f.fold(t, uids, more); err != nil || f.next != 0 {
		return err
	}
	next := *st
	next.c.loose = next.c.loose - min(next.c.loose, f.old) + f.left
	t.setCounters(f.box, &next)
	return nil
}

// collect returns the UIDs of the next loose records, and whether there are
// more behind them.
func (f *folding) collect(t *opTx) (uids imap.UIDSet, more bool, err error) {
	room := 2 * mailindex.PageRows // more than a run: that may wait as a whole
	from := rowKey(nil, keyLoose, f.box, f.next)
	err = scanRange(t.b.tx, from, prefixEnd(boxKey(keyLoose, f.box)), func(key, _ []byte) error {
		if room == 0 {
			return errEnough
		}
		room--
		uids.Add(uidOfRowKey(key))
		return nil
	})
	if errors.Is(err, errEnough) {
		return uids, true, nil
	}
	return uids, false, err
}

// fold puts loose rows into pages, as many as one step may.
func (f *folding) fold(t *opTx, uids imap.UIDSet, more bool) error {
	var codes codes
	reader := rowReader{r: t.b.tx, box: f.box, intern: codes.number, anyLoose: true}
	err := reader.visit(uids, func(u *unit, _ []int) error {
		if t.size >= foldBytes {
			f.next = u.loose[0]
			return errEnough
		}
		if u.tail && u.rows.Len() < t.a.store.opts.PageRows {
			// The last rows wait for those that are going to follow.
			if more {
				f.next = u.loose[0]
				return errEnough
			}
			f.left += uint64(len(u.loose))
			return nil
		}
		t.repage(f.box, u, codes.code)
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

package mailstore

import (
	"context"
	"errors"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// Expunged messages stay readable for sessions that have not told their
// clients yet. An expunge therefore only records a grave: the UIDs whose rows
// are no longer in the mailbox. The rows stay on disk and hold their messages.
// The reaper takes rows, and messages that no other row holds, away when no
// session needs them; after a restart there are no such sessions.

// reapRows is how many rows one step of the reaper takes away.
const reapRows = 2000

// graveRanges is how many ranges of UIDs a grave has at most: each step of the
// reaper reads all of a grave, and writes what is left of it.
const graveRanges = 2000

// graveParts divides what is expunged into sets that a grave has room for.
func (s *Store) graveParts(uids imap.UIDSet) (parts []imap.UIDSet) {
	size := min(graveRanges, s.opts.ExpungeRanges)
	for ranges := range slices.Chunk(uids.Ranges(), size) {
		var part imap.UIDSet
		for _, r := range ranges {
			part.AddRange(r.Start, r.Stop)
		}
		parts = append(parts, part)
	}
	return parts
}

// void reports whether a grave with the mod-sequence, in a mailbox with this
// state (nil where it was deleted), belongs to an expunge that was not finished:
// see largeExpunge.
func (st *boxState) void(modseq imap.ModSeq) bool {
	return st != nil && modseq > st.c.highest && modseq != imap.MaxModSeq
}

// bury notes graves that have been dug.
func (a *account) bury(graves []grave) {
	if len(graves) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, g := range graves {
		b := a.box(g.box)
		b.graves = append(b.graves, g.modseq)
		a.buried[g.box] = struct{}{}
	}
}

// ripe returns a grave that no session needs. a.mu is held.
func (a *account) ripe() (grave, bool) {
	for num := range a.buried {
		b := a.boxes[num]
		released := uint64(imap.MaxModSeq)
		for m := range b.handles {
			released = min(released, m.released.Load())
		}
		for _, modseq := range b.graves {
			if uint64(modseq) <= released && (modseq != imap.MaxModSeq || len(b.handles) == 0) {
				return grave{num, modseq}, true
			}
		}
	}
	return grave{}, false
}

// reap begins to take away what nobody needs, in the background, unless it is
// doing so already.
func (a *account) reap() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.reaping {
		return
	}
	if _, ok := a.ripe(); !ok {
		return
	}
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	if a.store.closed || a.store.repairing {
		return
	}
	a.reaping = true
	a.store.background.Go(a.reapLoop)
}

func (a *account) reapLoop() {
	for {
		a.mu.Lock()
		g, ok := a.ripe()
		if !ok {
			a.reaping = false
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		if err := a.reapStep(a.store.ctx, g); err != nil {
			a.mu.Lock()
			a.reaping = false
			a.mu.Unlock()
			if imap.KindOf(err) != imap.Closed && a.store.ctx.Err() == nil {
				a.store.opts.Logger.Warn("taking back the space of expunged messages", "account", a.user, "err", err)
			}
			return
		}
	}
}

// reapStep takes away some rows of a grave.
func (a *account) reapStep(ctx context.Context, g grave) error {
	var r reaping
	err := a.submit(ctx, &op{weight: reapRows * 40, run: func(t *opTx) error {
		r = reaping{t: t, g: g}
		return r.run()
	}})
	if err != nil {
		return err
	}
	if r.emptied {
		a.mu.Lock()
		if b := a.boxes[g.box]; b != nil {
			for i, modseq := range b.graves {
				if modseq == g.modseq {
					b.graves = append(b.graves[:i:i], b.graves[i+1:]...)
					break
				}
			}
			if len(b.graves) == 0 {
				delete(a.buried, g.box)
			}
			if g.modseq == imap.MaxModSeq && len(b.handles) == 0 && b.state.Load() == nil {
				delete(a.boxes, g.box)
				delete(a.buried, g.box)
			}
		}
		a.mu.Unlock()
	}
	if len(r.refs) > 0 {
		a.gone(len(r.refs))
		// What is lost here a sweep finds again.
		if err := a.store.blobs.Delete(ctx, a.num, r.refs); err != nil {
			a.store.unswept.Store(true)
			return err
		}
	}
	return nil
}

// reaping is one step of the reaper.
type reaping struct {
	t       *opTx
	g       grave
	codes   codes
	refs    []driver.Ref      // blobs that nothing names any more
	holders map[uint64]uint64 // rows that hold a message, as far as they were read and are not one
	emptied bool
}

func (r *reaping) run() error {
	key := modseqKey(keyGrave, r.g.box, r.g.modseq)
	data, ok, err := r.t.get(key)
	if err != nil {
		return err
	}
	if !ok {
		r.emptied = true
		return nil
	}
	uids, _, err := mailindex.ReadUIDSet(data)
	if err != nil {
		return err
	}
	rest, err := r.dig(uids)
	if err != nil {
		return err
	}
	if !rest.IsEmpty() {
		r.t.set(key, mailindex.AppendUIDSet(nil, rest))
		return nil
	}
	r.emptied = true
	r.t.delete(key)
	if r.g.modseq == imap.MaxModSeq {
		// The mailbox is gone with all that belonged to it.
		for _, kind := range []byte{keyPage, keyLoose, keyHistory, keyGrave, keyStoring} {
			prefix := boxKey(kind, r.g.box)
			r.t.deleteRange(prefix, prefixEnd(prefix))
		}
	}
	return nil
}

// dig releases the messages of some rows and returns the UIDs that are left.
func (r *reaping) dig(uids imap.UIDSet) (rest imap.UIDSet, err error) {
	left := reapRows
	loose := uint64(0)
	reader := rowReader{r: r.t.b.tx, box: r.g.box, intern: r.codes.number}
	err = reader.visit(uids, func(u *unit, rows []int) error {
		if left <= 0 {
			rest = uids.Subtract(imap.UIDSetOfRange(1, u.rows.UIDs[rows[0]]-1))
			return errEnough
		}
		left -= len(rows)
		msgs := make([]uint64, len(rows))
		for j, i := range rows {
			msgs[j] = u.rows.Msgs[i]
		}
		if err := r.release(msgs); err != nil {
			return err
		}
		loose += r.t.takeRows(r.g.box, u, rows, r.codes.code)
		return nil
	})
	r.t.countLoose(r.g.box, loose)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return rest, err
}

// dropUnfinished removes the records of appends that a crash has cut short.
// Only the committer calls it.
func (a *account) dropUnfinished() error {
	o := &op{run: func(t *opTx) error {
		return scanPrefix(t.b.tx, []byte{keyPending}, func(key, value []byte) error {
			d := decoder{data: value}
			count := d.uint()
			if err := d.err("pending record"); err != nil {
				return err
			}
			return t.dropPending(numOfKey(key), count)
		})
	}}
	return errors.Join(a.transact([]*op{o}, false), o.err)
}

// noteRef tells a sweep that is running of a blob that is being named.
func (a *account) noteRef(ref driver.Ref) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.named != nil {
		a.named[ref] = struct{}{}
	}
}

// sweep deletes the blobs that no message names.
func (a *account) sweep(ctx context.Context) error {
	select {
	case a.sweeping <- struct{}{}:
		defer func() { <-a.sweeping }()
	case <-ctx.Done():
		return ctx.Err()
	}
	// Appends that commit from here on note their blobs; those before are in
	// the records.
	err := a.submit(ctx, &op{alone: func() error {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.named = make(map[driver.Ref]struct{})
		return nil
	}})
	if err != nil {
		return err
	}
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.named = nil
	}()
	known, err := a.store.namedRefs(ctx, a.num)
	if err != nil {
		return err
	}
	return a.store.blobs.Sweep(ctx, a.num, func(ref driver.Ref) bool {
		if _, ok := known[ref]; ok {
			return true
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		_, ok := a.named[ref]
		return ok
	})
}

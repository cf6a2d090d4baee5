package imapmodel

import (
	"context"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/mailindex"
)

// begin takes the locks of a change to this mailbox, for a session, and sees
// to it that what it will start from is true.
func (bx *box) begin(ctx context.Context, by *session) (end func(), err error) {
	if err := bx.acct.write.acquire(ctx); err != nil {
		return nil, err
	}
	if err := bx.beginTurn(ctx, by); err != nil {
		bx.acct.write.release()
		return nil, err
	}
	return func() {
		bx.turn.release()
		bx.acct.write.release()
	}, nil
}

// beginTurn takes the box's turn and looks at the model, unless that is known
// not to have changed, or the session's command has looked already. by may be
// nil.
func (bx *box) beginTurn(ctx context.Context, by *session) error {
	bx.retry.reset()
	if err := bx.turn.acquire(ctx); err != nil {
		return err
	}
	var err error
	switch {
	case bx.gone.Load():
		err = bx.missing()
	case bx.dirty.Load() || bx.b.parts.watcher == nil && (by == nil || !by.looked(ctx)):
		err = bx.look(ctx)
	}
	if err != nil {
		bx.turn.release()
	}
	return err
}

// positions calls f for each message of the snapshot that is in the set.
func positions(snap *mailindex.Snapshot, uids imap.UIDSet, f func(i int)) {
	for _, r := range uids.Ranges() {
		i, _ := snap.Find(r.Start)
		for ; i < snap.Len() && snap.UID(i) <= r.Stop; i++ {
			f(i)
		}
	}
}

// flagGroup is the messages for which a STORE means the same change.
type flagGroup struct {
	add, remove []imap.Flag
	flags       []imap.Flag // as they will be
	items       []*item
	keys        []string
}

func (s *session) Store(ctx context.Context, req *imapserver.StoreRequest) (*imapserver.StoreResult, error) {
	bx := s.bx
	if s.ReadOnly() || !bx.canSetFlags() {
		return nil, &imap.Error{Op: "imapmodel: store flags", Kind: imap.Cannot, Text: "Flags cannot be changed here"}
	}
	end, err := bx.begin(ctx, s)
	if err != nil {
		return nil, err
	}
	defer end()
	allowed, keywords := s.PermanentFlags()
	before := bx.snap.Load()
	groups := map[mailindex.FlagsID]*flagGroup{}
	res := &imapserver.StoreResult{}
	var present imap.UIDSet
	positions(before, req.UIDs, func(i int) {
		uid := before.UID(i)
		present.Add(uid)
		if req.HasUnchangedSince && before.ModSeq(i) > req.UnchangedSince {
			res.Modified.Add(uid)
			return
		}
		id := before.FlagsID(i)
		g := groups[id]
		if g == nil {
			g = flagChangeOf(before.Flags(id).List(), req, allowed, keywords)
			groups[id] = g
		}
		it := bx.byUID[uid]
		g.items = append(g.items, it)
		g.keys = append(g.keys, it.key)
	})
	res.Missing = req.UIDs.Subtract(present)
	if err := bx.setFlags(ctx, groups); err != nil {
		return nil, err
	}
	res.ModSeq = bx.newModSeq(before, groups)
	return res, nil
}

// flagChangeOf says what a STORE does to messages that have certain flags.
// Flags that clients may not set here stay as they are.
func flagChangeOf(have []imap.Flag, req *imapserver.StoreRequest, allowed []imap.Flag, keywords bool) *flagGroup {
	may := func(f imap.Flag) bool { return HasFlag(allowed, f) || keywords && !f.IsSystem() && f.Valid() }
	g := &flagGroup{}
	for _, f := range req.Flags {
		f = f.Canonical()
		has := HasFlag(have, f)
		if !may(f) || HasFlag(g.add, f) || HasFlag(g.remove, f) {
			continue
		}
		if req.Op == imapserver.FlagsRemove {
			if has {
				g.remove = append(g.remove, f)
			}
		} else if !has {
			g.add = append(g.add, f)
		}
	}
	if req.Op == imapserver.FlagsReplace {
		for _, f := range have {
			if may(f) && !HasFlag(req.Flags, f) {
				g.remove = append(g.remove, f)
			}
		}
	}
	g.flags = ChangeFlags(have, g.add, g.remove)
	return g
}

// setFlags changes flags in the model, or here, and publishes the outcome.
func (bx *box) setFlags(ctx context.Context, groups map[mailindex.FlagsID]*flagGroup) error {
	var own plan
	touched := false
	for _, g := range groups {
		if len(g.add) == 0 && len(g.remove) == 0 {
			continue
		}
		touched = true
		for _, it := range g.items {
			own.flags = append(own.flags, flagChange{item: it, flags: g.flags, own: true})
		}
	}
	if !touched {
		return nil
	}
	if bx.keepsFlags() {
		return bx.apply(ctx, own)
	}
	name := bx.modelName()
	err := bx.b.atomically(ctx, bx.acct.user, func(ctx context.Context) error {
		for _, g := range groups {
			if len(g.add) == 0 && len(g.remove) == 0 {
				continue
			}
			if err := bx.b.parts.flagger.SetFlags(ctx, bx.acct.user, name, g.keys, g.add, g.remove); err != nil {
				return modelError("set flags in "+name, err)
			}
		}
		return nil
	})
	// Also after a failure: part of it may have been done.
	if after := bx.look(context.WithoutCancel(ctx)); err == nil {
		err = after
	}
	return err
}

// newModSeq returns the mod-sequence of what a STORE has changed.
func (bx *box) newModSeq(before *mailindex.Snapshot, groups map[mailindex.FlagsID]*flagGroup) imap.ModSeq {
	after := bx.snap.Load()
	if after == before {
		return 0
	}
	for _, g := range groups {
		for _, it := range g.items {
			if i, ok := after.Find(it.uid); ok && after.ModSeq(i) > before.HighestModSeq() {
				return after.ModSeq(i)
			}
		}
	}
	return 0
}

func (s *session) Expunge(ctx context.Context, uids *imap.UIDSet) error {
	bx := s.bx
	if s.ReadOnly() || bx.b.parts.remover == nil {
		return &imap.Error{Op: "imapmodel: expunge", Kind: imap.Cannot, Text: "Messages cannot be removed here"}
	}
	end, err := bx.begin(ctx, s)
	if err != nil {
		return err
	}
	defer end()
	snap := bx.snap.Load()
	if snap.Deleted() == 0 {
		return nil
	}
	all := imap.UIDSetOfRange(1, snap.LastUID())
	if uids != nil {
		all = *uids
	}
	var items []*item
	positions(snap, all, func(i int) {
		if snap.Flags(snap.FlagsID(i)).Bits()&mailindex.BitDeleted != 0 {
			items = append(items, bx.byUID[snap.UID(i)])
		}
	})
	return bx.remove(ctx, items, s)
}

// remove removes messages for good and publishes that. by is the session that
// does it, if one does. turn is held.
func (bx *box) remove(ctx context.Context, items []*item, by *session) error {
	if len(items) == 0 {
		return nil
	}
	name := bx.modelName()
	kept := bx.keepTexts(ctx, items, by)
	err := modelError("remove messages from "+name, bx.b.parts.remover.Remove(ctx, bx.acct.user, name, keysOf(items)))
	if after := bx.lookAs(context.WithoutCancel(ctx), plan{kept: kept}); err == nil {
		err = after
	}
	return err
}

func keysOf(items []*item) []string {
	keys := make([]string, len(items))
	for i, it := range items {
		keys[i] = it.key
	}
	return keys
}

// keepTexts reads messages that are about to be removed where sessions other
// than by may still want to read them, as far as Options.GhostBytes allows.
func (bx *box) keepTexts(ctx context.Context, items []*item, by *session) map[*item][]byte {
	bx.mu.Lock()
	others := len(bx.sessions)
	if _, open := bx.sessions[by]; open {
		others--
	}
	bx.mu.Unlock()
	if others == 0 {
		return nil
	}
	left := bx.b.opts.GhostBytes - bx.b.ghostBytes.Load()
	kept := map[*item][]byte{}
	snap := bx.snap.Load()
	for _, it := range items {
		i, ok := snap.Find(it.uid)
		if !ok || int64(snap.Row(i).Size) > left {
			continue
		}
		text, err := bx.text(ctx, it, nil)
		if err != nil || int64(len(text)) > left {
			continue
		}
		left -= int64(len(text))
		kept[it] = slices.Clip(text)
	}
	return kept
}

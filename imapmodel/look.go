package imapmodel

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
)

// plan is the difference between a box and what it is to become.
type plan struct {
	gone  []*item
	flags []flagChange
	added []Message            // with their true sizes
	kept  map[*item][]byte     // texts of gone messages that others may still read
	ids   map[string]objectIDs // of added messages, by key, where they are copies
	// begin has the flags of added messages, by key, where they are kept here.
	begin map[string][]imap.Flag
	meta  func(m *mailindex.Meta)
}

type flagChange struct {
	item  *item
	flags []imap.Flag
	own   bool // the model did not list them: they are kept here
}

// look lists the model's messages and publishes what has changed. turn is
// held.
func (bx *box) look(ctx context.Context) error { return bx.lookAs(ctx, plan{}) }

// lookAs is look after something was done that the comparison alone does not
// tell all about.
func (bx *box) lookAs(ctx context.Context, known plan) error {
	n := bx.looks.Add(1)
	// Changes from here on may or may not be in the list.
	bx.dirty.Store(false)
	now := bx.b.opts.Clock()
	err := bx.compare(ctx, n, &known)
	if err == nil {
		err = bx.apply(ctx, known)
	}
	if err != nil {
		bx.dirty.Store(true)
		if ctx.Err() == nil && !errors.Is(err, imap.NotFound) {
			bx.wakeIn(bx.retry.failed(now))
		}
		return err
	}
	bx.retry.reset()
	bx.last.Store(now.UnixNano())
	bx.seen.Store(n)
	return nil
}

func (bx *box) list(ctx context.Context) ([]Message, error) {
	info, virtual := bx.describe()
	if virtual {
		return nil, nil
	}
	listed, err := bx.b.model.Messages(ctx, bx.acct.user, info.Name)
	return listed, modelError("list mailbox "+info.Name, err)
}

// compare fills p with the difference between the box and the model.
func (bx *box) compare(ctx context.Context, look int64, p *plan) error {
	listed, err := bx.list(ctx)
	if err != nil {
		return err
	}
	same := 0
	fresh := map[string]bool{}
	for i := range listed {
		m := &listed[i]
		it := bx.byKey[m.Key]
		switch {
		case it != nil && it.seen == look || fresh[m.Key]:
			bx.b.opts.Log.Warn("the model lists a message twice", "user", bx.acct.user, "mailbox", bx.modelName(), "key", m.Key)
		case it == nil || it.version != m.Version || m.UID != 0 && m.UID != it.uid && m.UID != it.given:
			fresh[m.Key] = true
			p.added = append(p.added, *m)
		default:
			same++
			it.seen = look
			if bx.modelKeepsFlags() && (!it.listed || !slices.Equal(it.flags, m.Flags)) {
				p.flags = append(p.flags, flagChange{item: it, flags: slices.Clone(m.Flags)})
			}
		}
	}
	if same < len(bx.byKey) {
		for _, it := range bx.byKey {
			if it.seen != look {
				p.gone = append(p.gone, it)
			}
		}
	}
	return bx.measure(ctx, p)
}

// modelKeepsFlags reports whether the flags that the model lists are the
// truth; else they are what messages begin with.
func (bx *box) modelKeepsFlags() bool { return !bx.keepsFlags() }

// keepsFlags reports whether flags are kept here.
func (bx *box) keepsFlags() bool { return bx.b.parts.flagger == nil && bx.b.opts.KeepFlags }

// measure brings new messages into the order of their UIDs, where they have
// some, and finds the sizes that are not known.
func (bx *box) measure(ctx context.Context, p *plan) error {
	slices.SortStableFunc(p.added, func(x, y Message) int {
		switch {
		case x.UID == y.UID || x.UID == 0 && y.UID == 0:
			return 0
		case y.UID == 0 || x.UID != 0 && x.UID < y.UID:
			return -1
		}
		return 1
	})
	readable := p.added[:0]
	for _, m := range p.added {
		if m.Size <= 0 || m.HasNUL {
			if bx.knownBad(&m) {
				continue
			}
			text, err := bx.readModel(ctx, m.Key)
			switch {
			case errors.Is(err, imap.NotFound):
				continue // removed since it was listed
			case ctx.Err() != nil:
				return err
			case err != nil:
				bx.leaveOut(&m, err)
				continue
			}
			m.Size = servedSize(text)
		}
		readable = append(readable, m)
	}
	p.added = readable
	bx.tidyBad()
	return nil
}

// knownBad reports whether this version of a message could not be read, and it
// is too early to try again.
func (bx *box) knownBad(m *Message) bool {
	b := bx.bad[m.Key]
	if b == nil || b.version != m.Version {
		return false
	}
	if !b.until.IsZero() && !bx.b.opts.Clock().Before(b.until) {
		return false
	}
	b.seen = bx.looks.Load()
	return true
}

// leaveOut notes that a message cannot be read.
func (bx *box) leaveOut(m *Message, err error) {
	b := bx.bad[m.Key]
	if b == nil || b.version != m.Version {
		bx.b.opts.Log.Warn("a message cannot be read and is left out", "user", bx.acct.user, "mailbox", bx.modelName(), "key", m.Key, "err", err)
		b = &badMessage{version: m.Version}
		if bx.bad == nil {
			bx.bad = map[string]*badMessage{}
		}
		bx.bad[m.Key] = b
	}
	b.seen = bx.looks.Load()
	if errors.Is(err, imap.TooBig) {
		return // it stays as big as it is
	}
	wait := retryAfter(b.fails)
	b.fails++
	b.until = bx.b.opts.Clock().Add(wait)
	bx.wakeIn(wait)
}

// tidyBad forgets messages that have gone or can be read now, and finds out
// when one of the others is worth a try.
func (bx *box) tidyBad() {
	again := int64(0)
	for key, b := range bx.bad {
		if b.seen != bx.looks.Load() {
			delete(bx.bad, key)
		} else if at := b.until.UnixNano(); !b.until.IsZero() && (again == 0 || at < again) {
			again = at
		}
	}
	bx.again.Store(again)
}

// empty reports whether p changes nothing.
func (p *plan) empty() bool {
	return len(p.gone) == 0 && len(p.flags) == 0 && len(p.added) == 0 && p.meta == nil
}

// change is a plan as it will be published.
type change struct {
	next  *mailindex.Snapshot
	gone  imap.UIDSet
	added []*item
}

// apply makes a plan durable and publishes it. turn is held.
func (bx *box) apply(ctx context.Context, p plan) error {
	if p.empty() {
		return nil
	}
	c, err := bx.edit(&p)
	if err != nil {
		return err
	}
	if c.next != nil {
		if err := bx.commit(ctx, c); err != nil {
			return err
		}
	}
	bx.publish(&p, c)
	return nil
}

// edit makes the next snapshot; c.next is nil where it would not differ.
func (bx *box) edit(p *plan) (c change, err error) {
	old := bx.snap.Load()
	modseq := old.HighestModSeq() + 1
	ed := old.Edit()
	changed := false
	for _, it := range p.gone {
		if i, ok := old.Find(it.uid); ok {
			ed.Remove(i)
			c.gone.Add(it.uid)
			changed = true
		}
	}
	for _, f := range p.flags {
		i, ok := old.Find(f.item.uid)
		if id := ed.Intern(cleanFlags(f.flags)); ok && id != old.FlagsID(i) {
			ed.SetFlags(i, id, modseq)
			changed = true
		}
	}
	now := bx.b.opts.Clock()
	next := old.UIDNext()
	for i := range p.added {
		m := &p.added[i]
		uid := max(m.UID, next)
		if uid == math.MaxUint32 {
			return c, fmt.Errorf("imapmodel: mailbox %s has no UIDs left; give it another UIDVALIDITY", bx.modelName())
		}
		if m.UID != 0 && m.UID < next {
			uid = next
			bx.b.opts.Log.Warn("the model gives a new message a UID that is not greater than all before; it gets another one",
				"user", bx.acct.user, "mailbox", bx.modelName(), "key", m.Key, "uid", m.UID, "instead", uid)
		}
		next = uid + 1
		flags, given := p.begin[m.Key]
		if !given || bx.modelKeepsFlags() {
			flags = m.Flags
		}
		date := m.Date
		if date.IsZero() {
			date = now
		}
		it := &item{uid: uid, key: m.Key, version: m.Version, given: m.UID, flags: slices.Clone(m.Flags), listed: true, ids: p.ids[m.Key]}
		c.added = append(c.added, it)
		ed.Append(mailindex.Row{
			UID: uid, Flags: ed.Intern(cleanFlags(flags)), ModSeq: modseq,
			Size: uint32(min(m.Size, math.MaxUint32)), Date: imap.TimeOf(date), SaveDate: now.Unix(), Msg: uint64(uid),
		})
		changed = true
	}
	meta := ed.Meta()
	if changed {
		meta.HighestModSeq = modseq
	}
	if p.meta != nil {
		p.meta(meta)
		changed = true
	}
	if changed {
		c.next = ed.Commit()
	}
	return c, nil
}

// commit adds to the history and makes all durable.
func (bx *box) commit(ctx context.Context, c change) error {
	var before []byte
	if bx.b.state != nil && !c.gone.IsEmpty() {
		before, _ = bx.history.AppendBinary(nil) // never fails
	}
	bx.mu.Lock()
	bx.history.Add(c.next.HighestModSeq(), c.gone)
	bx.mu.Unlock()
	if bx.b.state == nil {
		return nil
	}
	err := bx.save(ctx, c.next, c.added)
	if err != nil && before != nil {
		bx.mu.Lock()
		defer bx.mu.Unlock()
		old := &mailindex.History{}
		if uerr := old.UnmarshalBinary(before); uerr != nil {
			return errors.Join(err, uerr)
		}
		bx.history = old
	}
	return err
}

// save makes a snapshot durable.
func (bx *box) save(ctx context.Context, snap *mailindex.Snapshot, added []*item) error {
	if bx.gone.Load() {
		return nil
	}
	data, err := bx.encode(snap, added)
	if err == nil {
		err = bx.b.state.Save(ctx, mailboxRecordName(bx.acct.user, bx.id), data)
	}
	if err != nil {
		return fmt.Errorf("imapmodel: save the state of mailbox %s of %s: %w", bx.modelName(), bx.acct.user, err)
	}
	return nil
}

// publish shows a change to all sessions.
func (bx *box) publish(p *plan, c change) {
	old := bx.snap.Load()
	bx.mu.Lock()
	for _, f := range p.flags {
		if !f.own {
			f.item.flags, f.item.listed = f.flags, true
		}
	}
	for _, it := range p.gone {
		if bx.byKey[it.key] == it {
			delete(bx.byKey, it.key)
		}
		delete(bx.byUID, it.uid)
		if len(bx.sessions) > 0 && c.next != nil {
			g := &ghost{item: it, modseq: c.next.HighestModSeq(), text: p.kept[it]}
			if i, ok := old.Find(it.uid); ok {
				row := old.Row(i)
				g.flags, g.date = old.Flags(row.Flags).List(), row.Date
			}
			bx.ghosts[it.uid] = g
			bx.b.ghostBytes.Add(int64(len(g.text)))
		}
	}
	for _, it := range c.added {
		it.seen = bx.looks.Load()
		bx.byKey[it.key] = it
		bx.byUID[it.uid] = it
	}
	if c.next != nil {
		bx.snap.Store(c.next)
	}
	bx.mu.Unlock()
	if c.next != nil {
		bx.wake()
	}
}

// cleanFlags returns the flags that a message can hold for good.
func cleanFlags(flags []imap.Flag) []imap.Flag {
	valid := func(f imap.Flag) bool { return f.Valid() && !imap.EqualFlag(f, imap.FlagRecent) }
	for _, f := range flags {
		if !valid(f) {
			return slices.DeleteFunc(slices.Clone(flags), func(f imap.Flag) bool { return !valid(f) })
		}
	}
	return flags
}

package mailstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// mend makes the records of the account agree with each other. Where they do,
// and nothing is doubtful, they stay as they are: history of expunges, graves
// and all.
func (a *accountRepair) mend(ctx context.Context) error {
	if a.orphans == nil {
		a.orphans = make(map[driver.Ref]string)
	}
	if a.doubt == "" && len(a.holes) == 0 && !a.resized {
		defects, err := a.checkIndex(ctx)
		if err != nil || len(defects) == 0 {
			return err
		}
		for _, d := range defects {
			a.note(RepairMended, d.Account, d.Mailbox, d.UID, "%s", d.Text)
		}
	}
	w, err := a.read(ctx)
	if err != nil {
		return err
	}
	f := &mending{a: a, w: w, held: make(map[uint64]uint64)}
	f.boxes()
	f.tree()
	f.rows()
	f.messages()
	f.account()
	return f.write(ctx)
}

// checkIndex checks the account's index without what is derived.
func (a *accountRepair) checkIndex(ctx context.Context) ([]Defect, error) {
	c := &checker{store: &Store{kv: a.kv, blobs: a.blobs}, num: a.num, user: a.user, underived: true}
	c.contents = func(context.Context) error { return nil }
	err := c.run(ctx)
	for _, m := range c.messages {
		for _, p := range c.placesOf(m.msg) {
			if p.size != m.size {
				c.found(p.node, p.uid, "has size %d, its message %d", p.size, m.size)
			}
		}
	}
	return c.defects, err
}

// mending makes records of a wreck.
type mending struct {
	a    *accountRepair
	w    *wreck
	list []*wreckBox       // mailboxes that there are, by number
	held map[uint64]uint64 // rows by message
	rec  accountRec
	out  []write
}

func (f *mending) set(key, value []byte) { f.out = append(f.out, write{key: key, value: value}) }

// boxes decides which mailboxes there are, and takes out what was expunged.
func (f *mending) boxes() {
	for _, b := range f.w.boxes {
		b.live(f.w)
		switch {
		case b.node != nil && !b.gone:
			f.list = append(f.list, b)
		case b.gone:
		case len(b.rows) > 0:
			f.a.note(RepairLost, f.a.user, "", 0, "the name of mailbox number %d is lost: its %d messages go to %s", b.num, len(b.rows), RecoveredMailbox)
			for _, row := range b.rows {
				f.orphan(row.Msg, fmt.Sprintf("its mailbox (number %d) is lost", b.num))
			}
		}
	}
	slices.SortFunc(f.list, func(x, y *wreckBox) int { return cmp.Compare(x.num, y.num) })
}

// orphan notes a message that has no place; a row elsewhere may still hold it.
func (f *mending) orphan(msg uint64, why string) {
	if rec, ok := f.w.messages[msg]; ok {
		f.a.orphans[rec.ref] = why
	}
}

// tree gives every mailbox a name of its own, a parent, and its own UIDVALIDITY.
func (f *mending) tree() {
	names := make(map[string]bool)
	uses := make(map[imap.MailboxAttr]bool)
	validities := make(map[imap.UIDValidity]bool)
	f.rec.uidValidity = f.w.rec.uidValidity
	for _, b := range f.list {
		if b.node.uidValidity <= latestClock+1<<23 {
			f.rec.uidValidity = max(f.rec.uidValidity, uint64(b.node.uidValidity))
		}
	}
	for _, b := range f.list {
		n := b.node
		if err := checkMailboxName("", n.name); err != nil && n.name != imap.Inbox {
			f.rename(b, fmt.Sprintf("%s-mailbox-%d", RecoveredMailbox, b.num), names)
		} else if names[n.name] {
			f.rename(b, fmt.Sprintf("%s-%d", n.name, b.num), names)
		}
		names[n.name] = true
		n.uses = slices.DeleteFunc(n.uses, func(u imap.MailboxAttr) bool {
			taken := uses[u.Canonical()]
			uses[u.Canonical()] = true
			return taken
		})
		if n.noSelect {
			continue
		}
		if validities[n.uidValidity] || n.uidValidity == 0 || uint64(n.uidValidity) > f.rec.uidValidity {
			b.doubt = cmp.Or(b.doubt, "its UIDVALIDITY is not its own")
		}
		validities[n.uidValidity] = true
	}
	for _, b := range slices.Clone(f.list) {
		f.parents(b.node.name, names)
	}
}

func (f *mending) rename(b *wreckBox, name string, names map[string]bool) {
	for names[name] {
		name += "x"
	}
	f.a.note(RepairMended, f.a.user, name, 0, "the mailbox was called %q before", b.node.name)
	b.node.name = name
}

// parents makes the parents of a mailbox that are missing.
func (f *mending) parents(name string, names map[string]bool) {
	for i := range len(name) {
		if name[i] != Separator || names[name[:i]] {
			continue
		}
		names[name[:i]] = true
		b := f.w.box(f.freeBox())
		b.node = &node{name: name[:i], num: b.num, noSelect: true}
		f.list = append(f.list, b)
	}
}

func (f *mending) freeBox() boxNum {
	n := boxNum(f.w.rec.nextBox)
	for num := range f.w.boxes {
		n = max(n, num)
	}
	return n + 1
}

// rows decides which rows stay, and counts them.
func (f *mending) rows() {
	for _, b := range f.list {
		if b.node.noSelect {
			for _, row := range b.rows {
				f.orphan(row.Msg, "its mailbox is only a parent")
			}
			b.rows = nil
			continue
		}
		if !b.counted {
			b.doubt = cmp.Or(b.doubt, "its counters are lost")
		}
		for _, uid := range b.uids() {
			f.row(b, b.rows[uid])
		}
		f.count(b)
	}
}

// row decides about one row.
func (f *mending) row(b *wreckBox, row mailindex.Row) {
	rec, ok := f.w.messages[row.Msg]
	if !ok || f.w.pending[row.Msg] {
		f.a.loss = true
		f.a.note(RepairLost, f.a.user, b.node.name, row.UID, "the record of its message is lost (%d bytes, %s)", row.Size, row.Date)
		delete(b.rows, row.UID)
		return
	}
	if _, ok := b.flags(row.Flags); !ok {
		list, _ := b.flags(row.Flags)
		f.a.note(RepairLost, f.a.user, b.node.name, row.UID, "its keywords are lost")
		row.Flags = b.encode(list)
	}
	if b.counted && row.UID >= b.c.uidNext {
		b.doubt = cmp.Or(b.doubt, "UIDs are beyond its UIDNEXT")
	}
	row.Size = uint32(min(rec.size, 1<<32-1))
	if row.ModSeq == 0 || row.ModSeq > b.highest {
		row.ModSeq = max(b.highest, 1)
	}
	b.rows[row.UID] = row
	f.held[row.Msg]++
}

// count counts what is in a mailbox.
func (f *mending) count(b *wreckBox) {
	old := b.c
	b.c = counters{uidNext: max(old.uidNext, 1), firstRecent: old.firstRecent}
	for uid := range b.rows {
		b.c.uidNext = max(b.c.uidNext, uid+1)
	}
	for _, set := range []imap.UIDSet{b.expunged, b.void, b.history} {
		if list := set.Ranges(); len(list) > 0 && list[len(list)-1].Stop < 1<<32-1 {
			b.c.uidNext = max(b.c.uidNext, list[len(list)-1].Stop+1)
		}
	}
	if b.c.firstRecent == 0 || b.c.firstRecent > b.c.uidNext {
		b.c.firstRecent = b.c.uidNext
	}
	// What clients know of expunges is compared anew: nothing is remembered.
	b.c.highest = b.highest + 1
	b.c.floor = b.c.highest
	for uid, row := range b.rows {
		b.c.count(uid, mailindex.FlagBits(b.codes.code(row.Flags)[0]), row.Size, 1)
	}
	if b.doubt != "" {
		f.renew(b)
	}
	for _, d := range b.defects {
		f.a.note(RepairMended, f.a.user, b.node.name, 0, "%s", d)
	}
	for _, d := range b.losses {
		f.a.note(RepairLost, f.a.user, b.node.name, 0, "%s", d)
	}
}

// renew gives a mailbox a UIDVALIDITY that it never had.
func (f *mending) renew(b *wreckBox) {
	b.node.uidValidity = f.rec.newUIDValidity(f.a.opts.Store.withDefaults().Now())
	f.a.note(RepairRenewed, f.a.user, b.node.name, 0, "a new UIDVALIDITY, and mail programs fetch anew: %s", b.doubt)
}

// messages decides which messages stay. One that no row holds, and that was not
// expunged, has no place.
func (f *mending) messages() {
	for msg, rec := range f.w.messages {
		switch {
		case f.held[msg] > 0:
			delete(f.a.orphans, rec.ref)
		case f.w.pending[msg]: // an APPEND that was never acknowledged
		case f.w.buried[msg]:
			delete(f.a.orphans, rec.ref)
			f.a.removed[rec.ref] = struct{}{}
		default:
			f.a.orphans[rec.ref] = cmp.Or(f.a.orphans[rec.ref], "no mailbox has it")
		}
	}
}

// account makes the account's own counters.
func (f *mending) account() {
	w := f.w
	f.rec.generation, f.rec.user = w.rec.generation+1, f.a.user
	f.rec.nextBox, f.rec.nextMsg = w.rec.nextBox, w.rec.nextMsg
	for num := range w.boxes {
		f.rec.nextBox = max(f.rec.nextBox, uint64(num))
	}
	for msg, rec := range w.messages {
		f.rec.nextMsg = max(f.rec.nextMsg, msg, rec.thread)
	}
	for _, b := range w.boxes {
		for _, row := range b.rows {
			f.rec.nextMsg = max(f.rec.nextMsg, row.Msg)
		}
	}
	if !f.a.mended && (f.a.doubt != "" || len(f.a.holes) > 0 || !w.recOK) {
		// Object identifiers may have been given out beyond these.
		f.rec.generation += 1 << 20
		f.rec.nextBox += idleMailboxes
		f.rec.nextMsg += idleMessages
	}
}

// write replaces the records of the account.
func (f *mending) write(ctx context.Context) error {
	f.set([]byte{keyAccount}, f.rec.encode())
	for _, b := range f.list {
		f.set(boxKey(keyBox, b.num), b.node.encode())
		if b.node.noSelect {
			continue
		}
		f.set(boxKey(keyCounters, b.num), b.c.encode())
		if len(b.kw.names) > 0 {
			f.set(boxKey(keyKeywords, b.num), b.kw.encode())
		}
		f.pages(b)
	}
	for msg, n := range f.held {
		f.set(numKey(keyMessage, msg), ptr(f.w.messages[msg]).encode())
		if n > 1 {
			f.set(numKey(keyRefs, msg), appendUints(nil, n))
		}
	}
	var ranges []keyRange
	for _, kind := range []byte{keyAccount, keyBox, keyCounters, keyKeywords, keyPage, keyLoose, keyHistory, keyGrave, keyStoring, keyMessage, keyRefs, keyPending} {
		ranges = append(ranges, keyRange{[]byte{kind}, []byte{kind + 1}})
	}
	for _, key := range f.w.spoilt {
		ranges = append(ranges, keyRange{key, append(slices.Clone(key), 0)})
	}
	if err := f.a.clear(ctx, ranges); err != nil {
		return err
	}
	if err := f.a.write(ctx, f.out); err != nil {
		return err
	}
	f.a.mended = true
	defects, err := f.a.checkIndex(ctx)
	if err != nil || len(defects) == 0 {
		return err
	}
	lines := make([]string, len(defects))
	for i, d := range defects {
		lines[i] = d.String()
	}
	return fmt.Errorf("the repair has failed, and nothing is changed; please report this: %s", strings.Join(lines, "; "))
}

func ptr[T any](v T) *T { return &v }

// pages writes the rows of a mailbox.
func (f *mending) pages(b *wreckBox) {
	var rows mailindex.Columns
	for _, uid := range b.uids() {
		row := b.rows[uid]
		rows.Push(&row)
	}
	t := &opTx{a: &account{store: &Store{opts: f.a.opts.Store.withDefaults()}}}
	t.putPages(b.num, &rows, b.codes.code)
	f.out = append(f.out, t.writes...)
}

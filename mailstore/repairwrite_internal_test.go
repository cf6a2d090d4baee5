package mailstore

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// mends decides about the account of a wreck as a repair does, but writes nothing.
func (x *wrecked) mends(change func(a *accountRepair)) (*mending, []string) {
	x.t.Helper()
	var notes []string
	a := &accountRepair{
		repair: &repair{res: &RepairResult{}, opts: RepairOptions{Note: func(n RepairNote) { notes = append(notes, string(n.Kind)+" "+n.Defect.String()) }}},
		user:   "ann", orphans: make(map[driver.Ref]string), removed: make(map[driver.Ref]struct{}),
	}
	x.w.recOK = true
	if change != nil {
		change(a)
	}
	f := &mending{a: a, w: x.w, held: make(map[uint64]uint64)}
	f.boxes()
	f.tree()
	f.rows()
	f.messages()
	f.account()
	return f, notes
}

// named gives mailbox 7 a record.
func (x *wrecked) named(name string, validity imap.UIDValidity) {
	x.nameBox(7, name, validity)
	x.w.rec = accountRec{generation: 40, uidValidity: 2000, nextBox: 9, nextMsg: 200}
}

func (x *wrecked) nameBox(num boxNum, name string, validity imap.UIDValidity) {
	n := node{name: name, num: num, uidValidity: validity}
	x.take(keyBox, boxKey(keyBox, num), n.encode())
}

// message adds the record of message 100+uid, in blob 1000+uid.
func (x *wrecked) message(uids ...imap.UID) {
	for _, uid := range uids {
		rec := messageRec{ref: driver.Ref(1000 + uid), size: 10, rawSize: 10, thread: 100 + uint64(uid)}
		x.take(keyMessage, numKey(keyMessage, 100+uint64(uid)), rec.encode())
	}
}

func (x *wrecked) equal(what string, got, want any) {
	x.t.Helper()
	if got != want {
		x.t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestMendMessages: which messages stay, have no place, or were expunged.
func TestMendMessages(t *testing.T) {
	x := newWrecked(t)
	x.named("INBOX", 1000)
	x.counted(6, 9)
	x.page(1, 5, 2)
	x.set(keyGrave, 5, 2)
	x.message(1, 2, 3, 5, 20, 30)
	x.take(keyPending, numKey(keyPending, 130), appendUints(nil, 1)) // message 30
	x.take(keyPending, numKey(keyPending, 105), appendUints(nil, 1)) // message 5
	x.nameBox(8, "Other", 1001)
	row := mailindex.Row{UID: 1, Msg: 103, Size: 10, ModSeq: 2}
	x.take(keyLoose, rowKey(nil, keyLoose, 8, 1), appendRow(nil, &row, []byte{0}))
	x.take(keyCounters, boxKey(keyCounters, 8), (&counters{uidNext: 2, highest: 3, firstRecent: 1}).encode())
	f, notes := x.mends(func(a *accountRepair) {
		// An earlier look has found no place for two that have one.
		a.orphans[1003], a.orphans[1002] = "earlier", "earlier"
	})
	x.equal("messages of INBOX", x.b.c.messages, uint64(2))
	if got := slices.Sorted(maps.Keys(f.held)); !slices.Equal(got, []uint64{101, 103}) || f.held[103] != 2 {
		t.Errorf("messages that stay: %v", f.held)
	}
	if got := slices.Sorted(maps.Keys(f.a.orphans)); !slices.Equal(got, []driver.Ref{1020}) {
		t.Errorf("messages without a place: %v", f.a.orphans)
	}
	if _, ok := f.a.removed[1002]; !ok || len(f.a.removed) != 1 {
		t.Errorf("messages that were expunged: %v", f.a.removed)
	}
	// UID 4 has no record, and that of UID 5 was never acknowledged.
	x.equal("rows whose records are lost", strings.Count(strings.Join(notes, "\n"), "the record of its message is lost"), 2)
	x.equal("records are missing", f.a.loss, true)
}

// TestMendCounters: UIDs and mod-sequences go on above all that was seen.
func TestMendCounters(t *testing.T) {
	x := newWrecked(t)
	x.named("INBOX", 1000)
	x.counted(6, 9)
	x.page(1, 5, 2)
	x.set(keyGrave, 5, 2)
	x.set(keyHistory, 8, 5)
	x.message(1, 2, 3, 4, 5)
	x.mends(nil)
	x.equal("UIDNEXT", x.b.c.uidNext, imap.UID(6))
	x.equal("HIGHESTMODSEQ", x.b.c.highest, imap.ModSeq(10))
	x.equal("the history begins", x.b.c.floor, imap.ModSeq(10))
	x.equal("UIDVALIDITY", x.b.node.uidValidity, imap.UIDValidity(1000))

	// What was expunged was given out, too: counters that are lost do not hide it.
	x = newWrecked(t)
	x.named("INBOX", 1000)
	x.page(1, 3, 2)
	x.set(keyGrave, 5, 3)
	x.set(keyHistory, 4, 12)
	x.message(1, 2, 3)
	x.mends(nil)
	x.equal("UIDNEXT without counters", x.b.c.uidNext, imap.UID(13))
	if x.b.node.uidValidity == 1000 {
		t.Error("UIDs above may have been given out, and the UIDVALIDITY is the old one")
	}

	// A UID beyond UIDNEXT: one of the two is wrong.
	x = newWrecked(t)
	x.named("INBOX", 1000)
	x.counted(3, 9)
	x.page(1, 3, 2)
	x.message(1, 2, 3)
	x.mends(nil)
	if x.b.node.uidValidity == 1000 || x.b.c.uidNext != 4 {
		t.Errorf("UIDNEXT %d, UIDVALIDITY %d", x.b.c.uidNext, x.b.node.uidValidity)
	}
}

// TestMendTree: names and values of UIDVALIDITY are a mailbox's own.
func TestMendTree(t *testing.T) {
	x := newWrecked(t)
	x.named("Work", 1000)
	x.counted(1, 1)
	for num, name := range map[boxNum]string{8: "Work", 9: "Deep/Below"} {
		x.nameBox(num, name, 1000)
		x.take(keyCounters, boxKey(keyCounters, num), (&counters{uidNext: 1, highest: 1, firstRecent: 1}).encode())
	}
	f, _ := x.mends(nil)
	names, validities := make(map[string]bool), make(map[imap.UIDValidity]bool)
	for _, b := range f.list {
		if names[b.node.name] || !b.node.noSelect && validities[b.node.uidValidity] {
			t.Errorf("%s with UIDVALIDITY %d is there twice", b.node.name, b.node.uidValidity)
		}
		names[b.node.name] = true
		validities[b.node.uidValidity] = true
		if b.node.uidValidity > imap.UIDValidity(f.rec.uidValidity) {
			t.Errorf("UIDVALIDITY %d is above the account's, %d", b.node.uidValidity, f.rec.uidValidity)
		}
	}
	if len(f.list) != 4 || !names["Deep"] || !names["Deep/Below"] || !names["Work"] {
		t.Errorf("mailboxes %v", names)
	}
}

// TestMendAccount: numbers that object identifiers are made of are not given out again.
func TestMendAccount(t *testing.T) {
	doubt := func(a *accountRepair) { a.doubt = "why" }
	for name, tc := range map[string]struct {
		change  func(*accountRepair)
		recOK   bool
		skipped bool
	}{
		"nothing is in doubt":           {nil, true, false},
		"all is in doubt":               {doubt, true, true},
		"a hole":                        {func(a *accountRepair) { a.holes = []keyRange{{[]byte{'y'}, []byte{'z'}}} }, true, true},
		"it was mended before":          {func(a *accountRepair) { a.doubt, a.mended = "why", true }, true, false},
		"its own record cannot be read": {nil, false, true},
	} {
		x := newWrecked(t)
		x.named("INBOX", 1000)
		x.counted(3, 9)
		x.page(1, 2, 2)
		x.message(1, 2, 900)
		f, _ := x.mends(func(a *accountRepair) {
			x.w.recOK = tc.recOK
			if tc.change != nil {
				tc.change(a)
			}
		})
		messages, boxes := uint64(1000), uint64(9)
		if tc.skipped {
			messages, boxes = messages+idleMessages, boxes+idleMailboxes
		}
		x.equal(name+": message numbers", f.rec.nextMsg, messages)
		x.equal(name+": mailbox numbers", f.rec.nextBox, boxes)
		if (f.rec.generation > 1<<20) != tc.skipped || f.rec.generation <= 40 {
			t.Errorf("%s: generation %d", name, f.rec.generation)
		}
		x.equal(name+": its name", f.rec.user, "ann")
	}
}

// TestMendDeleted: a mailbox that was deleted stays deleted; one whose name is lost has
// its messages in Recovered.
func TestMendDeleted(t *testing.T) {
	x := newWrecked(t)
	x.named("Gone", 1000)
	x.counted(3, 9)
	x.page(1, 2, 2)
	x.message(1, 2)
	x.take(keyGrave, modseqKey(keyGrave, 7, imap.MaxModSeq), mailindex.AppendUIDSet(nil, imap.UIDSetOf(1, 2)))
	f, _ := x.mends(nil)
	if len(f.list) != 0 || len(f.a.orphans) != 0 || len(f.a.removed) != 2 {
		t.Errorf("a deleted mailbox: %d mailboxes, without a place %v, expunged %v", len(f.list), f.a.orphans, f.a.removed)
	}

	x = newWrecked(t)
	x.counted(3, 9)
	x.page(1, 2, 2)
	x.message(1, 2)
	f, notes := x.mends(nil)
	if len(f.list) != 0 || len(f.a.orphans) != 2 || len(f.a.removed) != 0 || len(notes) != 1 {
		t.Errorf("a mailbox without a name: %d mailboxes, without a place %v, expunged %v, told %v", len(f.list), f.a.orphans, f.a.removed, notes)
	}
}

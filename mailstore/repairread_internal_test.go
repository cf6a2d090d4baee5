package mailstore

import (
	"slices"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
)

// wrecked is a mailbox of a wreck, filled by hand.
type wrecked struct {
	t *testing.T
	w *wreck
	b *wreckBox
}

func newWrecked(t *testing.T) *wrecked {
	w := &wreck{boxes: make(map[boxNum]*wreckBox), messages: make(map[uint64]messageRec), pending: make(map[uint64]bool), buried: make(map[uint64]bool)}
	return &wrecked{t, w, w.box(7)}
}

func (x *wrecked) take(kind byte, key, value []byte) {
	x.t.Helper()
	if err := x.w.take(kind, key, value); err != nil {
		x.t.Fatal(err)
	}
}

// loose adds a row with a record of its own: message 100+uid, with the flags given.
func (x *wrecked) loose(uid imap.UID, modseq imap.ModSeq, bits mailindex.FlagBits) {
	row := mailindex.Row{UID: uid, Msg: 100 + uint64(uid), Size: 10, ModSeq: modseq}
	x.take(keyLoose, rowKey(nil, keyLoose, 7, uid), appendRow(nil, &row, []byte{byte(bits)}))
}

// page adds a page with rows from one UID to another.
func (x *wrecked) page(from, to imap.UID, modseq imap.ModSeq) {
	var rows mailindex.Columns
	var c codes
	for uid := from; uid <= to; uid++ {
		rows.Push(&mailindex.Row{UID: uid, Msg: 100 + uint64(uid), Size: 10, ModSeq: modseq, Flags: c.intern([]byte{0})})
	}
	x.take(keyPage, rowKey(nil, keyPage, 7, to), appendPage(nil, &rows, c.code))
}

func (x *wrecked) set(kind byte, modseq imap.ModSeq, uids ...imap.UID) {
	x.take(kind, modseqKey(kind, 7, modseq), mailindex.AppendUIDSet(nil, imap.UIDSetOf(uids...)))
}

func (x *wrecked) counted(next imap.UID, highest imap.ModSeq) {
	c := counters{uidNext: next, highest: highest, firstRecent: 1}
	x.take(keyCounters, boxKey(keyCounters, 7), c.encode())
}

// want compares what is left after live.
func (x *wrecked) want(uids ...imap.UID) {
	x.t.Helper()
	x.b.live(x.w)
	if got := x.b.uids(); !slices.Equal(got, uids) {
		x.t.Errorf("the rows are %v, want %v", got, uids)
	}
	for _, uid := range []imap.UID{1, 2, 3, 4} {
		_, there := x.b.rows[uid]
		if buried := x.w.buried[100+uint64(uid)]; buried && there {
			x.t.Errorf("UID %d is there, and its message is taken for expunged", uid)
		}
	}
}

// TestWreckExpunged: which rows of a wreck were expunged.
func TestWreckExpunged(t *testing.T) {
	t.Run("rows in graves", func(t *testing.T) {
		x := newWrecked(t)
		x.counted(5, 9)
		x.page(1, 4, 2)
		x.set(keyGrave, 5, 2, 3)
		x.want(1, 4)
		if !x.w.buried[102] || !x.w.buried[103] || x.w.buried[101] {
			t.Errorf("expunged are %v", x.w.buried)
		}
	})
	t.Run("rows that are remembered as expunged, in order", func(t *testing.T) {
		x := newWrecked(t)
		x.counted(5, 9)
		x.page(1, 4, 2)
		x.set(keyHistory, 5, 2) // a record that says nonsense: nothing is lost by it
		x.want(1, 2, 3, 4)
	})
	t.Run("rows that may be older than the history", func(t *testing.T) {
		x := newWrecked(t)
		x.counted(5, 9)
		x.page(1, 4, 2)
		x.set(keyHistory, 5, 2)
		x.b.doubt = "a hole"
		x.want(1, 3, 4)
	})
	t.Run("a grave that cannot be read", func(t *testing.T) {
		x := newWrecked(t)
		x.counted(5, 9)
		x.page(1, 4, 2)
		x.set(keyHistory, 5, 2)
		x.take(keyGrave, modseqKey(keyGrave, 7, 5), []byte{0xff, 0xff})
		x.want(1, 3, 4)
		if len(x.b.defects) != 1 {
			t.Errorf("defects %v", x.b.defects)
		}
	})
	t.Run("a history that cannot be read", func(t *testing.T) {
		x := newWrecked(t)
		x.counted(5, 9)
		x.page(1, 4, 2)
		x.set(keyHistory, 5, 2)
		x.take(keyHistory, modseqKey(keyHistory, 7, 6), []byte{0xff, 0xff})
		x.want(1, 2, 3, 4)
	})
	t.Run("a mailbox that was deleted", func(t *testing.T) {
		x := newWrecked(t)
		x.counted(5, 9)
		x.page(1, 2, 2)
		x.take(keyGrave, modseqKey(keyGrave, 7, imap.MaxModSeq), mailindex.AppendUIDSet(nil, imap.UIDSetOf(1)))
		x.want()
		if !x.w.buried[102] {
			t.Error("its messages are not taken for expunged")
		}
		if x.b.highest > 9 {
			t.Errorf("the mod-sequence is %d", x.b.highest)
		}
	})
	t.Run("a row that was taken away", func(t *testing.T) {
		x := newWrecked(t)
		x.counted(5, 9)
		x.page(1, 4, 2)
		x.take(keyLoose, rowKey(nil, keyLoose, 7, 3), nil)
		x.want(1, 2, 4)
	})
}

// TestWreckRows: of two rows with one UID the younger counts, and changes of flags
// that a crash interrupted are completed.
func TestWreckRows(t *testing.T) {
	x := newWrecked(t)
	x.counted(9, 9)
	x.page(1, 4, 5)
	x.page(3, 5, 3)
	if got := x.b.rows[3].ModSeq; got != 5 {
		t.Errorf("the row with mod-sequence %d is taken, want the younger one, 5", got)
	}
	x.page(4, 6, 7)
	if got := x.b.rows[4].ModSeq; got != 7 {
		t.Errorf("the row with mod-sequence %d is taken, want the younger one, 7", got)
	}
	if len(x.b.defects) == 0 {
		t.Error("that UIDs are there twice is not told")
	}

	x = newWrecked(t)
	x.counted(5, 9)
	x.loose(1, 3, mailindex.BitSeen)
	x.loose(2, 9, 0)
	x.loose(3, 3, 0)
	value := appendUints(nil, uint64(FlagsAdd), 1)
	value = appendString(value, string(imap.FlagFlagged))
	x.take(keyStoring, modseqKey(keyStoring, 7, 8), mailindex.AppendUIDSet(value, imap.UIDSetOf(1, 2)))
	x.b.live(x.w)
	for uid, want := range map[imap.UID][]imap.Flag{1: {imap.FlagFlagged, imap.FlagSeen}, 2: nil, 3: nil} {
		got, ok := x.b.flags(x.b.rows[uid].Flags)
		slices.Sort(got)
		slices.Sort(want)
		if !ok || !slices.Equal(got, want) {
			t.Errorf("UID %d has %v, want %v: 2 is younger than the change, 3 is not of it", uid, got, want)
		}
	}
	if x.b.rows[1].ModSeq != 8 {
		t.Errorf("UID 1 has mod-sequence %d", x.b.rows[1].ModSeq)
	}
}

// TestWreckModSeq: a mod-sequence that was never given out does not use up the rest.
func TestWreckModSeq(t *testing.T) {
	x := newWrecked(t)
	x.counted(5, 9)
	x.loose(1, imap.MaxModSeq-1, 0)
	x.loose(2, 12, 0)
	if x.b.highest != 12 {
		t.Errorf("the mod-sequence is %d, want 12", x.b.highest)
	}
}

// TestWreckHoles: mailboxes that a hole of the index touches are in doubt, others not.
func TestWreckHoles(t *testing.T) {
	for _, kind := range []byte{keyBox, keyCounters, keyPage, keyLoose, keyHistory, keyGrave} {
		x := newWrecked(t)
		x.w.recOK = true
		other := x.w.box(8)
		a := &accountRepair{holes: []keyRange{{boxKey(kind, 7), boxKey(kind, 8)}}}
		a.touched(x.w)
		if x.b.doubt == "" || other.doubt != "" {
			t.Errorf("a hole in %c: mailbox 7 is in doubt %q, 8 %q", kind, x.b.doubt, other.doubt)
		}
		if !x.w.recOK {
			t.Errorf("a hole in %c: the account's record is not trusted", kind)
		}
	}
	x := newWrecked(t)
	x.w.recOK = true
	a := &accountRepair{holes: []keyRange{{[]byte{keyAccount}, []byte{keyAccount + 1}}}, doubt: "why"}
	a.touched(x.w)
	if x.w.recOK || x.b.doubt != "why" {
		t.Errorf("a hole at the account's record, in doubt: %v, %q", x.w.recOK, x.b.doubt)
	}
	x.b.doubt, a.mended = "", true
	a.touched(x.w)
	if x.b.doubt != "" {
		t.Error("a mailbox that has a new UIDVALIDITY is in doubt again")
	}
}

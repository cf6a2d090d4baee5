package mailstore

import (
	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
)

// boxEdit changes one mailbox within an op: its rows on disk, its counters,
// and its index where that is in memory.
type boxEdit struct {
	t      *opTx
	num    boxNum
	node   *node
	c      counters
	kw     *keywords
	base   *mailindex.Snapshot // nil where the rows are not in memory
	ed     *mailindex.Editor   // where base is nil it only interns flags
	modseq imap.ModSeq         // of whatever this op changes here
	codes  map[mailindex.FlagsID][]byte
	oldKW  *keywords
	use    *keywordUse // at the limit of keywords
	loose  uint64      // loose records written

	storings int // that the mailbox has

	reflagged bool // flags of rows have changed

	lastSet *mailindex.FlagSet // what intern was last asked for
	lastID  mailindex.FlagsID
}

// edit begins a change of a mailbox. With rows set its index is read first
// where it is not in memory.
func (t *opTx) edit(num boxNum, rows bool) (*boxEdit, error) {
	st, n := t.state(num), t.tree.byNum[num]
	if st == nil || n == nil {
		return nil, imap.NotFound
	}
	if rows && st.snap == nil {
		snap, err := readRows(t.b.tx, num, n.uidValidity, st)
		if err != nil {
			return nil, err
		}
		loaded := *st
		loaded.snap = snap
		st = &loaded
		t.change(num, st)
	}
	e := &boxEdit{
		t: t, num: num, node: n, c: st.c, kw: st.kw, oldKW: st.kw, base: st.snap,
		modseq: st.c.highest + 1, storings: st.storings,
	}
	if e.base != nil {
		e.ed = e.base.Edit()
	} else {
		e.ed = mailindex.New(st.c.meta(n.uidValidity), st.kw.names).Edit()
	}
	return e, nil
}

// selectable returns the number of a mailbox that can hold messages.
func (t *opTx) selectable(name string) (boxNum, error) {
	n := t.tree.byName[name]
	if n == nil {
		return 0, imap.NotFound
	}
	if n.noSelect {
		return 0, &imap.Error{Kind: imap.NotFound, Text: "the mailbox is only a parent and cannot hold messages"}
	}
	return n.num, nil
}

// code returns flags as they stand in a row.
func (e *boxEdit) code(id mailindex.FlagsID) ([]byte, error) {
	if code, ok := e.codes[id]; ok {
		return code, nil
	}
	set := e.ed.Flags(id)
	if err := e.addKeywords(set); err != nil {
		return nil, err
	}
	code := e.kw.appendFlags(nil, set)
	if e.codes == nil {
		e.codes = make(map[mailindex.FlagsID][]byte)
	}
	e.codes[id] = code
	return code, nil
}

// addKeywords gives numbers to keywords that the mailbox lacks.
func (e *boxEdit) addKeywords(set *mailindex.FlagSet) (err error) {
	kw := e.kw.with(set)
	if len(set.Keywords()) == 0 || e.use == nil && len(kw.names) <= e.t.a.store.opts.MaxKeywords {
		e.kw = kw
		return nil
	}
	if kw, err = e.fitKeywords(kw, []*mailindex.FlagSet{set}); err == nil {
		e.kw = kw
	}
	return err
}

// putRow writes a loose row to disk.
func (e *boxEdit) putRow(r *mailindex.Row) error {
	code, err := e.code(r.Flags)
	if err != nil {
		return err
	}
	e.t.putLoose(e.num, r, code)
	e.loose++
	return nil
}

// putRows writes rows to disk that are new there, in a row of UIDs that no page
// has: as pages where they are enough to fill them somewhat.
func (e *boxEdit) putRows(rows *mailindex.Columns) error {
	n := rows.Len()
	if n < e.t.a.store.bulkRows() {
		for i := range n {
			row := rows.Row(i)
			if err := e.putRow(&row); err != nil {
				return err
			}
		}
		return nil
	}
	for i, id := range rows.Flags {
		if i > 0 && id == rows.Flags[i-1] {
			continue
		}
		if _, err := e.code(id); err != nil {
			return err
		}
	}
	e.t.putPages(e.num, rows, e.known)
	return nil
}

// known returns flags as they stand in a row, which code has been asked for.
func (e *boxEdit) known(id mailindex.FlagsID) []byte { return e.codes[id] }

// countLoose notes how many loose records have been written, where nothing
// else about the mailbox has changed.
func (t *opTx) countLoose(num boxNum, n uint64) {
	st := t.state(num)
	if st == nil || n == 0 {
		return
	}
	next := *st
	next.c.loose += n
	t.setCounters(num, &next)
}

// nextUID gives out a UID.
func (e *boxEdit) nextUID() (imap.UID, error) {
	uid := e.c.uidNext
	if uid == 1<<32-1 {
		return 0, errNoUIDs()
	}
	e.c.uidNext++
	return uid, nil
}

func errNoUIDs() error {
	return &imap.Error{Kind: imap.Limit, Text: "the mailbox has no UIDs left: move its messages to a new one"}
}

// show adds a row, which is on disk already, to counters and index.
func (e *boxEdit) show(r *mailindex.Row) {
	e.c.count(r.UID, e.ed.Flags(r.Flags).Bits(), r.Size, 1)
	if e.base != nil {
		e.ed.Append(*r)
	}
}

// setFlags changes the flags of n rows from position i of base on, in memory
// only; done counts anew.
func (e *boxEdit) setFlags(i, n int, id mailindex.FlagsID) {
	e.ed.SetFlagsRun(i, n, id, e.modseq)
	e.reflagged = true
}

// expunge removes the rows at positions of base: they leave the counters and
// the index, and go to a grave that keeps their messages readable.
func (e *boxEdit) expunge(positions []int) error {
	if len(positions) == 0 {
		return nil
	}
	first := e.modseq
	parts := e.t.a.store.graveParts(e.remove(positions))
	for i, uids := range parts {
		e.modseq = first + imap.ModSeq(i)
		e.t.dig(e.num, e.modseq, uids)
	}
	return e.remember(first, parts)
}

// expungeDug is expunge where the graves are on disk already: see largeExpunge.
func (e *boxEdit) expungeDug(positions []int, x *largeExpunge) error {
	if uids := e.remove(positions); !uids.Equal(x.uids) {
		return errChanged
	}
	for i := range x.parts {
		e.modseq = x.first + imap.ModSeq(i)
		e.t.graves = append(e.t.graves, grave{e.num, e.modseq})
	}
	return e.remember(x.first, x.parts)
}

// remove takes the rows at positions of base out of counters and index, and
// returns their UIDs.
func (e *boxEdit) remove(positions []int) (uids imap.UIDSet) {
	for _, i := range positions {
		r := e.base.Row(i)
		uids.Add(r.UID)
		e.c.count(r.UID, e.ed.Flags(r.Flags).Bits(), r.Size, -1)
		e.ed.Remove(i)
	}
	return uids
}

// remember notes in the history that parts were expunged, the first of them at
// the mod-sequence first, the next at the next. Of more than the history may have
// it notes the end, and forgets what was before.
func (e *boxEdit) remember(first imap.ModSeq, parts []imap.UIDSet) error {
	limit, total, from := e.t.a.store.opts.HistoryRanges, 0, len(parts)
	for from > 0 && (from == len(parts) || total+len(parts[from-1].Ranges()) <= limit) {
		from--
		total += len(parts[from].Ranges())
	}
	if from > 0 {
		e.t.deleteRange(boxKey(keyHistory, e.num), modseqKey(keyHistory, e.num, first))
		e.c.historyRanges, e.c.floor = 0, first+imap.ModSeq(from)-1
	}
	for i, uids := range parts[from:] {
		e.t.set(modseqKey(keyHistory, e.num, first+imap.ModSeq(from+i)), mailindex.AppendUIDSet(nil, uids))
	}
	e.c.historyRanges += uint64(total)
	return e.trimHistory()
}

// trimHistory forgets the oldest expunges where there are too many.
func (e *boxEdit) trimHistory() error {
	limit := uint64(e.t.a.store.opts.HistoryRanges)
	if e.c.historyRanges <= limit {
		return nil
	}
	return scanPrefix(e.t.b.tx, boxKey(keyHistory, e.num), func(key, value []byte) error {
		if e.c.historyRanges <= limit*3/4 {
			return nil
		}
		set, _, err := mailindex.ReadUIDSet(value)
		if err != nil {
			return err
		}
		e.c.historyRanges -= min(e.c.historyRanges, uint64(len(set.Ranges())))
		e.c.floor = max(e.c.floor, imap.ModSeq(numOfKey(key)))
		e.t.delete(append([]byte(nil), key...))
		return nil
	})
}

// touch says that something has changed, and gives it the mod-sequence.
func (e *boxEdit) touch() { e.c.highest = e.modseq }

// done ends the change: counters and keywords are written, the new state is
// what later ops see.
func (e *boxEdit) done() {
	if e.kw != e.oldKW {
		e.t.set(boxKey(keyKeywords, e.num), e.kw.encode())
	}
	e.c.loose += e.loose
	st := &boxState{c: e.c, kw: e.kw, storings: e.storings}
	if e.base != nil {
		*e.ed.Meta() = e.c.meta(e.node.uidValidity)
		st.snap = e.ed.Commit()
	}
	if e.reflagged {
		st.c.unseen, st.c.deleted = uint64(st.snap.Unseen()), uint64(st.snap.Deleted())
		st.c.delSize = st.snap.DeletedSize()
	}
	e.t.setCounters(e.num, st)
}

// grave names expunged rows whose messages are still kept.
type grave struct {
	box    boxNum
	modseq imap.ModSeq
}

// dig records that the rows of uids are no longer in a mailbox. The reaper
// takes them away when nobody can read them any more.
func (t *opTx) dig(box boxNum, modseq imap.ModSeq, uids imap.UIDSet) {
	t.set(modseqKey(keyGrave, box, modseq), mailindex.AppendUIDSet(nil, uids))
	t.graves = append(t.graves, grave{box, modseq})
}

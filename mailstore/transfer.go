package mailstore

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
)

// CopyResult is the outcome of a Copy or Move: Source[i] became Dest[i].
type CopyResult struct {
	UIDValidity imap.UIDValidity // of the destination
	Source      []imap.UID
	Dest        []imap.UID
}

// Copy copies messages to another mailbox or the same one, all or none. UIDs
// that have been expunged are copied where this session can still read them,
// else skipped. Kind NotFound where dest is missing.
func (m *Mailbox) Copy(ctx context.Context, uids imap.UIDSet, dest string) (*CopyResult, error) {
	return m.transfer(ctx, &transfer{a: m.a, src: m.box.num, uids: uids, dest: dest, ghostsAfter: imap.ModSeq(m.released.Load())})
}

// Move moves messages to another mailbox or the same one, all or none, in one
// step. UIDs that are gone are skipped. Kind NotFound where dest is missing.
func (m *Mailbox) Move(ctx context.Context, uids imap.UIDSet, dest string) (*CopyResult, error) {
	return m.transfer(ctx, &transfer{a: m.a, src: m.box.num, uids: uids, dest: dest, move: true})
}

func (m *Mailbox) transfer(ctx context.Context, tr *transfer) (*CopyResult, error) {
	if err := tr.submit(ctx); err != nil {
		return nil, imap.E("mailstore: copy from "+m.name+" to "+tr.dest, imap.Other, err)
	}
	return &tr.res, nil
}

// transfer is a copy or a move on its way.
type transfer struct {
	a           *account
	src         boxNum
	uids        imap.UIDSet
	all         bool // in place of uids
	move        bool
	ghostsAfter imap.ModSeq // copy what was expunged after it, too
	dest        string
	create      bool // make dest

	saved int64 // when the rows were saved: the same in memory and on disk, and in each part
	res   CopyResult
}

func (tr *transfer) submit(ctx context.Context) error {
	tr.saved = unixNow(tr.a.store.now())
	err := tr.a.submit(ctx, &op{weight: 50_000, run: tr.run, large: tr.large})
	if err == nil && tr.move {
		tr.a.reap()
	}
	return err
}

// sourceRow is a row to be transferred.
type sourceRow struct {
	mailindex.Row
	set      *mailindex.FlagSet
	position int // in the source, -1 for a ghost
}

// rows returns what is to be transferred, in the order of UIDs.
func (tr *transfer) rows(t *opTx, e *boxEdit) ([]sourceRow, error) {
	uids := tr.uids
	if tr.all {
		uids = imap.UIDSetOfRange(1, 1<<32-1)
	}
	var list []sourceRow
	for _, r := range uids.Ranges() {
		i, _ := e.base.Find(r.Start)
		for ; i < e.base.Len(); i++ {
			row := e.base.Row(i)
			if row.UID > r.Stop {
				break
			}
			list = append(list, sourceRow{row, e.base.Flags(row.Flags), i})
		}
	}
	if tr.move || uint64(len(list)) == uids.Len() {
		return list, nil
	}
	ghosts, err := tr.ghosts(t, e, uids)
	if len(ghosts) > 0 {
		list = append(list, ghosts...)
		slices.SortFunc(list, func(a, b sourceRow) int { return int(int64(a.UID) - int64(b.UID)) })
	}
	return list, err
}

// ghosts returns the rows of uids that were expunged lately.
func (tr *transfer) ghosts(t *opTx, e *boxEdit, uids imap.UIDSet) ([]sourceRow, error) {
	var sets []imap.UIDSet
	from := modseqKey(keyGrave, tr.src, tr.ghostsAfter+1)
	err := scanRange(t.b.tx, from, prefixEnd(boxKey(keyGrave, tr.src)), func(_, value []byte) error {
		set, _, err := mailindex.ReadUIDSet(value)
		sets = append(sets, set.Intersect(uids))
		return err
	})
	if err != nil {
		return nil, err
	}
	gone := mailindex.UnionAll(sets)
	if gone.IsEmpty() {
		return nil, nil
	}
	var list []sourceRow
	var codes codes
	reader := rowReader{r: t.b.tx, box: tr.src, intern: codes.number}
	err = reader.visit(gone, func(u *unit, rows []int) error {
		for _, i := range rows {
			row := u.rows.Row(i)
			flags, err := e.kw.decodeFlags(codes.code(row.Flags))
			if err != nil {
				return err
			}
			row.Flags = e.ed.Intern(flags)
			list = append(list, sourceRow{row, e.ed.Flags(row.Flags), -1})
		}
		return nil
	})
	return list, err
}

// target finds or makes the destination.
func (tr *transfer) target(t *opTx, reserved boxNum) (boxNum, error) {
	if !tr.create {
		return t.selectable(tr.dest)
	}
	if t.tree.byName[tr.dest] != nil {
		return 0, imap.Exists // also where it is only a parent, as with any RENAME
	}
	var n *node
	err := t.createParents(tr.dest)
	if err == nil && reserved != 0 {
		n, err = t.createNumbered(tr.dest, nil, reserved)
	} else if err == nil {
		n, err = t.createBox(tr.dest, nil)
	}
	if err != nil {
		return 0, err
	}
	return n.num, nil
}

func (tr *transfer) run(t *opTx) error {
	// The index is read before anything is written by this op.
	src, err := t.edit(tr.src, true)
	if err != nil {
		return err
	}
	rows, err := tr.rows(t, src)
	if err != nil {
		return err
	}
	num, err := tr.target(t, 0)
	if err != nil {
		return err
	}
	if len(rows) > t.a.store.opts.TxnRows {
		return errLarge
	}
	dst := src
	if num != tr.src {
		if dst, err = t.edit(num, false); err != nil {
			return err
		}
	}
	first, err := dst.takeUIDs(len(rows))
	if err != nil {
		return err
	}
	if err := tr.writeCopies(t, dst, rows, first); err != nil {
		return err
	}
	return tr.finish(src, dst, rows, first, nil)
}

// writeCopies writes rows of the destination, and counts their messages.
func (tr *transfer) writeCopies(t *opTx, dst *boxEdit, rows []sourceRow, first imap.UID) error {
	cols := mailindex.NewColumns(len(rows))
	for i := range rows {
		row := rows[i].Row
		row.UID, row.ModSeq, row.SaveDate = first+imap.UID(i), dst.modseq, tr.saved
		row.Flags = dst.intern(&rows[i])
		cols.Set(i, &row)
	}
	if err := dst.putRows(&cols); err != nil {
		return err
	}
	return t.hold(rows)
}

// intern returns the id of a foreign row's flags.
func (e *boxEdit) intern(r *sourceRow) mailindex.FlagsID {
	if e.lastSet == r.set {
		return e.lastID
	}
	e.lastSet, e.lastID = r.set, e.ed.Intern(r.set.List())
	return e.lastID
}

// hold counts one more row for the message of each row.
func (t *opTx) hold(rows []sourceRow) error {
	if len(rows) == 0 {
		return nil
	}
	msgs := make([]uint64, len(rows))
	for i := range rows {
		msgs[i] = rows[i].Msg
	}
	slices.Sort(msgs)
	counts := make(map[uint64]uint64)
	span := msgs[len(msgs)-1] - msgs[0]
	dense := len(msgs) > 16 && span < 16*uint64(len(msgs))
	if dense {
		// One scan is cheaper than many look-ups.
		err := scanRange(t.b.tx, numKey(keyRefs, msgs[0]), numKey(keyRefs, msgs[len(msgs)-1]+1), func(key, value []byte) error {
			d := decoder{data: value}
			counts[numOfKey(key)] = d.uint()
			return d.err("reference count")
		})
		if err != nil {
			return err
		}
	}
	for i := 0; i < len(msgs); {
		n := i
		for n < len(msgs) && msgs[n] == msgs[i] {
			n++
		}
		count, ok := counts[msgs[i]]
		if !ok {
			count = 1
			if !dense {
				var err error
				if count, err = t.holders(msgs[i]); err != nil {
					return err
				}
			}
		}
		t.set(numKey(keyRefs, msgs[i]), appendUints(nil, count+uint64(n-i)))
		i = n
	}
	return nil
}

// holders returns the number of rows that hold a message.
func (t *opTx) holders(msg uint64) (uint64, error) {
	data, ok, err := t.get(numKey(keyRefs, msg))
	if err != nil || !ok {
		return 1, err
	}
	d := decoder{data: data}
	return d.uint(), d.err("reference count")
}

// finish shows the rows in the destination and, when moving, takes them out of
// the source, with graves that are on disk already unless they are nil.
func (tr *transfer) finish(src, dst *boxEdit, rows []sourceRow, first imap.UID, graves *largeExpunge) error {
	tr.res = CopyResult{UIDValidity: dst.node.uidValidity, Source: make([]imap.UID, len(rows)), Dest: make([]imap.UID, len(rows))}
	positions := make([]int, 0, len(rows))
	for i := range rows {
		row := rows[i].Row
		tr.res.Source[i], tr.res.Dest[i] = row.UID, first+imap.UID(i)
		positions = append(positions, rows[i].position)
		row.UID, row.ModSeq, row.SaveDate, row.Flags = tr.res.Dest[i], dst.modseq, tr.saved, dst.intern(&rows[i])
		dst.show(&row)
	}
	if len(rows) == 0 {
		return nil
	}
	dst.touch()
	if tr.move {
		err := error(nil)
		if graves != nil {
			err = src.expungeDug(positions, graves)
		} else {
			err = src.expunge(positions)
		}
		if err != nil {
			return err
		}
		src.touch()
		if dst != src {
			src.done()
		}
	}
	dst.done()
	return nil
}

// staging is a large transfer between its first and its last transaction.
type staging struct {
	rows  []sourceRow
	first imap.UID  // UID of the first row in the destination
	hole  grave     // the grave that is dug for the rows
	kw    *keywords // of the destination in the end
	fresh bool      // the destination does not exist yet
	loose uint64    // rows that were written loose

	graves *largeExpunge // of the source, where they are too large for the last transaction
}

// large makes the transfer in several transactions. The rows of the
// destination are written first, under UIDs that nobody sees yet and with a
// grave dug for them, so that whatever a crash leaves is taken away; so are, where
// very many ranges of UIDs are moved, the graves of the source; the last
// transaction fills in the grave and shows everything at once.
func (tr *transfer) large() error {
	var st staging
	err := tr.step(false, func(t *opTx) (err error) {
		st, err = tr.stage(t)
		return err
	})
	if err != nil {
		return err
	}
	limit := tr.a.store.opts.TxnRows
	for from := 0; from < len(st.rows); {
		chunk := st.rows[from:min(from+limit, len(st.rows))]
		var loose uint64
		err := tr.step(false, func(t *opTx) error {
			dst := &boxEdit{t: t, num: st.hole.box, modseq: st.hole.modseq, kw: st.kw, oldKW: st.kw, codes: make(map[mailindex.FlagsID][]byte)}
			dst.ed = mailindex.New(mailindex.Meta{}, st.kw.names).Edit()
			err := tr.writeCopies(t, dst, chunk, st.first+imap.UID(from))
			loose = dst.loose
			return err
		})
		switch {
		case err == nil:
			from += len(chunk)
			st.loose += loose
		case errors.Is(err, errLarge) && limit > 1:
			limit /= 2 // rows with many keywords
		default:
			tr.a.reap()
			return err
		}
	}
	if !tr.move {
		return tr.step(true, func(t *opTx) error { return tr.unveil(t, &st) })
	}
	if err := tr.digLarge(&st); err != nil {
		tr.a.reap()
		return err
	}
	if st.graves == nil {
		return tr.step(true, func(t *opTx) error { return tr.unveil(t, &st) })
	}
	return tr.a.finishLarge(st.graves, func(t *opTx) error { return tr.unveil(t, &st) })
}

// digLarge writes the graves of what is moved, where they are too large for the
// last transaction.
func (tr *transfer) digLarge(st *staging) error {
	src := tr.a.working.boxes[tr.src]
	if src == nil || src.snap == nil {
		return errChanged
	}
	positions := make([]int, len(st.rows))
	for i := range st.rows {
		positions[i] = st.rows[i].position
	}
	if countRanges(src.snap, positions) <= tr.a.store.opts.ExpungeRanges {
		return nil
	}
	graves, err := tr.a.digLarge(tr.src, src, positions)
	st.graves = graves
	return err
}

// step runs one transaction of a large transfer. It is called by the
// committer, so nothing comes in between.
func (tr *transfer) step(publish bool, run func(t *opTx) error) error {
	o := &op{run: run}
	return errors.Join(tr.a.transact([]*op{o}, publish), o.err)
}

// stage finds out what is to be done and takes the UIDs of the destination out
// of use. That shows only at the end.
func (tr *transfer) stage(t *opTx) (st staging, err error) {
	src, err := t.edit(tr.src, true)
	if err != nil {
		return st, err
	}
	if st.rows, err = tr.rows(t, src); err != nil {
		return st, err
	}
	var dst *boxEdit // nil where it does not exist yet
	if tr.create {
		if n := t.tree.byName[tr.dest]; n != nil {
			return st, imap.Exists
		}
		t.rec.nextBox++
		st.fresh, st.first, st.kw = true, 1, newKeywords(nil)
		st.hole = grave{boxNum(t.rec.nextBox), 2} // as if it had been made before
	} else {
		num, err := t.selectable(tr.dest)
		if err != nil {
			return st, err
		}
		if dst, err = t.edit(num, false); err != nil {
			return st, err
		}
		if st.first, err = dst.takeUIDs(len(st.rows)); err != nil {
			return st, err
		}
		st.hole, st.kw = grave{num, dst.modseq}, dst.kw
		dst.touch()
		dst.done()
	}
	var last *mailindex.FlagSet
	distinct := make(map[*mailindex.FlagSet]struct{})
	for i := range st.rows {
		if set := st.rows[i].set; set != last {
			st.kw, last = st.kw.with(set), set
			distinct[set] = struct{}{}
		}
	}
	if dst == nil {
		err = t.checkKeywords(len(st.kw.names))
	} else {
		st.kw, err = dst.fitKeywords(st.kw, slices.Collect(maps.Keys(distinct)))
	}
	if err != nil {
		return st, err
	}
	t.dig(st.hole.box, st.hole.modseq, imap.UIDSetOfRange(st.first, st.first+imap.UID(len(st.rows))-1))
	return st, nil
}

// unveil shows the rows that have been staged.
func (tr *transfer) unveil(t *opTx, st *staging) error {
	src, err := t.edit(tr.src, true)
	if err != nil {
		return err
	}
	reserved := boxNum(0)
	if st.fresh {
		reserved = st.hole.box
	}
	num, err := tr.target(t, reserved)
	if err != nil {
		return err
	}
	dst := src
	if num != tr.src {
		if dst, err = t.edit(num, false); err != nil {
			return err
		}
	}
	t.delete(modseqKey(keyGrave, st.hole.box, st.hole.modseq))
	// The rows are on disk with this mod-sequence, which nobody has seen yet.
	dst.modseq, dst.kw, dst.loose = st.hole.modseq, st.kw, st.loose
	dst.c.uidNext = max(dst.c.uidNext, st.first+imap.UID(len(st.rows)))
	return tr.finish(src, dst, st.rows, st.first, st.graves)
}

// takeUIDs gives out n UIDs.
func (e *boxEdit) takeUIDs(n int) (first imap.UID, err error) {
	first = e.c.uidNext
	if uint64(first)+uint64(n) > 1<<32-1 {
		return 0, errNoUIDs()
	}
	e.c.uidNext += imap.UID(n)
	return first, nil
}

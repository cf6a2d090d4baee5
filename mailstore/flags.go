package mailstore

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// FlagOp is what a Store does with its flags.
type FlagOp uint8

// The operations of Store.
const (
	FlagsReplace FlagOp = iota
	FlagsAdd
	FlagsRemove
)

// StoreRequest is a change of flags.
type StoreRequest struct {
	UIDs  imap.UIDSet
	Op    FlagOp
	Flags []imap.Flag
	// UnchangedSince, where HasUnchangedSince is set, leaves out messages whose
	// mod-sequence is greater (RFC 7162 section 3.1.3).
	UnchangedSince    imap.ModSeq
	HasUnchangedSince bool
}

// StoreResult is the outcome of a Store.
type StoreResult struct {
	ModSeq   imap.ModSeq // of the messages that have changed; 0 where none has
	Modified imap.UIDSet // left out because of UnchangedSince
	Missing  imap.UIDSet // asked for, but not in the mailbox
}

// Store changes flags. Messages that have the flags already keep their
// mod-sequence.
func (m *Mailbox) Store(ctx context.Context, req *StoreRequest) (*StoreResult, error) {
	fs := &flagStore{m: m, req: req}
	err := m.a.submit(ctx, &op{weight: 10_000, run: fs.run, large: fs.large})
	if err != nil {
		return nil, imap.E("mailstore: store flags in "+m.name, imap.Other, err)
	}
	return &fs.res, nil
}

type flagStore struct {
	m   *Mailbox
	req *StoreRequest
	res StoreResult
}

func (s *flagStore) run(t *opTx) error {
	e, err := t.edit(s.m.box.num, true)
	if err != nil {
		return err
	}
	changed := s.apply(e)
	if changed.IsEmpty() {
		return nil
	}
	if changed.Len() > uint64(t.a.store.opts.TxnRows) {
		return errLarge
	}
	if err := s.write(e, changed); err != nil {
		return err
	}
	e.touch()
	e.done()
	return nil
}

// write writes the rows that apply has changed: few or scattered ones from
// memory, as loose rows; many by going through their pages.
func (s *flagStore) write(e *boxEdit, changed imap.UIDSet) error {
	ranges := changed.Ranges()
	first, _ := e.base.Find(ranges[0].Start)
	last, _ := e.base.Find(ranges[len(ranges)-1].Stop)
	if n := int(changed.Len()); n >= e.t.a.store.bulkRows() && worthPage(n, last-first+1) {
		f := reflag{e: e, op: s.req.Op, flags: s.req.Flags, modseq: e.modseq}
		_, err := f.write(changed, n)
		return err
	}
	for uid := range changed.All() {
		i, _ := e.base.Find(uid)
		row := e.base.Row(i)
		row.Flags, row.ModSeq = e.ed.FlagsID(i), e.modseq
		if err := e.putRow(&row); err != nil {
			return err
		}
	}
	return nil
}

// apply makes the change in memory and returns the UIDs that it touches.
func (s *flagStore) apply(e *boxEdit) imap.UIDSet {
	s.res = StoreResult{}
	f := applying{s: s, e: e, next: make(map[mailindex.FlagsID]mailindex.FlagsID)}
	for _, r := range s.req.UIDs.Ranges() {
		i, _ := e.base.Find(r.Start)
		for page := range e.base.PagesFrom(i) {
			from := max(i-page.First, 0)
			to, _ := slices.BinarySearch(page.UIDs, r.Stop)
			if to < page.Len() && page.UIDs[to] == r.Stop {
				to++
			}
			f.rows(page, from, to)
			if to < page.Len() {
				break
			}
		}
	}
	s.res.Missing = s.req.UIDs.Subtract(f.present)
	if !f.changed.IsEmpty() {
		s.res.ModSeq = e.modseq
	}
	return f.changed
}

// applying is apply at work.
type applying struct {
	s                *flagStore
	e                *boxEdit
	next             map[mailindex.FlagsID]mailindex.FlagsID // what flags become
	present, changed imap.UIDSet
}

// rows goes through some rows of a page, by runs of those with the same flags.
func (f *applying) rows(page *mailindex.Page, from, to int) {
	req := f.s.req
	for from < to {
		if req.HasUnchangedSince && page.ModSeqs[from] > req.UnchangedSince {
			f.present.Add(page.UIDs[from])
			f.s.res.Modified.Add(page.UIDs[from])
			from++
			continue
		}
		old, end := page.Flags[from], from+1
		for end < to && page.Flags[end] == old && !(req.HasUnchangedSince && page.ModSeqs[end] > req.UnchangedSince) {
			end++
		}
		addUIDs(&f.present, page.UIDs[from:end])
		id, ok := f.next[old]
		if !ok {
			id = f.e.ed.Intern(applyFlags(req.Op, f.e.ed.Flags(old).List(), req.Flags))
			f.next[old] = id
		}
		if id != old {
			f.e.setFlags(page.First+from, end-from, id)
			addUIDs(&f.changed, page.UIDs[from:end])
		}
		from = end
	}
}

// addUIDs adds UIDs, which ascend and mostly follow each other.
func addUIDs(set *imap.UIDSet, uids []imap.UID) {
	for len(uids) > 0 {
		n := 1
		for n < len(uids) && uids[n] == uids[0]+imap.UID(n) {
			n++
		}
		set.AddRange(uids[0], uids[n-1])
		uids = uids[n:]
	}
}

// applyFlags returns the flags that an operation leaves.
func applyFlags(op FlagOp, old, flags []imap.Flag) []imap.Flag {
	switch op {
	case FlagsAdd:
		return append(slices.Clip(old), flags...)
	case FlagsRemove:
		return slices.DeleteFunc(old, func(f imap.Flag) bool {
			return slices.ContainsFunc(flags, func(g imap.Flag) bool { return imap.EqualFlag(f, g) })
		})
	}
	return flags
}

// storing is a STORE that changes more rows than one transaction can. Its
// record makes the change durable and visible as a whole; the rows follow, and
// after a crash they are completed before anyone reads them.
type storing struct {
	box    boxNum
	modseq imap.ModSeq
	op     FlagOp
	flags  []imap.Flag
	uids   imap.UIDSet
	cursor imap.UID // rows below it have been written
}

func (s *storing) key() []byte { return modseqKey(keyStoring, s.box, s.modseq) }

func (s *storing) encode() []byte {
	b := appendUints(nil, uint64(s.op), uint64(len(s.flags)))
	for _, f := range s.flags {
		b = appendString(b, string(f))
	}
	return mailindex.AppendUIDSet(b, s.uids)
}

func readStoring(r driver.Reader) ([]*storing, error) {
	var list []*storing
	err := scanPrefix(r, []byte{keyStoring}, func(key, value []byte) error {
		d := decoder{data: value}
		s := &storing{box: boxOfKey(key), modseq: imap.ModSeq(binary.BigEndian.Uint64(key[5:])), op: FlagOp(d.uint())}
		for _, f := range d.strings() {
			s.flags = append(s.flags, imap.Flag(f))
		}
		if err := d.err("unfinished change of flags"); err != nil {
			return err
		}
		var err error
		s.uids, _, err = mailindex.ReadUIDSet(d.data)
		list = append(list, s)
		return err
	})
	return list, err
}

// large makes the change by way of a storing record.
func (s *flagStore) large() error {
	st := &storing{box: s.m.box.num, op: s.req.Op, flags: s.req.Flags}
	o := &op{run: func(t *opTx) error {
		e, err := t.edit(s.m.box.num, true)
		if err != nil {
			return err
		}
		st.uids, st.modseq = s.apply(e), e.modseq
		if s.req.Op != FlagsRemove { // keywords that no row gets are none of the mailbox's
			if _, err := e.code(e.ed.Intern(s.req.Flags)); err != nil {
				return err // too many keywords
			}
		}
		e.touch()
		t.set(st.key(), st.encode())
		e.done()
		return nil
	}}
	if err := s.m.a.transact([]*op{o}, false); err != nil {
		return err
	}
	if o.err != nil {
		return o.err
	}
	s.m.a.storing = append(s.m.a.storing, st)
	s.m.a.publish(changed{st.box: s.m.a.working.boxes[st.box]})
	if err := s.m.a.resume(); err != nil {
		// Nothing is lost: it goes on before the next change.
		s.m.a.store.opts.Logger.Warn("the rows of a change of flags wait to be written", "account", s.m.a.user, "err", err)
	}
	return nil
}

// resume writes the rows of large STOREs that are not on disk yet, and takes away
// what is left of large expunges that failed.
func (a *account) resume() error {
	if err := a.dropVoid(); err != nil {
		return err
	}
	limit := a.store.opts.TxnRows
	for len(a.storing) > 0 {
		s := a.storing[0]
		next := imap.UID(0)
		o := &op{run: func(t *opTx) (err error) {
			next, err = s.writeRows(t, limit)
			return err
		}}
		_, err := a.update([]*op{o})
		if err = errors.Join(err, o.err); errors.Is(err, errLarge) && limit > 1 {
			limit /= 2 // rows with many keywords
			continue
		}
		if err != nil {
			return err
		}
		s.cursor = next
		if next == 0 {
			a.storing = a.storing[1:]
		}
	}
	return nil
}

// writeRows writes up to limit rows of a large STORE and returns where to go
// on, 0 where all is done.
func (s *storing) writeRows(t *opTx, limit int) (next imap.UID, err error) {
	st := t.state(s.box)
	if st == nil {
		t.delete(s.key())
		return 0, nil
	}
	e := &boxEdit{t: t, num: s.box, kw: st.kw, oldKW: st.kw, codes: make(map[mailindex.FlagsID][]byte)}
	e.ed = mailindex.New(mailindex.Meta{}, st.kw.names).Edit()
	f := reflag{e: e, op: s.op, flags: s.flags, modseq: s.modseq}
	left := s.uids
	if s.cursor > 1 {
		left = left.Subtract(imap.UIDSetOfRange(1, s.cursor-1))
	}
	if next, err = f.write(left, limit); err != nil {
		return 0, err
	}
	t.countLoose(s.box, e.loose)
	if next == 0 {
		t.delete(s.key())
	}
	return next, nil
}

// reflag changes the flags of rows on disk.
type reflag struct {
	e      *boxEdit // for its keywords
	op     FlagOp
	flags  []imap.Flag
	modseq imap.ModSeq // rows that have it already are left alone

	codes codes
	after map[mailindex.FlagsID]mailindex.FlagsID // what flags become, as numbers in codes
}

// write changes up to limit rows of uids and returns where to go on, 0 where
// all is done.
func (f *reflag) write(uids imap.UIDSet, limit int) (next imap.UID, err error) {
	reader := rowReader{r: f.e.t.b.tx, box: f.e.num, intern: f.codes.number}
	err = reader.visit(uids, func(u *unit, rows []int) error {
		if len(rows) > limit {
			next, rows = u.rows.UIDs[rows[limit]], rows[:limit]
		}
		limit -= len(rows)
		if err := f.unit(u, rows); err != nil {
			return err
		}
		if next != 0 {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return next, err
}

func (f *reflag) unit(u *unit, rows []int) error {
	whole, changed := u.page != 0 && worthPage(len(rows), u.rows.Len()), false
	for _, i := range rows {
		if u.rows.ModSeqs[i] >= f.modseq {
			continue
		}
		id, err := f.changed(u.rows.Flags[i])
		if err != nil {
			return err
		}
		u.rows.Flags[i], u.rows.ModSeqs[i], changed = id, f.modseq, true
		if !whole {
			row := u.rows.Row(i)
			f.e.t.putLoose(f.e.num, &row, f.codes.code(id))
			f.e.loose++
		}
	}
	if whole && changed {
		f.e.t.repage(f.e.num, u, f.codes.code)
	}
	return nil
}

// changed returns what flags become.
func (f *reflag) changed(id mailindex.FlagsID) (mailindex.FlagsID, error) {
	if after, ok := f.after[id]; ok {
		return after, nil
	}
	old, err := f.e.kw.decodeFlags(f.codes.code(id))
	if err != nil {
		return 0, err
	}
	code, err := f.e.code(f.e.ed.Intern(applyFlags(f.op, old, f.flags)))
	if err != nil {
		return 0, err
	}
	if f.after == nil {
		f.after = make(map[mailindex.FlagsID]mailindex.FlagsID)
	}
	f.after[id] = f.codes.intern(code)
	return f.after[id], nil
}

// errEnough ends a scan.
var errEnough = errors.New("mailstore: enough")

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
	e.touch()
	for uid := range changed.All() {
		i, _ := e.base.Find(uid)
		row := e.base.Row(i)
		row.Flags, row.ModSeq = e.ed.FlagsID(i), e.modseq
		if err := e.putRow(&row); err != nil {
			return err
		}
	}
	e.done()
	return nil
}

// apply makes the change in memory and returns the UIDs that it touches.
func (s *flagStore) apply(e *boxEdit) (changed imap.UIDSet) {
	s.res = StoreResult{}
	next := make(map[mailindex.FlagsID]mailindex.FlagsID)
	var present imap.UIDSet
	for _, r := range s.req.UIDs.Ranges() {
		i, _ := e.base.Find(r.Start)
		for ; i < e.base.Len(); i++ {
			row := e.base.Row(i)
			if row.UID > r.Stop {
				break
			}
			present.Add(row.UID)
			if s.req.HasUnchangedSince && row.ModSeq > s.req.UnchangedSince {
				s.res.Modified.Add(row.UID)
				continue
			}
			id, ok := next[row.Flags]
			if !ok {
				id = e.ed.Intern(applyFlags(s.req.Op, e.ed.Flags(row.Flags).List(), s.req.Flags))
				next[row.Flags] = id
			}
			if id != row.Flags {
				e.setFlags(i, &row, id)
				changed.Add(row.UID)
			}
		}
	}
	s.res.Missing = s.req.UIDs.Subtract(present)
	if !changed.IsEmpty() {
		s.res.ModSeq = e.modseq
	}
	return changed
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
		if _, err := e.code(e.ed.Intern(s.req.Flags)); err != nil {
			return err // too many keywords
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

// resume writes the rows of large STOREs that are not on disk yet.
func (a *account) resume() error {
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

// writeRows writes up to left rows of a large STORE and returns where to go
// on, 0 where all is done.
func (s *storing) writeRows(t *opTx, left int) (next imap.UID, err error) {
	st := t.state(s.box)
	if st == nil {
		t.delete(s.key())
		return 0, nil
	}
	e := &boxEdit{t: t, num: s.box, kw: st.kw, oldKW: st.kw, codes: make(map[mailindex.FlagsID][]byte)}
	e.ed = mailindex.New(mailindex.Meta{}, st.kw.names).Edit()
	ids := make(map[string]mailindex.FlagsID) // by the flags that rows had
	for _, r := range s.uids.Ranges() {
		if r.Stop < s.cursor {
			continue
		}
		from, to := rowRange(s.box, max(r.Start, s.cursor), r.Stop)
		err := scanRange(t.b.tx, from, to, func(key, value []byte) error {
			row, flags, err := decodeRow(uidOfRowKey(key), value)
			if err != nil || row.ModSeq >= s.modseq {
				return err
			}
			if left == 0 {
				next = row.UID
				return errEnough
			}
			left--
			id, ok := ids[string(flags)]
			if !ok {
				old, err := e.kw.decodeFlags(flags)
				if err != nil {
					return err
				}
				id = e.ed.Intern(applyFlags(s.op, old, s.flags))
				ids[string(flags)] = id
			}
			row.Flags, row.ModSeq = id, s.modseq
			return e.putRow(&row)
		})
		if errors.Is(err, errEnough) {
			return next, nil
		}
		if err != nil {
			return 0, err
		}
	}
	t.delete(s.key())
	return 0, nil
}

// errEnough ends a scan.
var errEnough = errors.New("mailstore: enough")

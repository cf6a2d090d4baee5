package mailstore

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// A storing is a STORE of many messages that is not in their rows yet. Its record
// says which rows it has changed, and how: all of them got its mod-sequence. So a
// STORE of a whole mailbox writes a few dozen bytes, and rows that are read from
// disk get the flags that they should have (rowReader.settle). When a mailbox has
// some of them, the rows are written in the background, for all at once.
type storing struct {
	box    boxNum
	modseq imap.ModSeq
	op     FlagOp
	flags  []imap.Flag
	code   []byte // flags as they stand in a row; the keywords that are there to be removed, or to be given
	uids   imap.UIDSet
}

// maxStorings is how many storings a mailbox may have before its rows are
// written: whoever reads rows meanwhile has to look at all of them.
const maxStorings = 8

// storingLimit is maxStorings, or less where everything is to be small.
func (s *Store) storingLimit() int { return min(maxStorings, max(s.opts.FoldRows, 1)) }

func (s *storing) key() []byte { return modseqKey(keyStoring, s.box, s.modseq) }

// encode has flags by name and by number: a keyword may have lost its number to
// another one since, while rows on disk still have it under that number.
func (s *storing) encode() []byte {
	b := appendUints(nil, uint64(s.op), uint64(len(s.flags)))
	for _, f := range s.flags {
		b = appendString(b, string(f))
	}
	return append(mailindex.AppendUIDSet(b, s.uids), s.code...)
}

// decodeStoring decodes a record. Those of older versions have no numbers of
// keywords: then code is empty.
func decodeStoring(key, value []byte) (*storing, error) {
	d := decoder{data: value}
	s := &storing{box: boxOfKey(key), modseq: imap.ModSeq(numOfKey(key)), op: FlagOp(d.uint())}
	for _, f := range d.strings() {
		s.flags = append(s.flags, imap.Flag(f))
	}
	err := d.err("change of flags")
	if err == nil {
		s.uids, d.data, err = mailindex.ReadUIDSet(d.data)
		s.code = slices.Clone(d.data)
	}
	return s, err
}

// readStorings returns the storings of a mailbox, the oldest first.
func readStorings(r driver.Reader, box boxNum) (list []*storing, err error) {
	err = scanPrefix(r, boxKey(keyStoring, box), func(key, value []byte) error {
		s, err := decodeStoring(key, value)
		list = append(list, s)
		return err
	})
	if err != nil || !slices.ContainsFunc(list, func(s *storing) bool { return len(s.code) == 0 }) {
		return list, err
	}
	kw := newKeywords(nil)
	if data, ok, err := r.Get(boxKey(keyKeywords, box)); err != nil {
		return nil, err
	} else if ok {
		if kw, err = decodeKeywords(data); err != nil {
			return nil, err
		}
	}
	for _, s := range list {
		if len(s.code) == 0 {
			s.code = kw.known(s.flags)
		}
	}
	return list, nil
}

// known returns flags as they stand in a row, without the keywords that the
// mailbox does not know.
func (k *keywords) known(flags []imap.Flag) []byte {
	code := []byte{0}
	for _, f := range flags {
		if n, ok := k.number[f.Fold()]; ok {
			code = binary.AppendUvarint(code, n)
		}
		code[0] |= byte(mailindex.BitOf(f))
	}
	return code
}

// putStoring writes a record of what a request has made of rows.
func (e *boxEdit) putStoring(req *StoreRequest, changed imap.UIDSet) error {
	if req.Op != FlagsRemove { // keywords that no row gets are none of the mailbox's
		if _, err := e.code(e.ed.Intern(req.Flags)); err != nil {
			return err // too many keywords
		}
	}
	s := &storing{box: e.num, modseq: e.modseq, op: req.Op, flags: req.Flags, code: e.kw.known(req.Flags), uids: changed}
	e.t.set(s.key(), s.encode())
	e.storings++
	return nil
}

// change returns what becomes of flags, as they stand in a row.
func (s *storing) change(code []byte) []byte {
	if s.op == FlagsReplace {
		return s.code
	}
	with := keywordNumbers(s.code)
	nums := slices.DeleteFunc(keywordNumbers(code), func(n uint64) bool { return slices.Contains(with, n) })
	bits := code[0] &^ s.code[0]
	if s.op == FlagsAdd {
		nums, bits = append(nums, with...), bits|s.code[0]
	}
	slices.Sort(nums)
	return appendUints([]byte{bits}, slices.Compact(nums)...)
}

func keywordNumbers(code []byte) (nums []uint64) {
	d := decoder{data: code[1:]}
	for len(d.data) > 0 && !d.bad {
		nums = append(nums, d.uint())
	}
	return nums
}

// settler is what a rowReader needs for the storings of its mailbox.
type settler struct {
	read  bool
	list  []*storing
	codes map[mailindex.FlagsID][]byte // flags as they stand in rows, of all that were met
	to    []map[mailindex.FlagsID]mailindex.FlagsID
}

// begin reads the storings, once.
func (p *rowReader) begin() (err error) {
	if p.storings.read {
		return nil
	}
	p.storings.read = true
	if p.storings.list, err = readStorings(p.r, p.box); err != nil || len(p.storings.list) == 0 {
		return err
	}
	intern, codes := p.intern, make(map[mailindex.FlagsID][]byte)
	p.storings.codes = codes
	p.intern = func(code []byte) (mailindex.FlagsID, error) {
		id, err := intern(code)
		if _, ok := codes[id]; !ok {
			codes[id] = slices.Clone(code)
		}
		return id, err
	}
	p.storings.to = make([]map[mailindex.FlagsID]mailindex.FlagsID, len(p.storings.list))
	for i := range p.storings.to {
		p.storings.to[i] = make(map[mailindex.FlagsID]mailindex.FlagsID)
	}
	return nil
}

// settle gives the rows of a unit the flags that storings have given them.
func (p *rowReader) settle(u *unit) error {
	n := u.rows.Len()
	for i, s := range p.storings.list {
		if n == 0 {
			return nil
		}
		ranges := s.uids.Ranges()
		at, _ := slices.BinarySearchFunc(ranges, u.rows.UIDs[0], func(r imap.UIDRange, uid imap.UID) int { return int(int64(r.Stop) - int64(uid)) })
		for ; at < len(ranges) && ranges[at].Start <= u.rows.UIDs[n-1]; at++ {
			from, _ := slices.BinarySearch(u.rows.UIDs, ranges[at].Start)
			to, last := slices.BinarySearch(u.rows.UIDs, ranges[at].Stop)
			if last {
				to++
			}
			if err := p.settleRows(u, i, from, to); err != nil {
				return err
			}
		}
	}
	return nil
}

// settleRows is settle for some rows that storing i has changed, unless they
// have changed again since.
func (p *rowReader) settleRows(u *unit, i, from, to int) error {
	s, flags, modseqs := p.storings.list[i], u.rows.Flags, u.rows.ModSeqs
	was, is := unknownFlags, unknownFlags // mostly as of the row before
	for ; from < to; from++ {
		if modseqs[from] >= s.modseq {
			continue
		}
		u.settled, modseqs[from] = true, s.modseq
		if flags[from] != was {
			var err error
			was = flags[from]
			if is, err = p.changed(i, was); err != nil {
				return err
			}
		}
		flags[from] = is
	}
	return nil
}

// changed returns what storing i makes of flags.
func (p *rowReader) changed(i int, id mailindex.FlagsID) (mailindex.FlagsID, error) {
	if id == unknownFlags {
		return id, nil
	}
	if to, ok := p.storings.to[i][id]; ok {
		return to, nil
	}
	code := p.storings.codes[id]
	if len(code) == 0 {
		return 0, imap.E("mailstore: read flags", imap.Corruption, errDamaged)
	}
	to, err := p.intern(p.storings.list[i].change(code))
	p.storings.to[i][id] = to
	return to, err
}

// settling is one pass that writes the rows that storings have changed, after
// which those are not needed any more.
type settling struct {
	box   boxNum
	next  imap.UID // where the next step begins, 0 at the end
	begun bool
	list  []*storing // when it began
	uids  imap.UIDSet
}

func (f *settling) more() bool { return f.next != 0 }

// run makes one step.
func (f *settling) run(t *opTx) (err error) {
	from := f.next
	f.next = 0
	st := t.state(f.box)
	if st == nil {
		return nil
	}
	if !f.begun {
		f.begun = true
		if f.list, err = readStorings(t.b.tx, f.box); err != nil {
			return err
		}
		sets := make([]imap.UIDSet, len(f.list))
		for i, s := range f.list {
			sets[i] = s.uids
		}
		f.uids = mailindex.UnionAll(sets)
	}
	left := f.uids
	if from > 1 {
		left = left.Subtract(imap.UIDSetOfRange(1, from-1))
	}
	if err := f.write(t, left); err != nil || f.next != 0 {
		return err
	}
	for _, s := range f.list {
		t.delete(s.key())
	}
	next := *st
	next.storings -= min(next.storings, len(f.list))
	t.setCounters(f.box, &next)
	return nil
}

// write writes rows of uids, as many as one step may.
func (f *settling) write(t *opTx, uids imap.UIDSet) error {
	var codes codes
	reader := rowReader{r: t.b.tx, box: f.box, intern: codes.number}
	err := reader.visit(uids, func(u *unit, rows []int) error {
		if t.size >= foldBytes {
			f.next = u.rows.UIDs[rows[0]]
			return errEnough
		}
		switch {
		case !u.settled:
		case u.tail && u.rows.Len() < t.a.store.opts.PageRows:
			// They stay loose until they fill a page.
			for _, i := range rows {
				row := u.rows.Row(i)
				t.putLoose(f.box, &row, codes.code(row.Flags))
			}
		default:
			t.repage(f.box, u, codes.code)
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// errEnough ends a scan.
var errEnough = errors.New("mailstore: enough")

package mailstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// wreck is an account as far as it can be understood.
type wreck struct {
	rec      accountRec
	recOK    bool
	boxes    map[boxNum]*wreckBox
	messages map[uint64]messageRec
	pending  map[uint64]bool
	buried   map[uint64]bool // messages of rows that were expunged
	spoilt   [][]byte        // keys of records that nobody can read, and nobody needs
}

// wreckBox is a mailbox as far as it can be understood.
type wreckBox struct {
	num      boxNum
	node     *node
	c        counters
	counted  bool // c was there
	kw       *keywords
	rows     map[imap.UID]mailindex.Row // Flags are numbers in codes
	codes    codes
	expunged imap.UIDSet // rows that are in graves
	void     imap.UIDSet // rows in graves of an expunge that was not finished
	history  imap.UIDSet
	blind    bool // a grave cannot be read
	gone     bool // the mailbox was deleted
	highest  imap.ModSeq
	storing  []*storing
	defects  []string
	losses   []string // like defects, where something is lost
	doubt    string   // why UIDs of it may have been given out to others
}

func (b *wreckBox) defect(format string, args ...any) {
	b.defects = append(b.defects, fmt.Sprintf(format, args...))
}

func (b *wreckBox) loss(format string, args ...any) {
	b.losses = append(b.losses, fmt.Sprintf(format, args...))
}

func (b *wreckBox) seen(m imap.ModSeq) {
	if m <= imap.MaxModSeq/2 { // what is beyond was never given out
		b.highest = max(b.highest, m)
	}
}

func (w *wreck) box(num boxNum) *wreckBox {
	b := w.boxes[num]
	if b == nil {
		b = &wreckBox{num: num, kw: newKeywords(nil), rows: make(map[imap.UID]mailindex.Row)}
		w.boxes[num] = b
	}
	return b
}

// read makes a wreck of the account in the new index.
func (a *accountRepair) read(ctx context.Context) (w *wreck, err error) {
	err = a.kv.View(ctx, a.num, func(r driver.Reader) error {
		w = &wreck{boxes: make(map[boxNum]*wreckBox), messages: make(map[uint64]messageRec), pending: make(map[uint64]bool), buried: make(map[uint64]bool)}
		if data, ok, err := r.Get([]byte{keyAccount}); err != nil {
			return err
		} else if ok {
			rec, err := decodeAccount(data)
			w.rec, w.recOK = rec, err == nil
		}
		for _, kind := range []byte{keyBox, keyCounters, keyKeywords, keyPage, keyLoose, keyHistory, keyGrave, keyStoring, keyMessage, keyPending, keyThread} {
			var inner error
			err := r.Scan([]byte{kind}, []byte{kind + 1}, func(key, value []byte) bool {
				inner = w.take(kind, key, value)
				return inner == nil
			})
			if err := errors.Join(inner, err); err != nil {
				return fmt.Errorf("records of kind %c: %w", kind, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	a.touched(w)
	return w, nil
}

// keyLength is that of keys that begin with a mailbox or a message.
func keyLength(kind byte) int {
	switch kind {
	case keyBox, keyCounters, keyKeywords:
		return 5
	case keyPage, keyLoose, keyMessage, keyPending:
		return 9
	case keyHistory, keyGrave, keyStoring:
		return 13
	}
	return 0
}

// take takes in one record.
func (w *wreck) take(kind byte, key, value []byte) error {
	if n := keyLength(kind); n != 0 && len(key) != n {
		w.spoilt = append(w.spoilt, slices.Clone(key))
		return nil
	}
	switch kind {
	case keyMessage:
		if rec, err := decodeMessage(value); err == nil {
			w.messages[numOfKey(key)] = rec
		}
		return nil
	case keyPending:
		d := decoder{data: value}
		for i := range min(d.uint(), maxAppendItems) {
			w.pending[numOfKey(key)+i] = true
		}
		return nil
	case keyThread:
		if d := (decoder{data: value}); d.uint() == 0 || d.bad {
			w.spoilt = append(w.spoilt, slices.Clone(key))
		}
		return nil
	}
	w.box(boxOfKey(key)).take(kind, key, value)
	return nil
}

func (b *wreckBox) take(kind byte, key, value []byte) {
	var err error
	switch kind {
	case keyBox:
		if b.node, err = decodeNode(b.num, value); err != nil {
			b.node = nil
			b.defect("its record cannot be read")
		}
	case keyCounters:
		if b.c, err = decodeCounters(value); err != nil {
			b.c = counters{}
			b.defect("its counters cannot be read")
		} else {
			b.counted = true
			b.seen(b.c.highest)
		}
	case keyKeywords:
		kw, err := decodeKeywords(value)
		if b.kw = kw; err != nil {
			b.kw = newKeywords(nil)
			b.loss("its keywords cannot be read")
		}
	case keyPage:
		b.takePage(key, value)
	case keyLoose:
		b.takeLoose(key, value)
	case keyHistory, keyGrave:
		b.takeExpunged(kind, key, value)
	case keyStoring:
		b.takeStoring(key, value)
	}
}

func (b *wreckBox) takePage(key, value []byte) {
	var c mailindex.Columns
	last := uidOfRowKey(key)
	if err := readPage(&c, last, value, b.codes.number); err != nil {
		b.loss("the rows up to UID %d cannot be read", last)
		return
	}
	for i := range c.Len() {
		b.put(c.Row(i))
	}
}

// put takes in a row of a page. Of two with one UID the younger counts.
func (b *wreckBox) put(row mailindex.Row) {
	if other, ok := b.rows[row.UID]; ok {
		b.defect("UID %d is there twice", row.UID)
		if other.ModSeq > row.ModSeq {
			return
		}
	}
	b.seen(row.ModSeq)
	b.rows[row.UID] = row
}

func (b *wreckBox) takeLoose(key, value []byte) {
	uid := uidOfRowKey(key)
	if len(value) == 0 {
		delete(b.rows, uid)
		return
	}
	row, code, err := decodeRow(uid, value)
	if err != nil {
		// What its page says of it is older, and all there is.
		b.loss("the row of UID %d cannot be read", uid)
		return
	}
	row.Flags = b.codes.intern(code)
	b.seen(row.ModSeq)
	b.rows[uid] = row
}

func (b *wreckBox) takeExpunged(kind byte, key, value []byte) {
	modseq := imap.ModSeq(numOfKey(key))
	if kind == keyGrave && modseq == imap.MaxModSeq {
		b.gone = true
		return
	}
	set, _, err := mailindex.ReadUIDSet(value)
	if kind == keyGrave && b.counted && modseq > b.c.highest && err == nil {
		b.void = b.void.Union(set)
		return
	}
	b.seen(modseq)
	switch {
	case err != nil:
		b.defect("the expunge at mod-sequence %d cannot be read", modseq)
		b.blind = b.blind || kind == keyGrave
	case kind == keyGrave:
		b.expunged = b.expunged.Union(set)
	default:
		b.history = b.history.Union(set)
	}
}

func (b *wreckBox) takeStoring(key, value []byte) {
	s, err := decodeStoring(key, value)
	if err != nil {
		b.loss("the change of flags at mod-sequence %d cannot be read", s.modseq)
		return
	}
	b.seen(s.modseq)
	b.storing = append(b.storing, s)
}

// touched puts mailboxes into doubt that the holes of the old index hit: what
// the journal says of them is older than the rest.
func (a *accountRepair) touched(w *wreck) {
	if a.mended { // then all that is settled
		return
	}
	const why = "a part of the index cannot be read that may have said more of it"
	for _, h := range a.holes {
		for num, b := range w.boxes {
			for _, kind := range []byte{keyBox, keyCounters, keyPage, keyLoose, keyHistory, keyGrave} {
				prefix := boxKey(kind, num)
				end := prefixEnd(prefix)
				if (h.to == nil || string(h.to) > string(prefix)) && string(h.from) < string(end) {
					b.doubt = why
				}
			}
		}
		if h.contains([]byte{keyAccount}) {
			w.recOK = false
		}
	}
	if a.doubt != "" {
		for _, b := range w.boxes {
			b.doubt = a.doubt
		}
	}
}

// live removes from a mailbox what was expunged, and completes changes of flags.
func (b *wreckBox) live(w *wreck) {
	dead := b.expunged
	if b.doubt != "" {
		dead = dead.Union(b.void) // it may be the counters that are too old
	}
	if b.blind || b.doubt != "" {
		// A row may be older than what is remembered of its expunge.
		dead = dead.Union(b.history)
	}
	for uid, row := range b.rows {
		if b.gone || dead.Contains(uid) {
			w.buried[row.Msg] = true
			delete(b.rows, uid)
		}
	}
	for _, s := range b.storing {
		for uid, row := range b.rows {
			if s.uids.Contains(uid) && row.ModSeq < s.modseq {
				row.Flags, row.ModSeq = b.changed(s, row.Flags), s.modseq
				b.rows[uid] = row
			}
		}
	}
}

// changed returns what a change of flags makes of a row's.
func (b *wreckBox) changed(s *storing, id mailindex.FlagsID) mailindex.FlagsID {
	if code := b.codes.code(id); len(code) > 0 && len(s.code) > 0 {
		return b.codes.intern(s.change(code))
	}
	old, _ := b.flags(id)
	return b.encode(applyFlags(s.op, old, s.flags))
}

// flags decodes flags as far as that goes.
func (b *wreckBox) flags(id mailindex.FlagsID) (list []imap.Flag, ok bool) {
	code := b.codes.code(id)
	list, err := b.kw.decodeFlags(code)
	if err == nil {
		return list, true
	}
	if len(code) > 0 {
		list = mailindex.FlagBits(code[0]).List()
	}
	return list, false
}

// encode encodes flags as they stand in a row, and gives them a number.
func (b *wreckBox) encode(list []imap.Flag) mailindex.FlagsID {
	e := mailindex.New(mailindex.Meta{}, b.kw.names).Edit()
	set := e.Flags(e.Intern(list))
	b.kw = b.kw.with(set)
	return b.codes.intern(b.kw.appendFlags(nil, set))
}

func (b *wreckBox) uids() []imap.UID { return slices.Sorted(maps.Keys(b.rows)) }

package mailstore

import (
	"bytes"
	"context"
	"io"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/message"
)

// Need says what a Fetch is to deliver.
type Need uint8

// The parts of a Message that can be asked for.
const (
	NeedDigest Need = 1 << iota // Digest
	NeedHeader                  // Header
	NeedBody                    // Body, Size, Raw, RawSize
	NeedText                    // Text
	NeedIDs                     // EmailID, ThreadID
	NeedWire                    // Wire
	NeedFields                  // Fields, or Header where they are not kept
	NeedSound                   // with NeedBody: the content has been compared with its checksums
)

// What Fetch reads of a message to deliver it. The record of the message itself
// says where the rest is, and is left out where that need not be known.
const (
	needRecord = NeedHeader | NeedBody | NeedIDs
	needDigest = NeedDigest | NeedWire
	needFields = NeedFields
	needText   = NeedText
)

// Message is what Fetch delivers of one message.
type Message struct {
	Digest   *message.Digest
	Wire     *message.Wire
	Fields   message.Fields
	Header   []byte      // the top-level header as served, with its blank line
	Body     io.ReaderAt // the whole message as served
	Size     int64       // of Body
	Raw      io.ReaderAt // the message as it was appended
	RawSize  int64
	Text     *message.Text
	EmailID  imap.ObjectID
	ThreadID imap.ObjectID
	Err      error // why this message cannot be read
}

// Fetch calls fn for each of the rows in order with what need asks for. The
// rows may be of any snapshot that this session has not released, so they may
// have been expunged meanwhile. *Message and what it holds is valid until fn
// returns. A row whose message cannot be read gets m.Err: of kind NotFound only
// where the message has been expunged and taken away, of kind Corruption where
// the store has lost it, or a part of it. No lock and no transaction is held
// while fn runs.
func (m *Mailbox) Fetch(ctx context.Context, rows []mailindex.Row, need Need, fn func(i int, msg *Message) error) error {
	op := "mailstore: fetch from " + m.name
	var own error // fn's, which is the caller's business
	err := m.a.fetch(ctx, rows, need, func(i int, msg *Message) error {
		if msg.Err != nil {
			msg.Err = m.lost(ctx, rows[i], msg.Err)
			msg.Err = imap.E(op+" UID "+rows[i].UID.String(), imap.Other, msg.Err)
		}
		own = fn(i, msg)
		return own
	})
	if err != nil && own == nil {
		err = imap.E(op, imap.Other, err)
	}
	return err
}

// fetch is Fetch for rows of which only Msg counts.
func (a *account) fetch(ctx context.Context, rows []mailindex.Row, need Need, fn func(i int, msg *Message) error) error {
	f := fetcher{a: a, ctx: ctx, need: need, batch: a.store.takeBatch()}
	defer a.store.putBatch(f.batch)
	if f.alone = len(rows) == 1 && need&^(NeedBody|NeedSound) == 0; f.alone {
		if err := ctx.Err(); err != nil {
			return err
		}
		r := records{msg: rows[0].Msg}
		defer f.close()
		return fn(0, f.message(&r))
	}
	for from := 0; from < len(rows); {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.readBatch(ctx, f.batch, rows[from:min(from+fetchRows, len(rows))], need); err != nil {
			return err
		}
		for i := range f.batch.list {
			err := fn(from+i, f.message(&f.batch.list[i]))
			f.close()
			if err != nil {
				return err
			}
		}
		from += len(f.batch.list)
	}
	return nil
}

// fetcher makes Messages of records, one at a time.
type fetcher struct {
	a     *account
	ctx   context.Context // of the Fetch
	need  Need
	batch *recordBatch
	alone bool // it is one message, of which only the content is wanted

	// Of the message that was made last:
	msg  Message
	wire message.Wire
	rec  messageRec
	have bool        // rec has been read
	bare bool        // it has no text, and no record is stale
	blob driver.Blob // nil where it was not opened
	late *digester   // has the memory of its text, where that was made for this one only

	watched watchedBlob // what is delivered of a large one
}

// close ends the reading of the message.
func (f *fetcher) close() {
	if f.blob != nil {
		_ = f.blob.Close()
		f.blob = nil
	}
	if f.late != nil {
		f.a.store.digesters.Put(f.late)
		f.late = nil
	}
}

// message makes the Message of records.
func (f *fetcher) message(r *records) *Message {
	f.msg, f.have, f.bare = Message{}, false, false
	f.msg.Err = f.fill(r)
	return &f.msg
}

func (f *fetcher) fill(r *records) error {
	msg, need := &f.msg, f.need
	if need&(needDigest|needFields|needText) == 0 || need&needRecord != 0 {
		if err := f.record(r); err != nil {
			return err
		}
	}
	if need&NeedIDs != 0 {
		msg.EmailID, msg.ThreadID = emailID(r.msg), threadID(f.rec.thread)
	}
	if f.stale(r) {
		// What is damaged or of an older version is made anew from the message.
		if err := f.digestAgain(r); err != nil {
			return err
		}
	}
	if need&NeedFields != 0 && len(msg.Fields) == 0 {
		need |= NeedHeader
	}
	if need&(NeedBody|NeedHeader) == 0 {
		return nil
	}
	return f.readBody(r, need)
}

// stale decodes what was derived from the message, and reports whether some of it
// is of no use.
func (f *fetcher) stale(r *records) bool {
	msg := &f.msg
	version := uint16(message.Version)
	var err error
	switch {
	case f.need&NeedDigest != 0:
		if msg.Digest, err = message.UnmarshalDigest(f.batch.bytes(r.digest)); err == nil {
			msg.Wire, version = &msg.Digest.Wire, msg.Digest.Version
		}
	case f.need&needDigest != 0:
		f.wire, version, err = message.UnmarshalWire(f.batch.bytes(r.digest))
		msg.Wire = &f.wire
	}
	if err != nil || version < message.Version {
		return true
	}
	if f.need&needFields != 0 {
		var ok bool
		if msg.Fields, ok = currentFields(f.batch.bytes(r.fields)); !ok {
			return true
		}
	}
	if f.need&needText != 0 {
		msg.Text, f.batch.text = currentTextIn(f.batch.bytes(r.text), f.batch.text)
		f.bare = r.text.len() == 0
		return msg.Text == nil
	}
	return false
}

// record sees to it that f.rec is that of the message.
func (f *fetcher) record(r *records) (err error) {
	if f.have {
		return nil
	}
	known := false
	if f.alone {
		f.rec, known = f.a.store.places.find(f.a.num, r.msg)
	}
	switch {
	case known:
	case r.record.len() > 0:
		f.rec, err = decodeMessage(f.batch.bytes(r.record))
	default:
		f.rec, err = f.a.readMessageRec(f.ctx, r.msg)
	}
	f.have = err == nil
	if f.alone && f.have && !known {
		f.a.store.places.keep(f.a.num, r.msg, &f.rec)
	}
	return err
}

// open sees to it that f.blob is that of the message.
func (f *fetcher) open(r *records) (err error) {
	if f.blob != nil {
		return nil
	}
	if err = f.record(r); err == nil {
		f.blob, err = f.a.openBlob(f.ctx, r.msg, &f.rec)
	}
	return err
}

// readBody fills in the message as it is served.
func (f *fetcher) readBody(r *records, need Need) error {
	if err := f.open(r); err != nil {
		return err
	}
	msg, rec := &f.msg, &f.rec
	var served io.ReaderAt = f.blob
	if rec.hasNUL {
		// Such messages are rare, and made for the occasion as a whole.
		r, err := message.ServedReader(f.blob, rec.rawSize, f.a.store.opts.Limits)
		if err != nil {
			return err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		served = bytes.NewReader(data)
	}
	if need&NeedHeader != 0 {
		f.batch.header = sized(f.batch.header, rec.headerLen)
		msg.Header = f.batch.header
		if _, err := io.ReadFull(io.NewSectionReader(served, 0, rec.headerLen), msg.Header); err != nil {
			return err
		}
	}
	if need&NeedBody == 0 {
		return nil
	}
	msg.Body, msg.Size, msg.Raw, msg.RawSize = served, rec.size, f.blob, rec.rawSize
	if rec.rawSize <= driver.CheckedAtOpen || rec.hasNUL {
		return nil // it has been read
	}
	f.watched = watchedBlob{f.blob, &f.a.store.sound, storedMessage{f.a.num, r.msg}}
	msg.Body, msg.Raw = &f.watched, &f.watched
	if need&NeedSound != 0 {
		return f.watched.verify(f.ctx, rec.rawSize)
	}
	return nil
}

// lateText makes the text of a message, which nobody is to store.
func (f *fetcher) lateText() (err error) {
	f.late = f.a.store.digester()
	f.msg.Text, err = f.late.parser.TextServed(f.blob, f.rec.rawSize)
	return err
}

// sized returns a slice of n bytes, that of b where it has room and is not much
// too large.
func sized(b []byte, n int64) []byte {
	if int64(cap(b)) >= n && (cap(b) <= 64<<10 || int64(cap(b)) < 4*n) {
		return b[:n]
	}
	return make([]byte, n)
}

// currentFields returns the Fields of a record; ok is false where there is none,
// or it is of an older version.
func currentFields(data []byte) (f message.Fields, ok bool) {
	d := decoder{data: data}
	version := d.uint()
	return d.data, !d.bad && version >= message.Version
}

// digestAgain derives what is stale from the message, and has it stored. A text that
// is not there yet the background stores, with others.
func (f *fetcher) digestAgain(r *records) error {
	if err := f.open(r); err != nil {
		return err
	}
	if f.bare && r.msg > f.a.textsUpTo() {
		return f.lateText()
	}
	parts := deriveRecords | deriveText
	if f.bare {
		parts = deriveText
	}
	var again derived
	digest, err := f.a.digest(f.blob, f.rec.rawSize, &again, parts)
	if err != nil {
		return err
	}
	msg := &f.msg
	if f.need&(needDigest|needFields) != 0 && !f.bare {
		msg.Digest, msg.Wire, msg.Fields = digest, &digest.Wire, digest.Fields
	}
	if f.need&needText != 0 {
		msg.Text = currentText(again.text)
	}
	num := r.msg
	f.a.post(&op{weight: again.size(), run: func(tx *opTx) error {
		data, ok, err := tx.get(numKey(keyMessage, num))
		if err != nil || !ok {
			return err
		}
		stored, err := decodeMessage(data)
		if err != nil {
			return err
		}
		if digest != nil {
			stored.headerLen = digest.Root.BodyStart
			tx.set(numKey(keyMessage, num), stored.encode())
		}
		tx.putDerived(num, &again)
		return nil
	}})
	if digest != nil {
		f.rec.headerLen = digest.Root.BodyStart
	}
	return nil
}

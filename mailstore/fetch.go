package mailstore

import (
	"bytes"
	"context"
	"errors"
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
	NeedBody                    // Body, Raw, RawSize
	NeedText                    // Text
	NeedIDs                     // EmailID, ThreadID
)

// Message is what Fetch delivers of one message.
type Message struct {
	Digest   *message.Digest
	Header   []byte      // the top-level header as served, with its blank line
	Body     io.ReaderAt // the whole message as served
	Raw      io.ReaderAt // the message as it was appended
	RawSize  int64
	Text     *message.Text
	EmailID  imap.ObjectID
	ThreadID imap.ObjectID
	Err      error // why this message cannot be read
}

// Bounds of what Fetch reads ahead.
const (
	fetchFirst = 16 // rows of the first read, so that an answer begins soon
	fetchRows  = 1024
	fetchBytes = 1 << 20
)

// Fetch calls fn for each of the rows in order with what need asks for. The
// rows may be of any snapshot that this session has not released, so they may
// have been expunged meanwhile. *Message and what it holds is valid until fn
// returns. A row whose message cannot be read gets m.Err. No lock and no
// transaction is held while fn runs.
func (m *Mailbox) Fetch(ctx context.Context, rows []mailindex.Row, need Need, fn func(i int, msg *Message) error) error {
	op := "mailstore: fetch from " + m.name
	chunk := fetchFirst
	for from := 0; from < len(rows); {
		if err := ctx.Err(); err != nil {
			return imap.E(op, imap.Other, err)
		}
		recs, err := m.a.readRecords(ctx, rows[from:min(from+chunk, len(rows))], need)
		if err != nil {
			return imap.E(op, imap.Other, err)
		}
		for i := range recs {
			msg, closeBody := m.a.assemble(ctx, &recs[i], need)
			if msg.Err != nil {
				msg.Err = imap.E(op+" UID "+rows[from+i].UID.String(), imap.Other, msg.Err)
			}
			err := fn(from+i, msg)
			closeBody()
			if err != nil {
				return err
			}
		}
		from += len(recs)
		chunk = min(chunk*4, fetchRows)
	}
	return nil
}

// records are the stored records of one message, as copies.
type records struct {
	msg          uint64
	rec          messageRec
	digest, text []byte
	err          error
}

// readRecords reads records of at least one and perhaps all rows in one view.
func (a *account) readRecords(ctx context.Context, rows []mailindex.Row, need Need) ([]records, error) {
	var list []records
	err := a.store.kv.View(ctx, a.num, func(r driver.Reader) error {
		list = make([]records, len(rows))
		for i := range rows {
			list[i] = records{msg: rows[i].Msg, err: imap.NotFound}
		}
		var n int
		err := readKind(r, keyMessage, list, &n, func(rec *records, data []byte) int {
			rec.rec, rec.err = decodeMessage(data)
			return 0
		})
		if err == nil && need&NeedDigest != 0 {
			err = readKind(r, keyDigest, list, &n, func(rec *records, data []byte) int {
				rec.digest = bytes.Clone(data)
				return len(data)
			})
		}
		list = list[:n]
		if err == nil && need&NeedText != 0 {
			err = readKind(r, keyText, list, &n, func(rec *records, data []byte) int {
				rec.text = unpackText(data)
				return len(rec.text)
			})
		}
		list = list[:n]
		return err
	})
	return list, err
}

// readKind reads the records of one kind, until they have fetchBytes. take
// says how many bytes it has kept; n is how many of the list are done.
func readKind(r driver.Reader, kind byte, list []records, n *int, take func(rec *records, data []byte) int) error {
	*n = len(list)
	size := 0
	if !dense(list) {
		for i := range list {
			data, ok, err := r.Get(numKey(kind, list[i].msg))
			if err != nil {
				return err
			}
			if ok {
				size += take(&list[i], data)
			}
			if size > fetchBytes {
				*n = i + 1
				return nil
			}
		}
		return nil
	}
	i := 0
	err := scanRange(r, numKey(kind, list[0].msg), numKey(kind, list[len(list)-1].msg+1), func(key, data []byte) error {
		msg := numOfKey(key)
		for list[i].msg < msg {
			i++
		}
		if list[i].msg != msg {
			return nil
		}
		size += take(&list[i], data)
		if size > fetchBytes {
			*n = i + 1
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// dense reports whether one scan is cheaper than a look-up for each: messages
// ascend, and few others lie between them.
func dense(list []records) bool {
	if len(list) < 4 || list[len(list)-1].msg-list[0].msg > 3*uint64(len(list)) {
		return false
	}
	for i := 1; i < len(list); i++ {
		if list[i].msg <= list[i-1].msg {
			return false
		}
	}
	return true
}

// assemble makes a Message of records. closeBody ends the reading.
func (a *account) assemble(ctx context.Context, rec *records, need Need) (msg *Message, closeBody func()) {
	msg = &Message{}
	closeBody = func() {}
	if rec.err != nil {
		msg.Err = rec.err
		return msg, closeBody
	}
	if need&NeedIDs != 0 {
		msg.EmailID, msg.ThreadID = emailID(rec.msg), threadID(rec.rec.thread)
	}
	if need&NeedDigest != 0 {
		d, err := message.UnmarshalDigest(rec.digest)
		if err == nil && d.Version >= message.Version {
			msg.Digest = d
		}
	}
	if need&NeedText != 0 {
		t, err := message.UnmarshalText(rec.text)
		if err == nil && t.Version >= message.Version {
			msg.Text = t
		}
	}
	// What is damaged or of an older version is made anew from the message.
	stale := need&NeedDigest != 0 && msg.Digest == nil || need&NeedText != 0 && msg.Text == nil
	if need&(NeedBody|NeedHeader) == 0 && !stale {
		return msg, closeBody
	}
	blob, err := a.store.blobs.Open(ctx, a.num, rec.rec.ref)
	if err != nil {
		msg.Err = err
		return msg, closeBody
	}
	closeBody = func() { _ = blob.Close() }
	if stale {
		if err := a.digestAgain(rec, blob, need, msg); err != nil {
			msg.Err = err
			return msg, closeBody
		}
	}
	if need&(NeedBody|NeedHeader) != 0 {
		msg.Err = a.readBody(rec, blob, need, msg)
	}
	return msg, closeBody
}

// readBody fills in the message as it is served.
func (a *account) readBody(rec *records, blob driver.Blob, need Need, msg *Message) error {
	var served io.ReaderAt = blob
	if rec.rec.hasNUL {
		// Such messages are rare, and made for the occasion as a whole.
		r, err := message.ServedReader(blob, rec.rec.rawSize, a.store.opts.Limits)
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
		msg.Header = make([]byte, rec.rec.headerLen)
		if _, err := io.ReadFull(io.NewSectionReader(served, 0, rec.rec.headerLen), msg.Header); err != nil {
			return err
		}
	}
	if need&NeedBody != 0 {
		msg.Body, msg.Raw, msg.RawSize = served, blob, rec.rec.rawSize
	}
	return nil
}

// digestAgain derives digest and text from the message, and has them stored.
func (a *account) digestAgain(rec *records, blob driver.Blob, need Need, msg *Message) error {
	var d, t []byte
	digest, err := a.digest(blob, rec.rec.rawSize, &d, &t)
	if err != nil {
		return err
	}
	if need&NeedDigest != 0 {
		msg.Digest = digest
	}
	if need&NeedText != 0 {
		if msg.Text, err = message.UnmarshalText(unpackText(t)); err != nil {
			return err
		}
	}
	num := rec.msg
	a.post(&op{weight: len(d) + len(t), run: func(tx *opTx) error {
		data, ok, err := tx.get(numKey(keyMessage, num))
		if err != nil || !ok {
			return err
		}
		stored, err := decodeMessage(data)
		if err != nil {
			return err
		}
		stored.headerLen = digest.Root.BodyStart
		tx.set(numKey(keyMessage, num), stored.encode())
		tx.set(numKey(keyDigest, num), d)
		tx.set(numKey(keyText, num), t)
		return nil
	}})
	rec.rec.headerLen = digest.Root.BodyStart
	return nil
}

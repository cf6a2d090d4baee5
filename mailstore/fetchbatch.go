package mailstore

import (
	"context"
	"errors"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// Bounds of what Fetch reads ahead. A client that does not read its answer
// pins that much.
const (
	fetchRows  = 256
	fetchBytes = 128 << 10
)

// recordBatch has the records of some messages. It is used again and again, by one
// Fetch at a time.
type recordBatch struct {
	list   []records
	data   []byte // all records
	header []byte // of the message that is being delivered
	text   []byte // the same
}

// records say where in a batch the records of a message are.
type records struct {
	msg                          uint64
	record, digest, fields, text span // empty where there is none, or it was not asked for
}

// span is a range of recordBatch.data.
type span struct{ from, to int }

func (s span) len() int { return s.to - s.from }

func (b *recordBatch) bytes(s span) []byte { return b.data[s.from:s.to:s.to] }

// keep copies a record into the batch.
func (b *recordBatch) keep(data []byte) span {
	from := len(b.data)
	b.data = append(b.data, data...)
	return span{from, len(b.data)}
}

func (s *Store) takeBatch() *recordBatch {
	if b, ok := s.batches.Get().(*recordBatch); ok {
		return b
	}
	return new(recordBatch)
}

// putBatch keeps a batch for another Fetch, unless a huge record was in it.
func (s *Store) putBatch(b *recordBatch) {
	if cap(b.text) > keepMatcher {
		b.text = nil
	}
	if cap(b.data) <= 4*fetchBytes && cap(b.header) <= fetchBytes {
		s.batches.Put(b)
	}
}

// readBatch reads the records of at least one and perhaps all rows, in one view.
func (a *account) readBatch(ctx context.Context, b *recordBatch, rows []mailindex.Row, need Need) error {
	return a.store.kv.View(ctx, a.num, func(r driver.Reader) error {
		b.data, b.list = b.data[:0], b.list[:0]
		for i := range rows {
			b.list = append(b.list, records{msg: rows[i].Msg})
		}
		kinds := [...]struct {
			need Need
			kind byte
			keep func(rec *records, at span)
		}{
			{needRecord, keyMessage, func(rec *records, at span) { rec.record = at }},
			{needDigest, keyDigest, func(rec *records, at span) { rec.digest = at }},
			{needFields, keyFields, func(rec *records, at span) { rec.fields = at }},
			{needText, keyText, func(rec *records, at span) { rec.text = at }},
		}
		for _, k := range kinds {
			if need&k.need == 0 {
				continue
			}
			if err := b.read(r, k.kind, k.keep); err != nil {
				return err
			}
		}
		return nil
	})
}

// read reads the records of one kind, until they have fetchBytes; the messages
// behind those are left to another batch.
func (b *recordBatch) read(r driver.Reader, kind byte, keep func(rec *records, at span)) error {
	most := len(b.data) + fetchBytes
	if !dense(b.list) {
		for i := range b.list {
			data, ok, err := r.Get(numKey(kind, b.list[i].msg))
			if err != nil {
				return err
			}
			if ok {
				keep(&b.list[i], b.keep(data))
			}
			if len(b.data) > most {
				b.list = b.list[:i+1]
				break
			}
		}
		return nil
	}
	i, last := 0, b.list[len(b.list)-1].msg
	err := scanRange(r, numKey(kind, b.list[0].msg), numKey(kind, last+1), func(key, data []byte) error {
		msg := numOfKey(key)
		for b.list[i].msg < msg {
			i++
		}
		if b.list[i].msg != msg {
			return nil
		}
		keep(&b.list[i], b.keep(data))
		if len(b.data) > most {
			b.list = b.list[:i+1]
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

// readMessageRec reads the record of one message.
func (a *account) readMessageRec(ctx context.Context, msg uint64) (rec messageRec, err error) {
	err = a.store.kv.View(ctx, a.num, func(r driver.Reader) error {
		data, ok, err := r.Get(numKey(keyMessage, msg))
		if err != nil {
			return err
		}
		if !ok {
			return imap.NotFound
		}
		rec, err = decodeMessage(data)
		return err
	})
	return rec, err
}

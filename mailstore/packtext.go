package mailstore

import (
	"bytes"

	"github.com/klauspost/compress/s2"

	"github.com/rookery-mail/rookery/message"
)

// The search text of a message is the largest of its records, and the engine
// writes a record several times: into its log, into a table, into the tables that
// this one is merged with. So it is compressed once, before all of that, and not
// by each of them.

// A textPacker makes records of texts, and keeps its memory in between.
type textPacker struct{ stored, packed []byte }

// keepPacking is what a textPacker keeps of either at most.
const keepPacking = 256 << 10

func (p *textPacker) pack(t *message.Text) (record []byte, err error) {
	if p.stored, err = t.AppendBinary(p.stored[:0]); err != nil {
		return nil, err
	}
	if n := s2.MaxEncodedLen(len(p.stored)); n > cap(p.packed) {
		p.packed = make([]byte, n)
	}
	record = bytes.Clone(s2.Encode(p.packed[:cap(p.packed)], p.stored))
	if cap(p.stored) > keepPacking || cap(p.packed) > keepPacking {
		*p = textPacker{}
	}
	return record, nil
}

// unpackText returns the stored form of a text. A record that is damaged, or of
// a form before this one, gives nil: then the text is made anew from the message.
func unpackText(record []byte) []byte {
	stored, err := s2.Decode(nil, record)
	if err != nil {
		return nil
	}
	return stored
}

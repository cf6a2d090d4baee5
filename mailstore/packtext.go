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

// packText returns the record of a text. scratch is memory to work in, which may
// be nil; it is returned for the next.
func packText(t *message.Text, scratch []byte) (record, used []byte, err error) {
	if used, err = t.AppendBinary(scratch[:0]); err != nil {
		return nil, used, err
	}
	return bytes.Clone(s2.Encode(nil, used)), used, nil
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

package message

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// Fields are the header fields of a message that mail programs ask for when
// they list a mailbox, ready to be sent: HEADER.FIELDS of them needs no look at
// the message. It is empty where they are not kept, because the header is
// beyond the limits.
//
// It is a sequence of fields, each with its number, its length and its octets,
// and then a 0 and the end of the header.
type Fields []byte

// FieldSet is a set of the names that [Fields] knows.
type FieldSet uint64

// fieldNames has the number of each name, from 1 to 63. The numbers are stored:
// names may be added, and then formOfDigest rises.
var fieldNames = map[string]byte{
	"from": 1, "to": 2, "cc": 3, "bcc": 4, "subject": 5, "date": 6, "message-id": 7,
	"priority": 8, "x-priority": 9, "references": 10, "newsgroups": 11, "in-reply-to": 12,
	"content-type": 13, "reply-to": 14, "sender": 15, "importance": 16, "list-id": 17,
	"list-post": 18, "list-unsubscribe": 19, "precedence": 20, "auto-submitted": 21,
	"mime-version": 22, "content-transfer-encoding": 23, "content-disposition": 24,
	"content-language": 25, "disposition-notification-to": 26, "mail-followup-to": 27,
	"mail-reply-to": 28, "followup-to": 29, "delivered-to": 30, "x-original-to": 31,
	"x-spam-flag": 32, "x-label": 33, "x-msmail-priority": 34, "organization": 35,
	"resent-from": 36, "resent-date": 37, "lines": 38, "envelope-to": 39,
	"x-uniform-type-identifier": 40, "x-universally-unique-identifier": 41,
}

// maxFields bounds the octets of Fields.
const maxFields = 8 << 10

func fieldNumber(name []byte) byte {
	var buf [32]byte
	return fieldNames[string(lowerName(&buf, name))]
}

// FieldSetOf returns the set of these names, in any case. ok is false where
// one of them is not kept.
func FieldSetOf(names []string) (set FieldSet, ok bool) {
	for _, name := range names {
		n := fieldNumber([]byte(name))
		if n == 0 {
			return 0, false
		}
		set |= 1 << n
	}
	return set, true
}

// Append appends what [FilterHeader] makes of the header for the names of set.
// Fields must not be empty.
func (f Fields) Append(dst []byte, set FieldSet) []byte {
	for len(f) > 0 && f[0] != 0 {
		size, n := binary.Uvarint(f[1:])
		if n <= 0 || size > uint64(len(f)-1-n) {
			return dst // damaged, and there is nothing else to send
		}
		end := 1 + n + int(size)
		if set>>f[0]&1 != 0 {
			dst = append(dst, f[1+n:end]...)
		}
		f = f[end:]
	}
	if len(f) > 0 {
		dst = append(dst, f[1:]...)
	}
	return dst
}

// makeFields returns the Fields of a header.
func makeFields(header []byte) Fields {
	f := make(Fields, 0, min(len(header), 1024)+16)
	for {
		l, rest, ok := nextHeaderLine(header)
		if !ok {
			break
		}
		if n := fieldNumber(l.name); n != 0 {
			f = appendBlob(append(f, n), l.raw)
		}
		header = rest
	}
	f = append(append(f, 0), header...)
	if len(f) > maxFields {
		return nil
	}
	return slices.Clip(bytes.Clone(f))
}

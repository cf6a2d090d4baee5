package message

import "encoding/binary"

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

// field is the number of a field name that means something here, 0 that of all others.
type field uint8

// Numbers up to lastKept are those of Fields, which are stored: names may be added, and
// then formOfDigest rises.
const (
	fieldFrom                    field = 1
	fieldTo                      field = 2
	fieldCc                      field = 3
	fieldBcc                     field = 4
	fieldSubject                 field = 5
	fieldDate                    field = 6
	fieldMessageID               field = 7
	fieldReferences              field = 10
	fieldInReplyTo               field = 12
	fieldContentType             field = 13
	fieldReplyTo                 field = 14
	fieldSender                  field = 15
	fieldContentTransferEncoding field = 23
	fieldContentDisposition      field = 24
	fieldContentLanguage         field = 25
	lastKept                     field = 63

	fieldContentID          field = 64
	fieldContentDescription field = 65
	fieldContentMD5         field = 66
	fieldContentLocation    field = 67
	numFields                     = 68
)

// fieldNames has the names by their numbers, in lower case.
var fieldNames = [numFields]string{
	fieldFrom:                    "from",
	fieldTo:                      "to",
	fieldCc:                      "cc",
	fieldBcc:                     "bcc",
	fieldSubject:                 "subject",
	fieldDate:                    "date",
	fieldMessageID:               "message-id",
	8:                            "priority",
	9:                            "x-priority",
	fieldReferences:              "references",
	11:                           "newsgroups",
	fieldInReplyTo:               "in-reply-to",
	fieldContentType:             "content-type",
	fieldReplyTo:                 "reply-to",
	fieldSender:                  "sender",
	16:                           "importance",
	17:                           "list-id",
	18:                           "list-post",
	19:                           "list-unsubscribe",
	20:                           "precedence",
	21:                           "auto-submitted",
	22:                           "mime-version",
	fieldContentTransferEncoding: "content-transfer-encoding",
	fieldContentDisposition:      "content-disposition",
	fieldContentLanguage:         "content-language",
	26:                           "disposition-notification-to",
	27:                           "mail-followup-to",
	28:                           "mail-reply-to",
	29:                           "followup-to",
	30:                           "delivered-to",
	31:                           "x-original-to",
	32:                           "x-spam-flag",
	33:                           "x-label",
	34:                           "x-msmail-priority",
	35:                           "organization",
	36:                           "resent-from",
	37:                           "resent-date",
	38:                           "lines",
	39:                           "envelope-to",
	40:                           "x-uniform-type-identifier",
	41:                           "x-universally-unique-identifier",
	fieldContentID:               "content-id",
	fieldContentDescription:      "content-description",
	fieldContentMD5:              "content-md5",
	fieldContentLocation:         "content-location",
}

// fieldsOfLength has the numbers of the names of each length.
var fieldsOfLength = func() (index [32][]field) {
	for f, name := range fieldNames {
		if n := len(name); n > 0 {
			index[n] = append(index[n], field(f))
		}
	}
	return index
}()

// fieldOf returns the number of a name, in any case.
func fieldOf(name []byte) field {
	if len(name) == 0 || len(name) >= len(fieldsOfLength) {
		return 0
	}
	for _, f := range fieldsOfLength[len(name)] {
		if known := fieldNames[f]; known[0] == name[0]|0x20 && equalFoldASCII(known, name) {
			return f
		}
	}
	return 0
}

// maxFields bounds the octets of Fields.
const maxFields = 8 << 10

// FieldSetOf returns the set of these names, in any case. ok is false where
// one of them is not kept.
func FieldSetOf(names []string) (set FieldSet, ok bool) {
	for _, name := range names {
		f := fieldOf([]byte(name))
		if f == 0 || f > lastKept {
			return 0, false
		}
		set |= 1 << f
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

// add appends a field, if its name is one that is kept.
func (f Fields) add(name field, raw []byte) Fields {
	if name == 0 || name > lastKept {
		return f
	}
	return appendBlob(append(f, byte(name)), raw)
}

// end appends the end of the header.
func (f Fields) end(header []byte) Fields { return append(append(f, 0), header...) }

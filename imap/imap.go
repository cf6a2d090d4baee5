// Package imap is the vocabulary of IMAP: UIDs and sequence numbers, flags,
// mailbox attributes and names, number sets, dates, object identifiers, and
// the one error type that crosses the seams of the server.
//
// It does no I/O and knows no commands: the codec is package imapwire, the
// protocol engine package imapserver. Start with [UIDSet], [Flag], [Error] and
// [NormalizeMailbox].
//
// All types are plain values. None of them may be changed by one goroutine
// while another one uses it.
package imap

import "strconv"

// UID is a unique identifier of a message within one mailbox and UIDVALIDITY
// (RFC 9051 section 2.3.1.1). Zero is no UID.
type UID uint32

// SeqNum is a message sequence number: a position in one session's view,
// counted from 1 (RFC 9051 section 2.3.1.2). Zero is no number.
type SeqNum uint32

// ModSeq is a modification sequence (RFC 7162 section 3.1): 63 bits, strictly
// ascending over the commits to a mailbox. Zero means none.
type ModSeq uint64

// MaxModSeq is the greatest value that RFC 7162 allows.
const MaxModSeq ModSeq = 1<<63 - 1

// UIDValidity tells the lives of a mailbox name apart (RFC 9051 section
// 2.3.1.1). Zero is not valid.
type UIDValidity uint32

// ObjectID is a server-made identifier of a mailbox, message or thread
// (RFC 8474 section 4): 1 to 255 letters, digits, "-" or "_", case-sensitive.
type ObjectID string

// Valid reports whether the identifier has the form that RFC 8474 asks for.
func (id ObjectID) Valid() bool {
	if len(id) == 0 || len(id) > 255 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// String returns the number in decimal.
func (u UID) String() string { return strconv.FormatUint(uint64(u), 10) }

// String returns the number in decimal.
func (n SeqNum) String() string { return strconv.FormatUint(uint64(n), 10) }

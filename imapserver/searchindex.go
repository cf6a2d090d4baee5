package imapserver

import (
	"context"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/message"
)

// SearchIndex is implemented by a Mailbox that can tell for many messages at
// once whether they match a search key, because its data has an index of its
// own. Without it the engine reads the digest, the text or the message of each
// message that flags, sizes, dates and numbers leave open.
//
// An index may be exact or only narrow the field: it may leave any answer open,
// and the engine then looks at the message itself. So an index of words, of
// trigrams or of half of the messages serves as well as a complete one, as long
// as what it says is what the engine would have found. It is asked for one key
// of a search at a time, cheap keys first, and only about messages that the
// keys before have not decided.
type SearchIndex interface {
	// Search answers term for messages of view, which is the view of this
	// session: answers has an element for each of its positions. Those that are
	// SearchOpen are asked for; Search makes them SearchYes or SearchNo where it
	// knows, and leaves alone all others. View holds messages, too, that have
	// been expunged meanwhile and that this session has not released; they are
	// answered like the others, or left open.
	//
	// An error ends the SEARCH with NO. What keeps the index alone from being
	// read is no error: then answers stay open.
	Search(ctx context.Context, view *mailindex.Snapshot, term *SearchTerm, answers []SearchAnswer) error
}

// SearchAnswer is what a SearchIndex says of a message.
type SearchAnswer uint8

// The answers.
const (
	SearchSkip SearchAnswer = iota // not asked for
	SearchOpen                     // asked for; not known (yet)
	SearchNo                       // does not match
	SearchYes                      // matches
)

// SearchTerm is a search key as a SearchIndex is asked for it. One of Text and
// Sent is set.
type SearchTerm struct {
	// Text is what is looked for in a field (BCC, CC, FROM, HEADER, SUBJECT,
	// TO), in the body (BODY) or everywhere (TEXT). A message matches where
	// message.Text.Match says so of its text or, where that has been cut off,
	// message.Scan. Needle is folded, as the text is; for BODY and TEXT it is
	// not empty. Name may have any case, and characters that names of fields
	// cannot have.
	Text *message.Key
	// Sent are the days of SENTBEFORE, SENTON and SENTSINCE. A message matches
	// where its Digest.SentDate is on one of them, in the zone that it has
	// there; one without a date does not.
	Sent *SentDays
	// Narrow asks for what is known without looking into messages. The same term
	// comes again, without Narrow, for those that other keys leave in question.
	Narrow bool
}

// SentDays are the days from Since on that are before Before.
type SentDays struct{ Since, Before imap.Date }

// Contain reports whether the message of a digest was sent on one of the days.
func (s SentDays) Contain(d *message.Digest) bool {
	t, ok := d.SentDate()
	if !ok {
		return false
	}
	day := imap.DateOf(t)
	return s.Since <= day && day < s.Before
}

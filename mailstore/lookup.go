package mailstore

import (
	"context"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/message"
)

// Answer is what a Search says of a message.
type Answer uint8

// The answers.
const (
	AnswerSkip Answer = iota // not asked for
	AnswerOpen               // asked for; not known: Fetch tells
	AnswerNo                 // does not match
	AnswerYes                // matches
)

// Term is what a Search looks for. One of Text and Sent is set.
type Term struct {
	Text *message.Key // matches as message.Text.Match does
	Sent *SentDays    // matches where the Date field has one of these days
	// Narrow asks for what the indexes know, without looking into texts.
	Narrow bool
}

// SentDays are the days from Since on that are before Before. The day of a
// message is that of its Date field in its own zone.
type SentDays struct{ Since, Before imap.Date }

// Search answers a term for messages of view, which is a snapshot that this
// session has not released: answers has an element for each of its positions,
// and those that are AnswerOpen become AnswerYes or AnswerNo where an index
// knows. The error is for what keeps the store from being read at all.
func (m *Mailbox) Search(ctx context.Context, view *mailindex.Snapshot, term *Term, answers []Answer) error {
	if err := ctx.Err(); err != nil {
		return imap.E("mailstore: search "+m.name, imap.Other, err)
	}
	var err error
	if term.Sent != nil || term.Text.Where == message.InHeader {
		err = m.a.searchColumns(ctx, view, term, answers)
	}
	if err == nil && term.Text != nil {
		err = m.a.searchText(ctx, view, term, answers)
	}
	if err != nil {
		return imap.E("mailstore: search "+m.name, imap.Other, err)
	}
	return nil
}

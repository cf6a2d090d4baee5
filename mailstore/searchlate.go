package mailstore

import (
	"context"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/message"
)

// lateMessage is a message that a search looks into though it has no text yet.
type lateMessage struct {
	textless
	pos int32 // in the view
}

// lateOnes returns those of a chunk that are open because they have no text yet.
func (s *textSearch) lateOnes(r driver.Reader, chunk []asked) (list []lateMessage, err error) {
	for _, q := range chunk {
		if q.msg <= s.texts || s.answers[q.pos] != AnswerOpen {
			continue
		}
		data, ok, err := r.Get(numKey(keyMessage, q.msg))
		if err != nil && !isDamage(err) {
			return nil, err
		}
		if !ok || err != nil {
			continue
		}
		if rec, err := decodeMessage(data); err == nil {
			list = append(list, lateMessage{textless{q.msg, rec}, q.pos})
		}
	}
	return list, nil
}

// lookLate looks into messages themselves. What cannot be read stays open.
func (s *textSearch) lookLate(ctx context.Context, list []lateMessage) error {
	g := s.a.store.digester()
	defer s.a.store.digesters.Put(g)
	for i := range list {
		q := &list[i]
		answer, err := s.answerLate(ctx, g, &q.textless)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			s.answers[q.pos] = answer
		case imap.KindOf(err) != imap.NotFound && !isDamage(err):
			return err
		}
	}
	return nil
}

// answerLate looks into one message.
func (s *textSearch) answerLate(ctx context.Context, g *digester, q *textless) (Answer, error) {
	blob, err := s.a.openBlob(ctx, q.msg, &q.rec)
	if err != nil {
		return AnswerOpen, err
	}
	defer blob.Close()
	size := q.rec.rawSize
	if s.key.Where == message.InHeader && !q.rec.hasNUL {
		size = q.rec.headerLen
	}
	text, err := g.parser.TextServed(blob, size)
	switch {
	case err != nil:
		return AnswerOpen, err
	case text.Match(s.key):
		return AnswerYes, nil
	case text.Truncated:
		return AnswerOpen, nil
	}
	return AnswerNo, nil
}

package mailstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/message"
)

// askedMessage is a message that a search asks for.
type askedMessage struct {
	msg uint64
	pos int32 // in the view
}

// searchWindow is how many messages are looked up in one view of the store.
const searchWindow = 1 << 13

// searchColumns answers a term with a column, if there is one for it.
func (a *account) searchColumns(ctx context.Context, view *mailindex.Snapshot, term *Term, answers []Answer) error {
	i, builder := a.store.columnBuilder()
	if builder == nil {
		return nil
	}
	s := columnSearch{a: a, deriver: i, answers: answers}
	if term.Sent != nil {
		s.id, s.sent = sentColumnID, *term.Sent
	} else {
		s.needle = term.Text.Needle
		name := message.FoldString(term.Text.Name)
		for _, c := range builder.columns {
			if c.field == name && name != "" {
				s.id = c.id
			}
		}
	}
	if s.id == 0 {
		return nil
	}
	asked := make([]askedMessage, 0, min(view.Len(), searchWindow+mailindex.PageRows))
	for p := range view.Pages() {
		of := answers[p.First:][:p.Len()]
		for i, msg := range p.Msgs {
			if of[i] == AnswerOpen {
				asked = append(asked, askedMessage{msg, int32(p.First + i)})
			}
		}
		if len(asked) >= searchWindow {
			if err := s.run(ctx, asked); err != nil {
				return err
			}
			asked = asked[:0]
		}
	}
	return s.run(ctx, asked)
}

// columnBuilder returns the deriver of columns and its number.
func (s *Store) columnBuilder() (int, *columnBuilder) {
	for i, d := range s.derivers {
		if b, ok := d.(*columnBuilder); ok {
			return i, b
		}
	}
	return 0, nil
}

// columnSearch is a search in one column.
type columnSearch struct {
	a       *account
	deriver int
	answers []Answer
	id      byte     // the column
	needle  []byte   // for text
	sent    SentDays // for dates

	b     block
	found []Answer // by index in the block
	err   error    // damage
}

// skipBlocks is how many blocks nobody asks for are passed by before another
// scan begins behind them.
const skipBlocks = 8

// run answers what is asked.
func (s *columnSearch) run(ctx context.Context, asked []askedMessage) error {
	if len(asked) == 0 {
		return nil
	}
	ascending := func(x, y askedMessage) int { return cmp.Compare(x.msg, y.msg) }
	if !slices.IsSortedFunc(asked, ascending) {
		slices.SortFunc(asked, ascending) // messages that were copied are in any order
	}
	err := s.a.store.kv.View(ctx, s.a.num, func(r driver.Reader) error { return s.read(r, asked) })
	if s.err != nil {
		s.a.deriveAnew(s.deriver, s.err)
	}
	return err
}

// read answers what is asked from the blocks that there are.
func (s *columnSearch) read(r driver.Reader, rest []askedMessage) error {
	d := s.a.store.derivers[s.deriver]
	data, ok, err := r.Get(markKey(d))
	if err != nil || !ok {
		return err
	}
	p, err := decodeProgress(data)
	if err != nil || p.version != d.version() {
		return nil // the background mends it
	}
	for len(rest) > 0 && rest[0].msg <= p.mark {
		skipped := 0
		err := scanRange(r, columnKey(s.id, rest[0].msg), columnKey(s.id, p.mark+1), func(key, value []byte) error {
			last := numOfKey(key)
			if rest[0].msg > last {
				if skipped++; skipped > skipBlocks {
					return errEnough
				}
				return nil
			}
			skipped = 0
			s.err = cmp.Or(s.err, s.block(value, last, rest))
			for len(rest) > 0 && rest[0].msg <= last {
				rest = rest[1:]
			}
			if len(rest) == 0 {
				return errEnough
			}
			return nil
		})
		if !errors.Is(err, errEnough) {
			return err // nil at the end of the blocks
		}
	}
	return nil
}

// block answers those of some messages that are in a block, whose last message
// is last.
func (s *columnSearch) block(record []byte, last uint64, asked []askedMessage) error {
	if err := s.b.read(s.id, record); err != nil {
		return err
	}
	if s.b.n == 0 || s.b.last() != last {
		return errDamaged
	}
	s.found = slices.Grow(s.found[:0], s.b.n)[:s.b.n]
	for i := range s.found {
		s.found[i] = AnswerNo
	}
	for _, i := range s.b.open {
		s.found[i] = AnswerOpen
	}
	if err := s.match(); err != nil {
		return err
	}
	first := 0
	for _, run := range s.b.runs {
		for len(asked) > 0 && asked[0].msg < run.first {
			asked = asked[1:]
		}
		for len(asked) > 0 && asked[0].msg-run.first < run.count {
			s.answers[asked[0].pos] = s.found[first+int(asked[0].msg-run.first)]
			asked = asked[1:]
		}
		first += int(run.count)
	}
	return nil
}

// match notes which messages of the block match.
func (s *columnSearch) match() error {
	if s.id == sentColumnID {
		for i, sent := range s.b.sent {
			if sent.ok && s.sent.Since <= sent.day() && sent.day() < s.sent.Before {
				s.found[i] = AnswerYes
			}
		}
		return nil
	}
	if bytes.IndexByte(s.needle, '\n') >= 0 {
		return nil // it would reach from one value into the next
	}
	from := uint32(0)
	for i := 0; i < s.b.n; i++ {
		hit := bytes.Index(s.b.text[from:], s.needle)
		if hit < 0 || int(from) == len(s.b.text) {
			return nil
		}
		if from == 0 {
			if err := s.b.split(); err != nil {
				return err
			}
		}
		for s.b.ends[i] <= from+uint32(hit) {
			i++
		}
		s.found[i] = AnswerYes
		from = s.b.ends[i]
	}
	return nil
}

package imapserver

import (
	"context"
	"io"
	"iter"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/message"
)

// Matcher decides whether a message matches a search key. One of Row and Match
// is set: Row looks at the index entry, Match also at what Need asks for. Both
// are called by the goroutine that runs the command. A key that looks something
// up tells SearchMessage.Fail where it cannot.
//
// A search first asks what the mailbox's rows alone can tell, then the index
// that the back end may have (SearchIndex); the back end is asked for messages
// only where that leaves the answer open. Keys are asked in the order of what
// they cost, not of the command, and not about messages that others decide.
type Matcher struct {
	Row   func(m *SearchMessage) bool
	Need  Need
	Match func(m *SearchMessage, msg *Message) bool

	// Combinations.
	kids    matcherList
	op      matchOp
	negated bool // NOT, of a key or of a combination
	// set, where set, does for a whole view what Row does.
	set func(view *mailindex.Snapshot, yes positionSet)
	// term, where it is not empty, is what an index of the mailbox is asked for.
	// Its Text is searched in the message itself when its digested text has been
	// cut off.
	term SearchTerm
}

// decides reports whether there is something to ask.
func (k *Matcher) decides() bool {
	return k.op != opLeaf || k.Row != nil || k.Match != nil || k.term.Text != nil
}

type matchOp uint8

const (
	opLeaf matchOp = iota
	opAnd
	opOr
)

func and(list matcherList) Matcher {
	if len(list) == 1 && len(list[0]) == 1 {
		return list[0][0]
	}
	return Matcher{op: opAnd, kids: list}
}

func or(a, b Matcher) Matcher { return Matcher{op: opOr, kids: matcherList{{a, b}}} }

func not(a Matcher) Matcher {
	a.negated = !a.negated
	return a
}

// verdict is the answer of a key that may not know yet.
type verdict uint8

const (
	no verdict = iota
	yes
	open
)

func verdictOf(b bool) verdict {
	if b {
		return yes
	}
	return no
}

// matcherList is a list of matchers, in pieces: one that grew by being copied would
// leave behind as much garbage as a client's ten thousand keys take themselves.
type matcherList [][]Matcher

// A piece of a matcherList has room for twice as many as the one before.
const (
	firstPiece   = 2
	longestPiece = 64
)

func (l *matcherList) add(k Matcher) {
	n := len(*l) - 1
	if n < 0 || len((*l)[n]) == cap((*l)[n]) {
		room := firstPiece
		if n >= 0 {
			room = min(2*len((*l)[n]), longestPiece)
		}
		*l = append(*l, make([]Matcher, 0, room))
		n++
	}
	(*l)[n] = append((*l)[n], k)
}

func (l matcherList) len() (n int) {
	for _, piece := range l {
		n += len(piece)
	}
	return n
}

// all iterates over the matchers in order.
func (l matcherList) all() iter.Seq[*Matcher] {
	return func(yield func(*Matcher) bool) {
		for _, piece := range l {
			for i := range piece {
				if !yield(&piece[i]) {
					return
				}
			}
		}
	}
}

// decide answers with the index entry, and with the message where msg is given.
func (k *Matcher) decide(m *SearchMessage, msg *Message) verdict {
	v := k.decideKey(m, msg)
	switch {
	case !k.negated || v == open:
		return v
	case v == yes:
		return no
	}
	return yes
}

// decideKey is decide before NOT.
func (k *Matcher) decideKey(m *SearchMessage, msg *Message) verdict {
	switch k.op {
	case opAnd:
		return k.combine(m, msg, no)
	case opOr:
		return k.combine(m, msg, yes)
	}
	switch {
	case k.Row != nil:
		return verdictOf(k.Row(m))
	case msg == nil:
		return open
	case k.term.Text != nil:
		return matchMessage(m, *k.term.Text, msg)
	}
	return verdictOf(k.Match(m, msg))
}

// combine asks the parts of AND and OR; final is the answer that settles it.
func (k *Matcher) combine(m *SearchMessage, msg *Message, final verdict) verdict {
	result := verdictOf(final == no)
	for kid := range k.kids.all() {
		switch v := kid.decide(m, msg); v {
		case final:
			return final
		case open:
			result = open
		}
	}
	return result
}

// needs is what any of the keys may ask of the back end.
func (k *Matcher) needs() Need {
	n := k.Need
	for kid := range k.kids.all() {
		n |= kid.needs()
	}
	return n
}

// matchMessage searches the digested text. Where that has been cut off only the
// message itself can tell, and the answer is open until it is given.
func matchMessage(m *SearchMessage, key message.Key, msg *Message) verdict {
	if msg.Text != nil {
		if msg.Text.Match(key) {
			return yes
		}
		if !msg.Text.Truncated {
			return no
		}
	}
	if msg.Body == nil || msg.Digest == nil {
		return open
	}
	// A program may have thousands of keys, and a message tens of megabytes.
	if err := m.Context().Err(); err != nil {
		m.Fail(err)
		return no
	}
	found, err := message.Scan(io.NewSectionReader(msg.Body, 0, msg.Digest.Size), message.Limits{}, []message.Key{key})
	if err != nil && m.from != nil {
		m.from.noteUnreadable(m.Row, err)
	}
	return verdictOf(err == nil && len(found) == 1 && found[0])
}

// searcher runs one search program over a session's view.
type searcher struct {
	ctx     context.Context // of the command, for keys that look something up
	c       *Call
	sel     *selection
	program Matcher
	err     error // what SearchMessage.Fail was told first

	unreadable error // the first message that could not be read, and nobody has expunged

	answers   []SearchAnswer // of a SearchIndex, used for one key after the other
	spare     []positionSet  // sets that are not in use
	questions int            // that a SearchIndex was asked
}

// run returns the positions that match, ascending.
func (s *searcher) run(ctx context.Context) ([]int, error) {
	everything := newPositionSet(s.sel.view.Len())
	everything.addRange(0, s.sel.view.Len())
	o, err := s.evaluate(ctx, &s.program, everything)
	if err != nil {
		return nil, err
	}
	found, unsure := o.yes.list(), o.open.list()
	// Digests are small; whole messages are read for those only that they leave
	// open.
	need := s.program.needs()
	for _, more := range []Need{0, NeedDigest | NeedBody} {
		if len(unsure) == 0 {
			break
		}
		also, still, err := s.ask(ctx, unsure, need|more)
		if err != nil {
			return nil, err
		}
		found, unsure = merge(found, also), still
	}
	return found, nil
}

// ask looks into the messages at the given positions.
func (s *searcher) ask(ctx context.Context, positions []int, need Need) (found, unsure []int, err error) {
	for len(positions) > 0 {
		batch := positions[:min(fetchBatch, len(positions))]
		positions = positions[len(batch):]
		rows := make([]mailindex.Row, len(batch))
		for i, pos := range batch {
			rows[i] = s.sel.view.Row(pos)
		}
		m := SearchMessage{View: s.sel.view, from: s}
		err := s.sel.box.Fetch(ctx, rows, need, func(i int, msg *Message) error {
			m.Row, m.Seq = rows[i], imap.SeqNum(batch[i]+1)
			if msg.Err != nil {
				s.noteUnreadable(rows[i], msg.Err)
				return nil
			}
			switch s.program.decide(&m, msg) {
			case yes:
				found = append(found, batch[i])
			case open:
				unsure = append(unsure, batch[i])
			}
			return s.err
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return found, unsure, nil
}

// noteUnreadable remembers that nobody knows whether a message matches: the others are
// told, and the command ends with NO. Who is gone is not found (RFC 2180 section 4.3).
func (s *searcher) noteUnreadable(row mailindex.Row, err error) {
	if kind := imap.KindOf(err); kind == imap.NotFound || kind == imap.ExpungeIssued {
		return
	}
	if isInternal(err) {
		s.c.Conn.log().Error("a message cannot be read", "user", s.c.Conn.login.user, "mailbox", s.sel.name, "uid", row.UID, "err", err)
	}
	if s.unreadable == nil {
		s.unreadable = err
	}
}

// uids returns the UIDs at some positions.
func (s *searcher) uids(positions []int) imap.UIDSet {
	var set imap.UIDSet
	for _, pos := range positions {
		set.Add(s.sel.view.UID(pos))
	}
	return set
}

// merge merges two ascending lists.
func merge(a, b []int) []int {
	if len(a) == 0 {
		return b
	}
	all := make([]int, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0] < b[0] {
			all, a = append(all, a[0]), a[1:]
		} else {
			all, b = append(all, b[0]), b[1:]
		}
	}
	return append(append(all, a...), b...)
}

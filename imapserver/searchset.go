package imapserver

import (
	"context"
	"iter"
	"math/bits"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/message"
)

// A search works on sets of positions as far as it can: each key is asked about
// all messages that are still in question at once, cheap keys first. What keys
// leave open in the end is looked up message by message (searchrun.go).

// positionSet is a set of positions in a view, one bit each.
type positionSet []uint64

func newPositionSet(n int) positionSet { return make(positionSet, (n+63)/64) }

func (s positionSet) add(i int)      { s[i>>6] |= 1 << (i & 63) }
func (s positionSet) has(i int) bool { return s[i>>6]&(1<<(i&63)) != 0 }

// addRange adds the positions from first up to, but not including, end.
func (s positionSet) addRange(first, end int) {
	for first < end && first&63 != 0 {
		s.add(first)
		first++
	}
	for ; first+64 <= end; first += 64 {
		s[first>>6] = ^uint64(0)
	}
	for ; first < end; first++ {
		s.add(first)
	}
}

func (s positionSet) union(o positionSet) {
	for i, w := range o {
		s[i] |= w
	}
}

func (s positionSet) intersect(o positionSet) {
	for i, w := range o {
		s[i] &= w
	}
}

func (s positionSet) subtract(o positionSet) {
	for i, w := range o {
		s[i] &^= w
	}
}

func (s positionSet) isEmpty() bool {
	for _, w := range s {
		if w != 0 {
			return false
		}
	}
	return true
}

func (s positionSet) count() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// all iterates over the positions, ascending.
func (s positionSet) all() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, w := range s {
			for ; w != 0; w &= w - 1 {
				if !yield(i<<6 + bits.TrailingZeros64(w)) {
					return
				}
			}
		}
	}
}

// list returns the positions, ascending.
func (s positionSet) list() []int {
	list := make([]int, 0, s.count())
	for i := range s.all() {
		list = append(list, i)
	}
	return list
}

// outcome is what a key says of the positions that it was asked about: those
// that match, and those that it leaves open. The others do not match.
type outcome struct{ yes, open positionSet }

// A program may have thousands of keys, and a set costs a bit for each message:
// sets are used again, so that what a search holds depends on how deep its keys
// are nested and not on their number.

// empty returns an empty set.
func (s *searcher) empty() positionSet {
	n := len(s.spare)
	if n == 0 {
		return newPositionSet(s.sel.view.Len())
	}
	set := s.spare[n-1]
	s.spare = s.spare[:n-1]
	clear(set)
	return set
}

// copied returns a copy of a set.
func (s *searcher) copied(set positionSet) positionSet {
	c := s.empty()
	copy(c, set)
	return c
}

// discard takes back sets that nobody uses any more.
func (s *searcher) discard(sets ...positionSet) { s.spare = append(s.spare, sets...) }

// evaluate asks a key about positions. It does not change asked; the outcome's
// sets belong to the caller.
func (s *searcher) evaluate(ctx context.Context, k *Matcher, asked positionSet) (o outcome, err error) {
	if err := ctx.Err(); err != nil {
		return o, err
	}
	switch k.op {
	case opAnd:
		o, err = s.evaluateAll(ctx, k, asked)
	case opOr:
		o, err = s.evaluateAny(ctx, k, asked)
	default:
		o, err = s.evaluateKey(ctx, k, asked)
	}
	if err != nil || !k.negated {
		return o, err
	}
	yes := s.copied(asked)
	yes.subtract(o.yes)
	yes.subtract(o.open)
	s.discard(o.yes)
	return outcome{yes, o.open}, nil
}

// evaluateKey asks a single key, NOT left aside.
func (s *searcher) evaluateKey(ctx context.Context, k *Matcher, asked positionSet) (o outcome, err error) {
	switch {
	case asked.isEmpty():
		return outcome{s.empty(), s.empty()}, nil
	case k.set != nil:
		o = outcome{s.empty(), s.empty()}
		k.set(s.sel.view, o.yes)
		o.yes.intersect(asked)
		return o, nil
	case k.Row != nil:
		o = outcome{s.empty(), s.empty()}
		return o, s.askRows(k, asked, o.yes)
	case k.term.Text != nil || k.term.Sent != nil:
		return s.askIndex(ctx, k, asked)
	}
	return outcome{s.empty(), s.copied(asked)}, nil
}

// evaluateAll is AND: later keys are asked about what the former ones leave.
func (s *searcher) evaluateAll(ctx context.Context, k *Matcher, asked positionSet) (all outcome, err error) {
	all = outcome{s.copied(asked), s.empty()}
	rest := s.copied(asked)
	kids := k.byCost()
	for i, kid := range kids {
		if kid.cost() >= costText && (i == 0 || kids[i-1].cost() < costText) {
			if rest, err = s.narrow(ctx, kids[i:], rest); err != nil {
				return all, err
			}
		}
		o, err := s.evaluate(ctx, kid, rest)
		if err != nil {
			return all, err
		}
		// Open is what no key denies and some key does not know.
		all.open.union(o.open)
		all.yes.intersect(o.yes)
		o.yes.union(o.open)
		all.open.intersect(o.yes)
		s.discard(rest, o.open)
		rest = o.yes
		if rest.isEmpty() {
			break
		}
	}
	all.yes.intersect(rest)
	s.discard(rest)
	return all, nil
}

// narrowFrom is how many messages have to be in question for narrow.
const narrowFrom = 64

// narrow takes from asked what an index rules out for one of several parts of an
// AND that look into texts: so the rarest of them decides how many texts the
// others look into.
func (s *searcher) narrow(ctx context.Context, kids []*Matcher, asked positionSet) (positionSet, error) {
	if _, ok := s.sel.box.(SearchIndex); !ok || len(kids) < 2 || asked.count() < narrowFrom {
		return asked, nil
	}
	for _, kid := range kids {
		if kid.op != opLeaf || kid.negated || kid.term.Text == nil || asked.isEmpty() {
			continue
		}
		quick := *kid
		quick.term.Narrow = true
		o, err := s.askIndex(ctx, &quick, asked)
		if err != nil {
			return nil, err
		}
		o.yes.union(o.open)
		s.discard(asked, o.open)
		asked = o.yes
	}
	return asked, nil
}

// evaluateAny is OR: later keys are asked about what no former one has found.
func (s *searcher) evaluateAny(ctx context.Context, k *Matcher, asked positionSet) (some outcome, err error) {
	some = outcome{s.empty(), s.empty()}
	rest := s.copied(asked)
	for _, kid := range k.byCost() {
		o, err := s.evaluate(ctx, kid, rest)
		if err != nil {
			return some, err
		}
		some.yes.union(o.yes)
		some.open.union(o.open)
		rest.subtract(o.yes)
		s.discard(o.yes, o.open)
	}
	some.open.subtract(some.yes)
	s.discard(rest)
	return some, nil
}

// askRows asks a key that looks at index entries.
func (s *searcher) askRows(k *Matcher, asked, yes positionSet) error {
	m := SearchMessage{View: s.sel.view, from: s}
	for p := range s.sel.view.Pages() {
		for i := range p.Len() {
			pos := p.First + i
			if !asked.has(pos) {
				continue
			}
			m.Row, m.Seq = p.Row(i), imap.SeqNum(pos+1)
			if k.Row(&m) {
				yes.add(pos)
			}
			if s.err != nil {
				return s.err
			}
		}
	}
	return nil
}

// maxQuestions is how many keys of one program an index is asked about. The
// index may have to read the messages for each of them; what is left is looked
// up message by message, which reads each once, however many keys there are.
const maxQuestions = 32

// askIndex asks the mailbox's own index, where it has one.
func (s *searcher) askIndex(ctx context.Context, k *Matcher, asked positionSet) (o outcome, err error) {
	index, ok := s.sel.box.(SearchIndex)
	if s.questions++; !ok || s.questions > maxQuestions {
		return outcome{s.empty(), s.copied(asked)}, nil
	}
	if s.answers == nil {
		s.answers = make([]SearchAnswer, s.sel.view.Len())
	}
	clear(s.answers)
	for i := range asked.all() {
		s.answers[i] = SearchOpen
	}
	if err := index.Search(ctx, s.sel.view, &k.term, s.answers); err != nil {
		return o, err
	}
	o = outcome{s.empty(), s.empty()}
	for i, a := range s.answers {
		switch a {
		case SearchYes:
			o.yes.add(i)
		case SearchOpen:
			o.open.add(i)
		}
	}
	// Answers that nobody asked for do not count.
	o.yes.intersect(asked)
	o.open.intersect(asked)
	return o, nil
}

// The costs of keys, from what is in memory to what reads messages.
const (
	costSet = iota
	costRow
	costField
	costText
	costMessage
)

// cost tells what it costs to ask a key.
func (k *Matcher) cost() int {
	switch {
	case k.op != opLeaf:
		most := costSet
		for kid := range k.kids.all() {
			most = max(most, kid.cost())
		}
		return most
	case k.set != nil:
		return costSet
	case k.Row != nil:
		return costRow
	case k.term.Sent != nil, k.term.Text != nil && k.term.Text.Where == message.InHeader:
		return costField
	case k.term.Text != nil:
		return costText
	}
	return costMessage
}

// byCost returns the parts of a combination, the cheapest first.
func (k *Matcher) byCost() []*Matcher {
	var counts [costMessage + 1]int
	costs := make([]uint8, 0, k.kids.len())
	for kid := range k.kids.all() {
		cost := kid.cost()
		costs = append(costs, uint8(cost))
		counts[cost]++
	}
	next, from := [len(counts)]int{}, 0 // where in the list the next one of each cost goes
	for cost, n := range counts {
		next[cost], from = from, from+n
	}
	list, i := make([]*Matcher, len(costs)), 0
	for kid := range k.kids.all() {
		list[next[costs[i]]] = kid
		next[costs[i]]++
		i++
	}
	return list
}

// everyMessage matches all messages.
func everyMessage() Matcher {
	return Matcher{
		Row: func(*SearchMessage) bool { return true },
		set: func(view *mailindex.Snapshot, yes positionSet) { yes.addRange(0, view.Len()) },
	}
}

// flagMatcher is a key about flags: it is asked once for each combination of
// flags that there is.
func flagMatcher(match func(*mailindex.FlagSet) bool) Matcher {
	return Matcher{
		Row: func(m *SearchMessage) bool { return match(m.View.Flags(m.Row.Flags)) },
		set: func(view *mailindex.Snapshot, yes positionSet) {
			matches := make([]bool, view.FlagSets())
			some := false
			for id := range matches {
				matches[id] = view.FlagCount(mailindex.FlagsID(id)) > 0 && match(view.Flags(mailindex.FlagsID(id)))
				some = some || matches[id]
			}
			if !some {
				return
			}
			for p := range view.Pages() {
				for i, id := range p.Flags {
					if matches[id] {
						yes.add(p.First + i)
					}
				}
			}
		},
	}
}

// uidMatcher matches messages by UID.
func uidMatcher(set imap.UIDSet) Matcher {
	return Matcher{
		Row: func(m *SearchMessage) bool { return set.Contains(m.Row.UID) },
		set: func(view *mailindex.Snapshot, yes positionSet) {
			for _, r := range set.Ranges() {
				first, _ := view.Find(r.Start)
				end, found := view.Find(r.Stop)
				if found {
					end++
				}
				yes.addRange(first, end)
			}
		},
	}
}

// seqMatcher matches messages by sequence number.
func seqMatcher(set imap.SeqSet) Matcher {
	return Matcher{
		Row: func(m *SearchMessage) bool { return set.Contains(m.Seq) },
		set: func(view *mailindex.Snapshot, yes positionSet) {
			for _, r := range set.Ranges() {
				yes.addRange(max(int(r.Start), 1)-1, min(int(r.Stop), view.Len()))
			}
		},
	}
}

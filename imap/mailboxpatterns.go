package imap

import "unicode/utf8"

// MailboxPatterns are the patterns of one LIST, made ready to be compared with
// many names. It is used by one goroutine at a time. Make it with
// [NewMailboxPatterns].
//
// All patterns are one machine, whose states are bits: bit i says that what was
// read of a name is matched by a pattern up to its i-th character. So a name costs
// its length times that of all patterns, divided by 64, whatever they are, and less
// where no pattern can match any more.
type MailboxPatterns struct {
	sep rune

	literal map[rune][]uint64 // where this character is wanted
	folded  map[rune][]uint64 // the same in any case, of the letters of INBOX
	star    []uint64          // where "*" stands
	percent []uint64
	begin   []uint64 // the states before the first character
	end     []uint64 // the states behind a whole pattern

	state []uint64
}

// NewMailboxPatterns makes patterns ready. "*" stands for any characters, "%" for
// any but sep (RFC 9051 section 6.3.9); a name matches when one of the patterns
// matches it as a whole. All are UTF-8. A first component INBOX matches in any
// case. sep is the hierarchy separator, zero where names are flat.
func NewMailboxPatterns(sep rune, patterns ...string) *MailboxPatterns {
	states := 0
	for _, p := range patterns {
		states += utf8.RuneCountInString(p) + 1
	}
	words := (states + 63) / 64
	m := &MailboxPatterns{
		sep: sep, literal: map[rune][]uint64{},
		star: make([]uint64, words), percent: make([]uint64, words),
		begin: make([]uint64, words), end: make([]uint64, words), state: make([]uint64, words),
	}
	at := 0
	for _, p := range patterns {
		at = m.add(p, at)
	}
	m.foldInbox()
	m.skipWildcards(m.begin)
	return m
}

// add gives a pattern the states from at on, and returns the next that is free.
func (m *MailboxPatterns) add(pattern string, at int) int {
	setBit(m.begin, at)
	wild := false // the last character was a wildcard
	for _, r := range pattern {
		switch {
		case !isWildcard(r):
			if m.literal[r] == nil {
				m.literal[r] = make([]uint64, len(m.begin))
			}
			setBit(m.literal[r], at)
		case wild: // runs of wildcards mean what one of them does
			if r == '*' {
				setBit(m.star, at-1)
			}
			continue
		case r == '*':
			setBit(m.star, at)
		default:
			setBit(m.percent, at)
		}
		wild = isWildcard(r)
		at++
	}
	setBit(m.end, at)
	return at + 1
}

// foldInbox notes where the letters of INBOX are wanted in one case or the other.
func (m *MailboxPatterns) foldInbox() {
	m.folded = make(map[rune][]uint64, len(Inbox))
	for _, upper := range Inbox {
		lower := upper + 'a' - 'A'
		if m.literal[upper] == nil && m.literal[lower] == nil {
			continue
		}
		both := make([]uint64, len(m.begin))
		copy(both, m.literal[upper])
		for i, w := range m.literal[lower] {
			both[i] |= w
		}
		m.folded[upper], m.folded[lower] = both, both
	}
}

// skipWildcards adds the states behind wildcards that stand for nothing.
func (m *MailboxPatterns) skipWildcards(state []uint64) {
	carry := uint64(0)
	for i, s := range state {
		wild := s & (m.star[i] | m.percent[i])
		state[i] |= wild<<1 | carry
		carry = wild >> 63
	}
}

// Match reports whether one of the patterns matches the whole name.
func (m *MailboxPatterns) Match(name string) bool { return m.match(name, nil) }

// MatchAbove calls found for each mailbox above name that one of the patterns
// matches, from the top down. It costs what Match does.
func (m *MailboxPatterns) MatchAbove(name string, found func(parent string)) { m.match(name, found) }

func (m *MailboxPatterns) match(name string, above func(string)) bool {
	copy(m.state, m.begin)
	foldTo := inboxPrefix(name, m.sep)
	for at, r := range name {
		isSep := r == m.sep && m.sep != 0
		if isSep && above != nil && m.matched() {
			above(name[:at])
		}
		wanted := m.literal
		if at < foldTo {
			wanted = m.folded
		}
		if !m.step(wanted[r], isSep) {
			return false
		}
	}
	return m.matched()
}

// step reads one character, which is a literal where wanted says so, and reports
// whether a pattern can still match.
func (m *MailboxPatterns) step(wanted []uint64, isSep bool) bool {
	state := m.state
	alive, carry := uint64(0), uint64(0)
	for i, s := range state {
		if s|carry == 0 {
			continue
		}
		stay := s & m.star[i]
		if !isSep {
			stay |= s & m.percent[i]
		}
		next, out := stay|carry, uint64(0)
		if wanted != nil {
			hit := s & wanted[i]
			next |= hit << 1
			out = hit >> 63
		}
		// No two wildcards are side by side, so one shift skips all of them.
		wild := next & (m.star[i] | m.percent[i])
		next |= wild << 1
		carry = out | wild>>63
		state[i] = next
		alive |= next
	}
	return alive != 0
}

// matched reports whether what was read so far is what a pattern wants.
func (m *MailboxPatterns) matched() bool {
	for i, s := range m.state {
		if s&m.end[i] != 0 {
			return true
		}
	}
	return false
}

// MatchMailbox reports whether one LIST pattern matches a whole name. See
// [NewMailboxPatterns], which is for many names.
func MatchMailbox(pattern, name string, sep rune) bool {
	return NewMailboxPatterns(sep, pattern).Match(name)
}

func setBit(set []uint64, i int) { set[i>>6] |= 1 << (i & 63) }

func isWildcard(r rune) bool { return r == '*' || r == '%' }

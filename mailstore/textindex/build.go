package textindex

import "slices"

// buildPairs is how many pairs of a gram and a document a Builder gathers, at
// 16 bytes each while it sorts.
const buildPairs = 1 << 19

// firstPairs is how many a Builder has room for at first.
const firstPairs = 1 << 14

// Builder makes a segment of the texts of documents. It is used by one
// goroutine at a time.
type Builder struct {
	first uint64
	pairs []uint64 // gram<<16 | document, by document
	spare []uint64 // for sorting
	open  []uint32
	docs  []uint32
	seen  gramSet
}

// Begin begins a segment with the document number first. What was added
// before is forgotten.
func (b *Builder) Begin(first uint64) {
	b.first = first
	b.pairs, b.open, b.docs = b.pairs[:0], b.open[:0], b.docs[:0]
}

// Room reports whether a document can be added: the segment is neither full nor
// too far from its number. Numbers must ascend.
func (b *Builder) Room(doc uint64) bool {
	return len(b.pairs) < buildPairs && doc-b.first < MaxSpan
}

// Len returns how many documents have been added.
func (b *Builder) Len() int { return len(b.docs) }

// Add adds a document. A needle is looked for in each of its texts, not across
// two of them.
func (b *Builder) Add(doc uint64, texts ...[]byte) {
	local := uint32(doc - b.first)
	b.docs = append(b.docs, local)
	size := 0
	for _, t := range texts {
		size += len(t)
	}
	b.seen.reset(size)
	if b.pairs == nil {
		b.pairs = make([]uint64, 0, firstPairs)
	}
	if len(b.pairs)+size > cap(b.pairs) { // twice as many each time: all are copied
		b.pairs = slices.Grow(b.pairs, max(size, cap(b.pairs)))
	}
	for _, t := range texts {
		if len(t) < MinNeedle {
			continue
		}
		g := gramAt(t) >> 8
		for _, c := range t[2:] {
			g = g<<8&0xffffff | Gram(c)
			if b.seen.add(g) {
				b.pairs = append(b.pairs, uint64(g)<<16|uint64(local))
			}
		}
	}
}

// AddOpen adds a document whose text is not known, or not as a whole: it is a
// candidate of every search.
func (b *Builder) AddOpen(doc uint64) {
	local := uint32(doc - b.first)
	b.docs = append(b.docs, local)
	b.open = append(b.open, local)
}

// Finish gives emit the pages of the segment, in order. It covers the numbers
// from that of Begin to last.
func (b *Builder) Finish(last uint64, emit func(Page) error) (Segment, error) {
	seg := Segment{First: b.first, Last: last, Docs: len(b.docs)}
	b.sort()
	w := pageWriter{seg: &seg, emit: emit}
	var docs []uint32
	for i := 0; i < len(b.pairs); {
		g := b.pairs[i] >> 16
		docs = docs[:0]
		for ; i < len(b.pairs) && b.pairs[i]>>16 == g; i++ {
			docs = append(docs, uint32(b.pairs[i]&0xffff))
		}
		if err := w.list(Gram(g), docs); err != nil {
			return seg, err
		}
	}
	if err := w.list(gramOpen, b.open); err != nil {
		return seg, err
	}
	if err := w.list(gramDocs, b.docs); err != nil {
		return seg, err
	}
	return seg, w.flush()
}

// sort sorts the pairs by their grams; documents stay in order. It is a radix
// sort of two passes.
func (b *Builder) sort() {
	const bits = 12
	b.spare = slices.Grow(b.spare[:0], len(b.pairs))[:len(b.pairs)]
	for shift := 16; shift < 16+2*bits; shift += bits {
		var at [1 << bits]uint32
		for _, p := range b.pairs {
			at[p>>shift&(1<<bits-1)]++
		}
		sum := uint32(0)
		for i, n := range at {
			at[i] = sum
			sum += n
		}
		for _, p := range b.pairs {
			d := p >> shift & (1<<bits - 1)
			b.spare[at[d]] = p
			at[d]++
		}
		b.pairs, b.spare = b.spare, b.pairs
	}
}

// gramSet is the set of the grams of one document. It is a hash table whose
// entries carry the number of the document that they are of, so that it need
// not be cleared.
type gramSet struct {
	slots []uint32 // round<<24 | gram
	round uint32
	shift uint
	used  int
}

// reset empties the set, for a text of the given size.
func (s *gramSet) reset(size int) {
	const smallest = 1 << 12
	if s.round++; s.round > 0xff || s.slots == nil {
		s.round = 1
		clear(s.slots)
	}
	s.used = 0
	// A text rarely has more different grams than half of its bytes.
	for n := max(len(s.slots), smallest); ; n *= 2 {
		if n >= min(size, 1<<16) {
			s.resize(n)
			return
		}
	}
}

func (s *gramSet) resize(n int) {
	if n == len(s.slots) {
		return
	}
	s.slots, s.round = make([]uint32, n), 1
	s.shift = 32
	for ; n > 1; n /= 2 {
		s.shift--
	}
}

// add reports whether g was not in the set, and puts it in.
func (s *gramSet) add(g Gram) bool {
	want := s.round<<24 | uint32(g)
	mask := uint32(len(s.slots) - 1)
	for i := uint32(g) * 0x9E3779B1 >> s.shift; ; i++ {
		switch e := s.slots[i&mask]; {
		case e == want:
			return false
		case e>>24 != s.round:
			s.slots[i&mask] = want
			if s.used++; s.used > len(s.slots)/2 {
				s.grow()
			}
			return true
		}
	}
}

// grow doubles the table.
func (s *gramSet) grow() {
	old, round := s.slots, s.round
	s.resize(2 * len(old))
	s.used = 0
	for _, e := range old {
		if e>>24 == round {
			s.add(Gram(e & 0xffffff))
		}
	}
}

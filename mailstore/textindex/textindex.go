// Package textindex narrows substring searches: it tells which documents may
// hold a string of three bytes or more. It never leaves out one that does, and
// names few others; the text itself confirms. It is not a search engine: it
// knows neither words nor ranks, and it keeps no bytes itself.
//
// An index is a list of immutable [Segment] values, each of which covers a
// range of document numbers. A segment consists of pages of about 32 kB that
// its owner stores, for example as values of an ordered key-value store, under
// the last [Gram] of each. A page has for some grams (three bytes that follow
// each other in a text) the documents in which they are.
//
// A [Builder] makes a segment of texts, [Merge] makes one of several, [Search]
// asks one, [Verify] reads one as a whole. Searches are exact in bytes: who
// wants them without regard to case folds texts and needles first.
package textindex

import (
	"errors"
	"slices"
)

// Gram is three bytes that follow each other, the first one in the highest
// bits.
type Gram uint32

// Grams that are no text: lists of documents under names of their own, behind
// all others.
const (
	gramOpen Gram = 1<<24 + iota // documents that are candidates of every search
	gramDocs                     // all documents of the segment
	gramEnd
)

// MinNeedle is the length of the shortest string that an index can be asked
// for, in bytes.
const MinNeedle = 3

// MaxSpan is how many numbers one segment can cover.
const MaxSpan = 1 << 16

// Segment describes a segment. It is immutable.
type Segment struct {
	First, Last uint64 // the numbers that it covers: it knows all documents between
	Docs        int    // documents that it has; there may be fewer than numbers
	Pages       int
	Bytes       int64 // of all pages
}

// Span is how many numbers the segment covers.
func (s *Segment) Span() int { return int(s.Last - s.First + 1) }

// Page is a part of a segment. Pages ascend by Last, and no two have the same.
type Page struct {
	Last Gram // the greatest gram in the page
	Data []byte
}

// Source reads the pages of one segment.
type Source interface {
	// Page returns the first page whose Last is from or greater, and nil data
	// where there is none. It is not changed, and valid until the next call.
	Page(from Gram) (last Gram, data []byte, err error)
}

// ErrDamaged is in the chain of the error for pages that cannot be what was
// written.
var ErrDamaged = errors.New("textindex: the index is damaged")

// Grams appends the grams of a needle to dst, sorted, each once. Of a long
// needle it takes some, from everywhere in it: the text confirms anyway.
func Grams(dst []Gram, needle []byte) []Gram {
	const most = 32
	n := len(needle) - MinNeedle + 1
	if n <= 0 {
		return dst
	}
	start := len(dst)
	for i := range min(n, most) {
		if n > most {
			i = i * (n - 1) / (most - 1)
		}
		dst = append(dst, gramAt(needle[i:]))
	}
	slices.Sort(dst[start:])
	return dst[:start+len(slices.Compact(dst[start:]))]
}

func gramAt(b []byte) Gram { return Gram(b[0])<<16 | Gram(b[1])<<8 | Gram(b[2]) }

// Set is a set of documents of one segment.
type Set struct {
	first uint64
	bits  []uint64
	count int
}

func newSet(seg *Segment) Set {
	return Set{first: seg.First, bits: make([]uint64, (seg.Span()+63)/64)}
}

// Has reports whether the set has a document.
func (s *Set) Has(doc uint64) bool {
	i := doc - s.first
	return doc >= s.first && i/64 < uint64(len(s.bits)) && s.bits[i/64]&(1<<(i%64)) != 0
}

// Len returns the number of documents in the set.
func (s *Set) Len() int { return s.count }

func (s *Set) add(local uint32) {
	word, bit := &s.bits[local/64], uint64(1)<<(local%64)
	if *word&bit == 0 {
		*word |= bit
		s.count++
	}
}

package textindex

import (
	"fmt"
	"slices"
)

// Input is a segment that is merged or verified.
type Input struct {
	Segment
	Source Source
}

// Merge makes one segment of several, which follow each other without a gap
// and cover MaxSpan numbers at most. Documents for which live returns false are
// left out. The pages go to emit, in order. It needs little memory.
func Merge(inputs []Input, live func(doc uint64) bool, emit func(Page) error) (Segment, error) {
	seg := Segment{First: inputs[0].First, Last: inputs[len(inputs)-1].Last}
	if seg.Last-seg.First >= MaxSpan {
		return seg, fmt.Errorf("textindex: a segment cannot cover the numbers from %d to %d", seg.First, seg.Last)
	}
	keep := make([]bool, seg.Span())
	readers := make([]*reader, len(inputs))
	for i := range inputs {
		in := &inputs[i]
		if i > 0 && in.First != inputs[i-1].Last+1 {
			return seg, fmt.Errorf("textindex: merge segments that do not follow each other: %d behind %d", in.First, inputs[i-1].Last)
		}
		for doc := in.First; doc <= in.Last; doc++ {
			keep[doc-seg.First] = live(doc)
		}
		readers[i] = newReader(in)
		if err := readers[i].next(); err != nil {
			return seg, err
		}
	}
	w := pageWriter{seg: &seg, emit: emit}
	var docs, part []uint32
	for {
		g := gramEnd
		for _, r := range readers {
			g = min(g, r.gram())
		}
		if g == gramEnd {
			break
		}
		docs = docs[:0]
		for _, r := range readers {
			if r.gram() != g {
				continue
			}
			var err error
			if part, err = r.list.docs(part[:0], r.seg.Span()); err != nil {
				return seg, err
			}
			base := uint32(r.seg.First - seg.First)
			for _, d := range part {
				if keep[base+d] {
					docs = append(docs, base+d)
				}
			}
			if err := r.next(); err != nil {
				return seg, err
			}
		}
		if g == gramDocs {
			seg.Docs = len(docs)
		}
		if err := w.list(g, docs); err != nil {
			return seg, err
		}
	}
	return seg, w.flush()
}

// reader reads the lists of a segment in order.
type reader struct {
	seg  *Segment
	src  Source
	page page
	last Gram // of page
	read int  // pages
	list list
	more bool // list is one
}

func newReader(in *Input) *reader { return &reader{seg: &in.Segment, src: in.Source} }

// gram returns the gram of the present list, gramEnd behind the last one.
func (r *reader) gram() Gram {
	if !r.more {
		return gramEnd
	}
	return r.list.gram
}

// next goes to the next list.
func (r *reader) next() error {
	for {
		var err error
		if r.list, r.more, err = r.page.next(); err != nil {
			return err
		}
		if r.more {
			if r.list.gram < r.page.from || r.list.gram > r.last {
				return fmt.Errorf("%w: lists are not in order", ErrDamaged)
			}
			return nil
		}
		if r.read > 0 && r.page.gram != r.last {
			return fmt.Errorf("%w: a page does not end where it should", ErrDamaged)
		}
		from := Gram(0)
		if r.read > 0 {
			from = r.last + 1
		}
		last, data, err := r.src.Page(from)
		if err != nil {
			return err
		}
		if data == nil {
			if r.read != r.seg.Pages {
				return fmt.Errorf("%w: there are %d pages of %d", ErrDamaged, r.read, r.seg.Pages)
			}
			return nil
		}
		if r.page, err = openPage(slices.Clone(data), r.seg.Span()); err != nil {
			return err
		}
		if r.page.from != from {
			return fmt.Errorf("%w: a page is missing", ErrDamaged)
		}
		r.last = last
		r.read++
	}
}

// Verify reads a segment as a whole, and compares some of its documents with
// their texts: for each number in sample, which ascend, texts returns them, or
// ok false for a document of which nothing can be said. It returns the
// documents that are not indexed as their texts demand. The error is of the
// segment itself.
func Verify(in Input, sample []uint64, texts func(doc uint64) (texts [][]byte, ok bool)) (wrong []uint64, err error) {
	type probe struct {
		doc   uint64
		grams []Gram
		bad   bool
		open  bool
	}
	var probes []probe
	for _, doc := range sample {
		if list, ok := texts(doc); ok {
			probes = append(probes, probe{doc: doc, grams: allGrams(list)})
		}
	}
	r := newReader(&in)
	var docs []uint32
	seen := 0
	for {
		if err := r.next(); err != nil {
			return nil, err
		}
		if !r.more {
			break
		}
		if docs, err = r.list.docs(docs[:0], r.seg.Span()); err != nil {
			return nil, err
		}
		if r.list.gram == gramDocs {
			seen = len(docs)
		}
		for i := range probes {
			p := &probes[i]
			_, has := slices.BinarySearch(docs, uint32(p.doc-in.First))
			switch {
			case r.list.gram == gramOpen:
				p.open = has
			case r.list.gram == gramDocs:
				p.bad = p.bad || !has
			default:
				for len(p.grams) > 0 && p.grams[0] < r.list.gram {
					p.grams, p.bad = p.grams[1:], true // there is no such list
				}
				wants := len(p.grams) > 0 && p.grams[0] == r.list.gram
				if wants {
					p.grams = p.grams[1:]
				}
				p.bad = p.bad || wants != has
			}
		}
	}
	if seen != in.Docs {
		return nil, fmt.Errorf("%w: there are %d documents of %d", ErrDamaged, seen, in.Docs)
	}
	for _, p := range probes {
		if !p.open && (p.bad || len(p.grams) > 0) {
			wrong = append(wrong, p.doc)
		}
	}
	return wrong, nil
}

// allGrams returns the grams of texts, sorted, each once.
func allGrams(texts [][]byte) []Gram {
	var grams []Gram
	for _, t := range texts {
		for i := 0; i+MinNeedle <= len(t); i++ {
			grams = append(grams, gramAt(t[i:]))
		}
	}
	slices.Sort(grams)
	return slices.Compact(grams)
}

package textindex

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Search returns the documents of a segment that may hold a needle, which has
// MinNeedle bytes at least.
func Search(src Source, seg *Segment, needle []byte) (Set, error) {
	if len(needle) < MinNeedle {
		return Set{}, errors.New("textindex: a needle that is too short to be searched for")
	}
	found := newSet(seg)
	r := finder{src: src, seg: seg}
	var lists []list
	all := true
	for _, g := range Grams(nil, needle) {
		l, ok, err := r.find(g)
		if err != nil {
			return found, err
		}
		if !ok {
			all = false
			break
		}
		lists = append(lists, l)
	}
	if all {
		slices.SortFunc(lists, func(a, b list) int { return cmp.Compare(a.n, b.n) })
		docs, err := intersect(lists, seg.Span())
		if err != nil {
			return found, err
		}
		for _, d := range docs {
			found.add(d)
		}
	}
	open, ok, err := r.find(gramOpen)
	if err != nil || !ok {
		return found, err
	}
	docs, err := open.docs(nil, seg.Span())
	for _, d := range docs {
		found.add(d)
	}
	return found, err
}

// intersect returns the documents that are in all lists, of which the shortest
// comes first, or some more: a list that is long beside what is left is not
// worth reading.
func intersect(lists []list, span int) ([]uint32, error) {
	const dear = 1000 // to look into a text, beside reading an entry
	docs, err := lists[0].docs(nil, span)
	var other []uint32
	for _, l := range lists[1:] {
		if err != nil || len(docs) == 0 || l.n > dear*len(docs) {
			break
		}
		other, err = l.docs(other[:0], span)
		kept, j := docs[:0], 0
		for _, d := range docs {
			for j < len(other) && other[j] < d {
				j++
			}
			if j < len(other) && other[j] == d {
				kept = append(kept, d)
			}
		}
		docs = kept
	}
	return docs, err
}

// finder looks up lists in ascending order of their grams.
type finder struct {
	src  Source
	seg  *Segment
	page page
	last Gram // of page
	open bool
}

func (f *finder) find(g Gram) (list, bool, error) {
	if !f.open || g > f.last {
		if f.seg.Pages == 0 {
			return list{}, false, nil
		}
		last, data, err := f.src.Page(g)
		if err != nil {
			return list{}, false, err
		}
		if data == nil { // the list of all documents is behind g
			return list{}, false, fmt.Errorf("%w: the last page is missing", ErrDamaged)
		}
		if f.page, err = openPage(slices.Clone(data), f.seg.Span()); err != nil {
			return list{}, false, err
		}
		if last < g || f.page.from > g {
			return list{}, false, fmt.Errorf("%w: a page is missing", ErrDamaged)
		}
		f.last, f.open = last, true
	}
	return f.page.find(g)
}

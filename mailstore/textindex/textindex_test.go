package textindex_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rookery-mail/rookery/mailstore/textindex"
)

// pages keeps the pages of a segment, and implements Source.
type pages []textindex.Page

func (p *pages) emit(page textindex.Page) error {
	if n := len(*p); n > 0 && (*p)[n-1].Last >= page.Last {
		return fmt.Errorf("page %d comes behind page %d", page.Last, (*p)[n-1].Last)
	}
	*p = append(*p, page)
	return nil
}

func (p *pages) Page(from textindex.Gram) (textindex.Gram, []byte, error) {
	for _, page := range *p {
		if page.Last >= from {
			return page.Last, page.Data, nil
		}
	}
	return 0, nil, nil
}

// document is a document of a test: nil texts is one that is open.
type document struct {
	num   uint64
	texts [][]byte
}

func (d *document) holds(needle []byte) bool {
	return d.texts == nil || slices.ContainsFunc(d.texts, func(t []byte) bool { return bytes.Contains(t, needle) })
}

func build(t testing.TB, first, last uint64, docs []document) textindex.Input {
	t.Helper()
	var b textindex.Builder
	b.Begin(first)
	for _, d := range docs {
		if !b.Room(d.num) {
			t.Fatalf("no room for %d behind %d", d.num, first)
		}
		if d.texts == nil {
			b.AddOpen(d.num)
		} else {
			b.Add(d.num, d.texts...)
		}
	}
	var p pages
	seg, err := b.Finish(last, p.emit)
	if err != nil || seg.Docs != len(docs) || seg.Pages != len(p) {
		t.Fatalf("Finish: %+v of %d documents, %v", seg, len(docs), err)
	}
	return textindex.Input{Segment: seg, Source: &p}
}

// words are few, so that their parts are in many documents and next to each
// other.
func randomText(rng *rand.Rand, words int) []byte {
	var b []byte
	for range rng.IntN(words + 1) {
		for range 1 + rng.IntN(5) {
			b = append(b, "ABC\xc3\xa4\x00"[rng.IntN(6)])
		}
		b = append(b, " \n"[rng.IntN(2)])
	}
	return b
}

func randomDocuments(rng *rand.Rand, first uint64, span int) (docs []document) {
	gap := 1 + rng.IntN(20)
	for num := first + uint64(rng.IntN(gap)); num < first+uint64(span); num += uint64(1 + rng.IntN(gap)) {
		d := document{num: num}
		if rng.IntN(30) > 0 {
			d.texts = [][]byte{randomText(rng, 3), {}, randomText(rng, 20)}
		}
		docs = append(docs, d)
	}
	return docs
}

// check compares what a segment finds with what the documents hold.
func check(t testing.TB, rng *rand.Rand, in textindex.Input, docs []document) {
	t.Helper()
	for range 30 {
		needle := randomText(rng, 2)
		if len(docs) > 0 && rng.IntN(2) == 0 {
			if d := docs[rng.IntN(len(docs))]; d.texts != nil && len(d.texts[2]) > 3 {
				from := rng.IntN(len(d.texts[2]) - 3)
				needle = d.texts[2][from : from+3+rng.IntN(len(d.texts[2])-from-3+1)]
			}
		}
		found, err := textindex.Search(in.Source, &in.Segment, needle)
		if len(needle) < textindex.MinNeedle {
			if err == nil {
				t.Fatalf("a needle of %d bytes is taken", len(needle))
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		n, missing := 0, 0
		for _, d := range docs {
			if found.Has(d.num) {
				n++
			} else if d.holds(needle) {
				missing++
			}
			if found.Has(d.num) && len(needle) == textindex.MinNeedle && !d.holds(needle) {
				t.Errorf("%q is found in %d, which does not have it", needle, d.num)
			}
		}
		if missing > 0 || n != found.Len() {
			t.Fatalf("%q: %d documents of %d found, of which %d exist; %d are missing", needle, found.Len(), len(docs), n, missing)
		}
	}
	var sample []uint64
	for _, d := range docs {
		sample = append(sample, d.num)
	}
	i := 0
	wrong, err := textindex.Verify(in, sample, func(uint64) ([][]byte, bool) {
		i++
		return docs[i-1].texts, docs[i-1].texts != nil
	})
	if err != nil || len(wrong) > 0 {
		t.Fatalf("Verify: %v, %v", wrong, err)
	}
}

func TestSearch(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		first := uint64(rng.IntN(1000))
		span := 1 + rng.IntN(3000)
		docs := randomDocuments(rng, first, span)
		check(t, rng, build(t, first, first+uint64(span)-1, docs), docs)
	})
}

func TestMerge(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 2))
		next := uint64(rng.IntN(1000))
		var inputs []textindex.Input
		var docs []document
		for range 1 + rng.IntN(6) {
			span := 1 + rng.IntN(500)
			part := randomDocuments(rng, next, span)
			inputs = append(inputs, build(t, next, next+uint64(span)-1, part))
			docs = append(docs, part...)
			next += uint64(span)
		}
		dead := rng.IntN(4)
		gone := map[uint64]bool{}
		docs = slices.DeleteFunc(docs, func(d document) bool {
			gone[d.num] = rng.IntN(4) < dead
			return gone[d.num]
		})
		var p pages
		seg, err := textindex.Merge(inputs, func(doc uint64) bool { return !gone[doc] }, p.emit)
		if err != nil || seg.Docs != len(docs) {
			t.Fatalf("Merge: %+v of %d documents, %v", seg, len(docs), err)
		}
		check(t, rng, textindex.Input{Segment: seg, Source: &p}, docs)
		// It is what would have been built at once.
		all := build(t, seg.First, seg.Last, docs)
		for i, page := range *all.Source.(*pages) {
			if page.Last != p[i].Last || !bytes.Equal(page.Data, p[i].Data) {
				t.Fatalf("page %d differs from that of a segment that was built at once", i)
			}
		}
	})
}

func TestMergeRefuses(t *testing.T) {
	a := build(t, 1, 10, nil)
	for _, b := range []textindex.Input{build(t, 12, 20, nil), build(t, 10, 20, nil), build(t, 11, 1<<16+1, nil)} {
		_, err := textindex.Merge([]textindex.Input{a, b}, func(uint64) bool { return true }, new(pages).emit)
		if err == nil {
			t.Errorf("segments that end with 10 and begin with %d, to %d, are merged", b.First, b.Last)
		}
	}
}

// TestWide has lists of all lengths that the largest segment can have.
func TestWide(t *testing.T) {
	var b textindex.Builder
	const first = 1 << 40
	b.Begin(first)
	for i := range uint64(textindex.MaxSpan) {
		text := []byte("ALL ")
		for bit := uint64(2); bit <= 1<<16; bit *= 2 {
			if i%bit == bit-1 {
				text = fmt.Appendf(text, "<%05d>", bit)
			}
			if i%bit != bit-1 {
				text = fmt.Appendf(text, "[%05d]", bit)
			}
		}
		if !b.Room(first + i) {
			// This test looks at lists; room is for memory.
			if i >= textindex.MaxSpan {
				t.Fatal("no room")
			}
		}
		b.Add(first+i, text)
	}
	if b.Room(first + textindex.MaxSpan) {
		t.Error("a document fits that is too far")
	}
	var p pages
	seg, err := b.Finish(first+textindex.MaxSpan-1, p.emit)
	if err != nil {
		t.Fatal(err)
	}
	for bit := 2; bit <= 1<<16; bit *= 2 {
		for _, needle := range []string{fmt.Sprintf("<%05d>", bit), fmt.Sprintf("[%05d]", bit)} {
			set, err := textindex.Search(&p, &seg, []byte(needle))
			want := 1 << 16 / bit
			if needle[0] == '[' {
				want = 1<<16 - want
			}
			if err != nil || set.Len() < want || set.Len() > want+want/2+1 && needle[0] == '<' {
				t.Errorf("%s is in %d documents, want %d: %v", needle, set.Len(), want, err)
			}
		}
	}
}

// TestDamage changes bytes of pages: nothing but an error may come of it.
func TestDamage(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	docs := randomDocuments(rng, 1, 2000)
	in := build(t, 1, 2000, docs)
	p := *in.Source.(*pages)
	for range 200 {
		i := rng.IntN(len(p))
		at := rng.IntN(len(p[i].Data))
		p[i].Data[at] ^= 1 << rng.IntN(8)
		if _, err := textindex.Verify(in, nil, nil); !errors.Is(err, textindex.ErrDamaged) {
			t.Fatalf("a changed byte %d of page %d: %v", at, i, err)
		}
		p[i].Data[at] ^= p[i].Data[at] // then another one
		p = *build(t, 1, 2000, docs).Source.(*pages)
		in.Source = &p
	}
	for _, cut := range []int{0, 1, len(p) - 1} {
		less := slices.Delete(slices.Clone(p), cut%len(p), cut%len(p)+1)
		in.Source = &less
		if _, err := textindex.Verify(in, nil, nil); !errors.Is(err, textindex.ErrDamaged) {
			t.Errorf("page %d of %d is missing: %v", cut, len(p), err)
		}
	}
}

// TestVerifyFinds shows texts other than those that were indexed.
func TestVerifyFinds(t *testing.T) {
	in := build(t, 1, 4, []document{{1, [][]byte{[]byte("HELLO")}}, {2, [][]byte{[]byte("WORLD")}}, {3, [][]byte{[]byte("HELLO WORLD")}}, {4, nil}})
	texts := map[uint64]string{1: "HELLO", 2: "WORLDS", 3: "HELLO", 4: "ANYTHING"}
	wrong, err := textindex.Verify(in, []uint64{1, 2, 3, 4}, func(doc uint64) ([][]byte, bool) { return [][]byte{[]byte(texts[doc])}, true })
	if err != nil || !slices.Equal(wrong, []uint64{2, 3}) {
		t.Errorf("wrong are %v, %v; want 2 and 3", wrong, err)
	}
	wrong, err = textindex.Verify(in, []uint64{1}, func(uint64) ([][]byte, bool) { return nil, false })
	if err != nil || len(wrong) > 0 {
		t.Errorf("without texts %v is wrong, %v", wrong, err)
	}
}

func TestGrams(t *testing.T) {
	for needle, want := range map[string]int{"": 0, "AB": 0, "ABC": 1, "ABCD": 2, "AAAAAA": 1, "ABABAB": 2} {
		if got := textindex.Grams(nil, []byte(needle)); len(got) != want {
			t.Errorf("%q has %d grams, want %d", needle, len(got), want)
		}
	}
	long := make([]byte, 5000)
	for i := range long {
		long[i] = byte(i * i >> 3)
	}
	if got := textindex.Grams([]textindex.Gram{1 << 23}, long); len(got) < 10 || len(got) > 40 || got[0] != 1<<23 || !slices.IsSorted(got[1:]) {
		t.Errorf("a long needle has grams %v", got)
	}
}

// FuzzPage gives anything as a page.
func FuzzPage(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	in := build(f, 1, 300, randomDocuments(rng, 1, 300))
	for _, p := range *in.Source.(*pages) {
		f.Add(uint32(p.Last), p.Data[:len(p.Data)-4], []byte("ABC"))
	}
	f.Fuzz(func(t *testing.T, last uint32, body, needle []byte) {
		p := pages{{textindex.Gram(last), textindex.Seal(body)}}
		in := textindex.Input{Segment: textindex.Segment{First: 1, Last: 300, Docs: 100, Pages: 1}, Source: &p}
		set, err := textindex.Search(in.Source, &in.Segment, needle)
		if err == nil && set.Len() > 300 {
			t.Errorf("%d documents of 300", set.Len())
		}
		_, _ = textindex.Verify(in, nil, nil)
		_, _ = textindex.Merge([]textindex.Input{in}, func(uint64) bool { return true }, func(textindex.Page) error { return nil })
	})
}

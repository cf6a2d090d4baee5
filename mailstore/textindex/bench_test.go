package textindex_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/rookery-mail/rookery/mailstore/textindex"
)

// mail makes texts of about 6 kB whose words are as frequent as in a language.
func mail(n int) [][]byte {
	rng := rand.New(rand.NewPCG(1, 1))
	vocabulary := make([]string, 20_000)
	for i := range vocabulary {
		for range 2 + rng.IntN(4) {
			vocabulary[i] += string("BCDFGHKLMNPRSTVZ"[rng.IntN(16)]) + string("AEIOU"[rng.IntN(5)])
		}
	}
	texts := make([][]byte, n)
	for i := range texts {
		b := fmt.Appendf(nil, "FROM: PERSON%d@EXAMPLE.ORG\nMESSAGE-ID: <%x@EXAMPLE.ORG>\n", rng.IntN(500), rng.Uint64())
		for len(b) < 6000 {
			u := rng.Float64()
			b = append(append(b, vocabulary[int(u*u*u*u*float64(len(vocabulary)))]...), ' ')
		}
		texts[i] = b
	}
	return texts
}

func benchSegment(b *testing.B, texts [][]byte, first int) textindex.Input {
	docs := make([]document, len(texts))
	for i, t := range texts {
		docs[i] = document{uint64(first + i), [][]byte{t}}
	}
	return build(b, uint64(first), uint64(first+len(texts)-1), docs)
}

// BenchmarkBuild tells what indexing costs a message.
func BenchmarkBuild(b *testing.B) {
	texts := mail(250)
	var ix textindex.Builder
	var size int64
	b.ReportAllocs()
	for b.Loop() {
		ix.Begin(0)
		for i, t := range texts {
			ix.Add(uint64(i), t)
		}
		seg, err := ix.Finish(uint64(len(texts)-1), func(textindex.Page) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		size = seg.Bytes
	}
	perDoc := float64(b.N) * float64(len(texts))
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/perDoc, "ns/message")
	b.ReportMetric(float64(size)/float64(len(texts)), "B/message")
}

func merged(b *testing.B) (inputs []textindex.Input, all textindex.Input) {
	texts := mail(4000)
	for i := 0; i < len(texts); i += 250 {
		inputs = append(inputs, benchSegment(b, texts[i:i+250], i))
	}
	var p pages
	seg, err := textindex.Merge(inputs, func(uint64) bool { return true }, p.emit)
	if err != nil {
		b.Fatal(err)
	}
	return inputs, textindex.Input{Segment: seg, Source: &p}
}

func BenchmarkMerge(b *testing.B) {
	inputs, _ := merged(b)
	b.ReportAllocs()
	b.ResetTimer()
	var seg textindex.Segment
	for range b.N {
		var err error
		seg, err = textindex.Merge(inputs, func(uint64) bool { return true }, func(textindex.Page) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(seg.Docs), "ns/message")
	b.ReportMetric(float64(seg.Bytes)/float64(seg.Docs), "B/message")
}

func BenchmarkSearch(b *testing.B) {
	_, in := merged(b)
	for _, needle := range []string{"PERSON77@EXAMPLE", "ZZQQXX", "EXAMPLE.ORG", "BAKE"} {
		b.Run(needle, func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				set, err := textindex.Search(in.Source, &in.Segment, []byte(needle))
				if err != nil {
					b.Fatal(err)
				}
				n = set.Len()
			}
			b.ReportMetric(float64(n), "found")
		})
	}
}

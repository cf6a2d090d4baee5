package mailstore

import (
	"math/rand/v2"
	"testing"

	"github.com/rookery-mail/rookery/mailstore/textindex"
)

// Segments stay few, and a message is not written often, however large those
// segments are that messages come in.
func TestMergeable(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, size := range []int{1, 5, 30, 512, 670, 5000, 20_000, textindex.MaxSpan} {
		var d directory
		written, messages := 0, 0
		for step := 0; messages < 1_000_000 && step < 20_000; {
			i, n := d.mergeable()
			if n == 0 {
				step++
				span := min(1+rng.IntN(2*size), textindex.MaxSpan)
				d.segments = append(d.segments, segment{Segment: textindex.Segment{First: d.last() + 1, Last: d.last() + uint64(span)}})
				written, messages = written+span, messages+span
				continue
			}
			s := segment{Segment: textindex.Segment{First: d.segments[i].First, Last: d.segments[i+n-1].Last}}
			if s.Last-s.First >= textindex.MaxSpan {
				t.Fatalf("segments from %d to %d are merged", s.First, s.Last)
			}
			written += s.Span()
			d.replace(i, n, s)
		}
		if most := messages/(textindex.MaxSpan/4) + 4*mergeFan; len(d.segments) > most || written > 6*messages {
			t.Errorf("%d messages in segments of %d: %d segments in the end, each message written %.1f times",
				messages, size, len(d.segments), float64(written)/float64(messages))
		}
	}
}

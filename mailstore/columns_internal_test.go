package mailstore

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestBlockRoundTrip: what a block is made of is read from its record, whatever
// it is, and a merging keeps what lives.
func TestBlockRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type entry struct {
			msg  uint64
			open bool
			text string
			sent sentDay
		}
		var all []entry
		msg := uint64(0)
		for range rapid.IntRange(1, 300).Draw(t, "messages") {
			msg += rapid.SampledFrom([]uint64{1, 1, 1, 2, 1 << 24}).Draw(t, "gap")
			e := entry{msg: msg, open: rapid.IntRange(0, 9).Draw(t, "open") == 0}
			e.text = rapid.SampledFrom([]string{"", "\n", "A\n", "A B\nC\n", strings.Repeat("x", 300) + "\n"}).Draw(t, "text")
			if e.sent.ok = rapid.Bool().Draw(t, "dated"); e.sent.ok {
				e.sent.unix, e.sent.zone = rapid.Int64Range(-1<<40, 1<<40).Draw(t, "unix"), rapid.Int16().Draw(t, "zone")
			}
			all = append(all, e)
		}
		live := make(map[uint64]bool)
		for _, e := range all {
			live[e.msg] = rapid.Bool().Draw(t, "live")
		}
		for _, id := range []byte{'f', sentColumnID} {
			w := blockWriter{id: id}
			for _, e := range all {
				w.begin(e.msg, e.open)
				if id == sentColumnID {
					w.addSent(e.sent)
				} else {
					w.addText([]byte(e.text))
				}
			}
			read := func(record []byte) (got []entry) {
				var b block
				if err := b.readAll(id, record); err != nil {
					t.Fatal(err)
				}
				for _, run := range b.runs {
					for msg := run.first; msg < run.first+run.count; msg++ {
						i := len(got)
						e := entry{msg: msg, open: slices.Contains(b.open, i)}
						if id == sentColumnID {
							e.sent = b.sent[i]
							if !e.sent.ok {
								e.sent = sentDay{}
							}
						} else {
							e.text = string(b.textOf(i))
						}
						got = append(got, e)
					}
				}
				return got
			}
			want := slices.Clone(all)
			for i := range want {
				if id == sentColumnID {
					want[i].text = ""
				} else {
					want[i].sent = sentDay{}
				}
			}
			opts := cmp.AllowUnexported(entry{}, sentDay{})
			if diff := cmp.Diff(want, read(w.record()), opts); diff != "" {
				t.Fatal(diff)
			}
			var b block
			if err := b.readAll(id, w.record()); err != nil {
				t.Fatal(err)
			}
			merged := blockWriter{id: id}
			merged.addFrom(&b, live)
			want = slices.DeleteFunc(want, func(e entry) bool { return !live[e.msg] })
			if got := read(merged.record()); len(want)+len(got) > 0 && !cmp.Equal(want, got, opts) {
				t.Fatal(cmp.Diff(want, got, opts))
			}
		}
	})
}

// BenchmarkColumnBlock builds the blocks of 256 messages, and tells what they
// take.
func BenchmarkColumnBlock(b *testing.B) {
	bench := newDeriveBench(b, &sizer{step: 1 << 30})
	for i := range blockMessages {
		bench.appendText(fmt.Sprintf("From: Person Number %d <person%d@example%d.org>\r\nTo: Ann Example <ann@example.org>\r\nSubject: Re: the %dth thing to talk about\r\n"+
			"Message-ID: <%d.%d@mail.example%d.org>\r\nDate: %d Jan 2020 10:00:00 +0000\r\n\r\n%s\r\n", i, i, i%40, i, i*7919, i, i%40, 1+i%28,
			strings.Repeat("All work and no play makes Jack a dull boy.\r\n", 130)))
	}
	c := newColumnBuilder(blockMessages)
	size := 0
	for b.Loop() {
		d, err := c.derive(b.Context(), bench.a.account, 0, blockMessages)
		if err != nil || d == nil {
			b.Fatal(d, err)
		}
		t := opTx{b: &batch{}}
		if err := d.run(&t); err != nil {
			b.Fatal(err)
		}
		size = t.size
	}
	b.ReportMetric(float64(size)/blockMessages, "B/message")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/blockMessages, "ns/message")
}

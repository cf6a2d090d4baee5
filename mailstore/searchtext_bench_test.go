package mailstore_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/message"
)

// fillWithWords puts messages of about 6 kB into INBOX, whose words are as
// frequent as in a language. Each hundredth has the word "seldom".
func fillWithWords(b *testing.B, a *mailstore.Account, n int) {
	b.Helper()
	rng := rand.New(rand.NewPCG(1, 1))
	words := strings.Fields("the and that have with this from they would there")
	for len(words) < 12_000 {
		var w strings.Builder
		for range 1 + rng.IntN(4) {
			w.WriteString(string("bcdfghklmnprstvwz"[rng.IntN(17)]) + string("aeiou"[rng.IntN(5)]) + string("lnrst "[rng.IntN(6)]))
		}
		words = append(words, strings.ReplaceAll(w.String(), " ", ""))
	}
	for i := 0; i < n; {
		var items []mailstore.AppendItem
		for ; len(items) < 250 && i < n; i++ {
			var text strings.Builder
			text.WriteString(mail(fmt.Sprint("m", i)))
			for text.Len() < 6000 {
				u := rng.Float64()
				text.WriteString(words[int(u*u*u*u*float64(len(words)))])
				text.WriteString([]string{" ", " ", " ", "\r\n"}[rng.IntN(4)])
			}
			if i%100 == 0 {
				text.WriteString("sQeldom\r\n")
			}
			items = append(items, mailstore.AppendItem{Upload: upload(b, a, text.String()), Date: imap.MakeTime(1e9, 0)})
		}
		if _, err := a.Append(ctx, imap.Inbox, items); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSearchText searches 20,000 messages; two bytes are searched for
// without the index.
func BenchmarkSearchText(b *testing.B) {
	bb := newDiskBench(b)
	a := bb.account(b, "ann")
	const messages = 20_000
	fillWithWords(b, a, messages)
	mailstore.Derived(a)
	m := open(b, a, imap.Inbox)
	defer m.Close()
	view := snapshot(b, m)
	for _, key := range []struct {
		name, needle string
		where        message.Where
	}{
		{"rare", "SQELDOM", message.InBody}, {"part", "QELD", message.InText}, {"absent", "XQXQXQ", message.InText},
		{"most", "THAT", message.InBody}, {"most-text", "THAT", message.InText}, {"scan", "XQ", message.InText},
	} {
		b.Run(key.name, func(b *testing.B) {
			b.ReportAllocs()
			found := 0
			answers := make([]mailstore.Answer, view.Len())
			for b.Loop() {
				for i := range answers {
					answers[i] = mailstore.AnswerOpen
				}
				term := &mailstore.Term{Text: &message.Key{Where: key.where, Needle: []byte(key.needle)}}
				if err := m.Search(ctx, view, term, answers); err != nil {
					b.Fatal(err)
				}
				found = 0
				for _, a := range answers {
					if a == mailstore.AnswerYes {
						found++
					}
				}
			}
			b.ReportMetric(float64(found), "found")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/messages, "ns/message")
		})
	}
}

package mailstore_test

import (
	"fmt"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/message"
)

// fillVaried puts messages with usual headers and small bodies into INBOX.
func fillVaried(b *testing.B, a *mailstore.Account, n int) {
	b.Helper()
	for i := 0; i < n; {
		var items []mailstore.AppendItem
		for ; len(items) < 500 && i < n; i++ {
			text := fmt.Sprintf("From: Person Number %d <person%d@example%d.org>\r\nTo: Ann Example <ann@example.org>\r\nSubject: Re: the %dth thing to talk about\r\n"+
				"Message-ID: <%d.%d@mail.example%d.org>\r\nDate: %d Jan 2020 10:00:00 +0000\r\n\r\nx\r\n", i%500, i%500, i%40, i%3000, i*7919, i, i%40, 1+i%28)
			items = append(items, mailstore.AppendItem{Upload: upload(b, a, text), Date: imap.MakeTime(1e9, 0)})
		}
		if _, err := a.Append(ctx, imap.Inbox, items); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSearchColumns(b *testing.B) {
	const messages = 50_000
	bb := newDiskBench(b)
	a := bb.account(b, "ann")
	fillVaried(b, a, messages)
	if mark := mailstore.Derived(a); mark < messages*99/100 {
		b.Fatalf("columns are up to message %d", mark)
	}
	m := open(b, a, imap.Inbox)
	view := snapshot(b, m)
	field := func(name, needle string) *mailstore.Term {
		return &mailstore.Term{Text: &message.Key{Where: message.InHeader, Name: name, Needle: message.Fold(nil, needle)}}
	}
	for _, run := range []struct {
		name string
		term *mailstore.Term
	}{
		{"from=rare", field("from", "Number 77 ")},
		{"from=none", field("from", "nobody")},
		{"from=all", field("from", "person")},
		{"subject=rare", field("subject", "the 77th")},
		{"message-id=one", field("message-id", "77.mail")},
		{"bcc=absent", field("bcc", "")},
		{"sent", &mailstore.Term{Sent: &mailstore.SentDays{Since: 18262, Before: 18264}}},
	} {
		b.Run(run.name, func(b *testing.B) {
			b.ReportAllocs()
			answers := make([]mailstore.Answer, view.Len())
			for b.Loop() {
				for i := range answers {
					answers[i] = mailstore.AnswerOpen
				}
				if err := m.Search(ctx, view, run.term, answers); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/messages, "ns/message")
		})
	}
}

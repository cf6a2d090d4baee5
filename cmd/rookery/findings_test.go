package main

import (
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/internal/admin"
)

// Few findings are printed each; of many it is said first what they hit; with
// --verbose each is printed in any case.
func TestFindings(t *testing.T) {
	fill := func(f *findings, n int) {
		for i := range n {
			d := admin.Defect{Account: "ann", Mailbox: "INBOX", UID: uint32(i + 3), Segment: "0000002a", Text: "message is lost"}
			if i%10 == 0 {
				d = admin.Defect{Account: "bob", Mailbox: "Work", UID: uint32(i + 3), Segment: "0000002b", Text: "message is lost, too"}
			}
			f.add("found: ", d)
		}
		f.add("", admin.Defect{File: "index/000123.sst", Text: "a table is damaged"})
	}
	lines := func(n int, verbose bool) []string {
		var out strings.Builder
		f := findings{out: &out, verbose: verbose}
		fill(&f, n)
		if err := f.flush("all of them elsewhere"); err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	}
	if got := lines(3, false); len(got) != 4 || got[1] != "found: ann INBOX UID 4: message is lost" {
		t.Errorf("of a few: %q", got)
	}
	if got := lines(5000, true); len(got) != 5001 {
		t.Errorf("with --verbose %d lines", len(got))
	}
	got := lines(100_000, false)
	want := []string{
		"file of messages 0000002a: 90000 messages of it damaged or lost",
		"file of messages 0000002b: 10000 messages of it damaged or lost",
		"index/000123.sst: a table is damaged",
		"found: ann INBOX: 90000 times, UIDs from 4 to 100002, first: message is lost",
		"found: bob Work: 10000 times, UIDs from 3 to 99993, first: message is lost, too",
		"the first 50 of 100001 in full (all of them elsewhere):",
		"found: bob Work UID 3: message is lost, too",
	}
	for i, line := range want {
		if i >= len(got) || got[i] != line {
			t.Fatalf("line %d of many is %q, want %q", i+1, got[min(i, len(got)-1)], line)
		}
	}
	if len(got) != 6+fullLines {
		t.Errorf("of many %d lines", len(got))
	}
	many := findings{out: &strings.Builder{}}
	for i := range 5000 {
		many.add("", admin.Defect{Account: "ann", Mailbox: strings.Repeat("x", i), Text: "lost"})
	}
	if len(many.hit) > sumLines+1 {
		t.Errorf("%d mailboxes are told apart", len(many.hit))
	}
}

package message_test

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/tools/txtar"

	"github.com/rookery-mail/rookery/internal/race"
	"github.com/rookery-mail/rookery/message"
)

// repeated reads head, then n times what each returns, then tail, without
// holding it in memory.
type repeated struct {
	head, tail string
	n          int
	each       func(i int) string
	i          int
	buf        string
}

func (r *repeated) Read(p []byte) (int, error) {
	for r.buf == "" {
		switch {
		case r.i == 0:
			r.buf = r.head
		case r.i <= r.n:
			r.buf = r.each(r.i - 1)
		case r.i == r.n+1:
			r.buf = r.tail
		default:
			return 0, io.EOF
		}
		r.i++
	}
	n := copy(p, r.buf)
	r.buf = r.buf[n:]
	return n, nil
}

// TestHostile reads messages that are made to cost much. The figure of each
// is the memory that may be allocated in all, in MB; most of it is garbage at
// once. What costs more than linear time would not end.
func TestHostile(t *testing.T) {
	always := func(s string) func(int) string { return func(int) string { return s } }
	tests := []struct {
		name      string
		r         *repeated
		truncated bool
		megabytes uint64
	}{
		{"100,000 fields", &repeated{n: 100_000, each: always("X-Bomb: some words of text\r\n"), tail: "\r\nbody"}, true, 30},
		{"100,000 Received folds", &repeated{head: "Received: x", n: 500_000, each: always("\r\n by somewhere"), tail: "\r\n\r\nbody"}, true, 60},
		{"a header without end", &repeated{head: "Subject: ", n: 1_000_000, each: always("0123456789abcdef0123456789abcdef"), tail: ""}, true, 60},
		{"a line of 64 MB", &repeated{head: "Subject: x\r\n\r\n", n: 2_000_000, each: always("0123456789abcdef0123456789abcdef"), tail: ""}, false, 20},
		{"1,000,000 addresses", &repeated{head: "To: ", n: 1_000_000, each: always("a,"), tail: "\r\n\r\n"}, true, 120},
		{"groups", &repeated{head: "To: ", n: 1_000_000, each: always("a:;"), tail: "\r\n\r\n"}, true, 120},
		{"routes", &repeated{head: "To: ", n: 500_000, each: always("<@a,,,"), tail: "\r\n\r\n"}, true, 120},
		{"comments", &repeated{head: "To: ", n: 1_000_000, each: always("(a"), tail: "\r\n\r\n"}, false, 120},
		{"quotes", &repeated{head: "To: ", n: 1_000_000, each: always(`"a" `), tail: "\r\n\r\n"}, false, 120},
		{"subject blobs", &repeated{head: "Subject: ", n: 1_000_000, each: always("[a]"), tail: "\r\n\r\n"}, false, 60},
		{"subject replies", &repeated{head: "Subject: ", n: 1_000_000, each: always("re:"), tail: "\r\n\r\n"}, false, 60},
		{"encoded words", &repeated{head: "Subject: ", n: 500_000, each: always("=?u?q?"), tail: "\r\n\r\n"}, false, 60},
		{"references", &repeated{head: "References: ", n: 500_000, each: always("<a@b> "), tail: "\r\n\r\n"}, false, 80},
		{"parameters", &repeated{head: "Content-Type: text/plain", n: 300_000, each: func(i int) string { return fmt.Sprintf(";n*%d=x", i) }, tail: "\r\n\r\n"}, false, 60},
		{"1,000,000 parts", &repeated{head: "Content-Type: multipart/mixed; boundary=b\r\n\r\n", n: 1_000_000, each: always("--b\r\n\r\nx\r\n")}, true, 60},
		{"messages in messages", &repeated{n: 100_000, each: always("Content-Type: message/rfc822\r\n\r\n")}, true, 40},
		{"multiparts in multiparts", &repeated{n: 100_000, each: func(i int) string {
			return fmt.Sprintf("Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
		}}, true, 40},
		{"lines like delimiters", &repeated{
			head: strings.Repeat("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", 90) + "\r\n",
			n:    1_000_000, each: always("--bc\r\n"),
		}, false, 20},
		{"HTML without end", &repeated{head: "Content-Type: text/html\r\n\r\n", n: 1_000_000, each: always("<a b='&amp")}, false, 40},
		{"HTML entities", &repeated{head: "Content-Type: text/html\r\n\r\n", n: 1_000_000, each: always("&amp")}, false, 60},
		{"trailing spaces", &repeated{head: "Content-Transfer-Encoding: quoted-printable\r\n\r\n", n: 1_000_000, each: always("    ")}, false, 40},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			d, text, err := message.Parse(test.r, message.Limits{})
			runtime.ReadMemStats(&after)
			if err != nil {
				t.Fatal(err)
			}
			checkWire(t, d)
			checkStored(t, d, text)
			if d.Truncated != test.truncated {
				t.Errorf("truncated: %v", d.Truncated)
			}
			if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > test.megabytes*(1+race.Factor/10) {
				t.Errorf("%d MB allocated for %d octets", mb, d.Size)
			}
		})
	}
}

// TestParserAgain holds a parser that is used for many messages against fresh
// ones, also behind an error.
func TestParserAgain(t *testing.T) {
	files, err := filepath.Glob("testdata/digest/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	p := message.NewParser(message.Limits{})
	for round := range 2 {
		for _, name := range files {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			raw := a.Files[0].Data
			if round == 1 {
				broken := io.MultiReader(bytes.NewReader(raw[:len(raw)/2]), failingReader{})
				if _, _, err := p.Parse(broken); err != errFailing {
					t.Fatalf("error %v", err)
				}
			}
			d, text, err := p.Parse(bytes.NewReader(raw))
			if err != nil {
				t.Fatal(err)
			}
			wantD, wantText, err := message.Parse(bytes.NewReader(raw), message.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(wantD, d) + cmp.Diff(wantText, text, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s:\n%s", name, diff)
			}
		}
	}
}

var errFailing = fmt.Errorf("the disk is on fire")

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errFailing }

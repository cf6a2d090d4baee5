package mbox_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/mbox"
)

const from = "From joe@example.org Fri Feb 13 23:31:30 2009\n"

type row struct {
	Text   string
	Flags  []imap.Flag
	Offset int64
	Digest [32]byte
	Date   time.Time
}

func read(t *testing.T, text string) []row {
	t.Helper()
	r, err := mbox.NewReader(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	var rows []row
	for {
		m, err := r.Next()
		if errors.Is(err, io.EOF) {
			return rows
		}
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		b, err := io.ReadAll(m.Open())
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row{string(b), m.Flags, m.Offset, m.Digest, m.Date})
	}
}

func texts(rows []row) []string {
	var out []string
	for _, r := range rows {
		out = append(out, r.Text)
	}
	return out
}

func TestMessages(t *testing.T) {
	for name, tt := range map[string]struct {
		in   string
		want []string
	}{
		"empty file":        {"", nil},
		"blank lines only":  {"\n\r\n", nil},
		"one":               {from + "A: 1\n\nbody\n\n", []string{"A: 1\n\nbody\n"}},
		"no last blank":     {from + "A: 1\n\nbody\n", []string{"A: 1\n\nbody\n"}},
		"no last line end":  {from + "A: 1\n\nbody", []string{"A: 1\n\nbody"}},
		"two":               {from + "A: 1\n\none\n\n\n" + from + "A: 2\n\ntwo\n\n", []string{"A: 1\n\none\n\n", "A: 2\n\ntwo\n"}},
		"CRLF":              {strings.ReplaceAll(from+"A: 1\n\none\n\n"+from+"A: 2\n\ntwo\n\n", "\n", "\r\n"), []string{"A: 1\r\n\r\none\r\n", "A: 2\r\n\r\ntwo\r\n"}},
		"mboxrd":            {from + "A: 1\n\n>From me\n>>From you\n> From\nx\n\n", []string{"A: 1\n\nFrom me\n>From you\n> From\nx\n"}},
		"escape in header":  {from + ">From x\nA: 1\n\nx\n\n", []string{">From x\nA: 1\n\nx\n"}},
		"prose after blank": {from + "A: 1\n\nx\n\nFrom what I know at 12:30 nothing\n\n", []string{"A: 1\n\nx\n\nFrom what I know at 12:30 nothing\n"}},
		"From, no blank":    {from + "A: 1\n\nx\n" + from + "A: 2\n\ny\n\n", []string{"A: 1\n\nx\n", "A: 2\n\ny\n"}},
		"quoted, no blank":  {from + "A: 1\n\nx\n" + from + "not a field\n\n", []string{"A: 1\n\nx\n" + from + "not a field\n"}},
		"no body":           {from + "A: 1\n\n" + from + "A: 2\n\n\n" + from, []string{"A: 1\n\n", "A: 2\n\n", ""}},
		"header not ended":  {from + "A: 1\n" + from + "A: 2\n\nx\n", []string{"A: 1\n", "A: 2\n\nx\n"}},
		"Thunderbird":       {"From \nA: 1\n\nx\n\nFrom - \nA: 2\n\ny\n\n", []string{"A: 1\n\nx\n", "A: 2\n\ny\n"}},
		"mboxcl2":           {from + "Content-Length: 57\n\nx\n\n" + from + "B: no message\n\n" + from + "A: 2\n\ny\n\n", nil},
		"false length":      {from + "Content-Length: 5\n\nx\n>From y\n\n" + from + "A: 2\n\ny\n\n", []string{"Content-Length: 5\n\nx\nFrom y\n", "A: 2\n\ny\n"}},
		"length too long":   {from + "Content-Length: 5000\n\nx\n\n" + from + "A: 2\n\ny\n\n", []string{"Content-Length: 5000\n\nx\n", "A: 2\n\ny\n"}},
	} {
		if name == "mboxcl2" {
			body := "x\n\n" + from + "B: no message\n"
			tt.in = from + fmt.Sprintf("Content-Length: %d\n\n%s\n", len(body), body) + from + "A: 2\n\ny\n\n"
			tt.want = []string{fmt.Sprintf("Content-Length: %d\n\n%s", len(body), body), "A: 2\n\ny\n"}
		}
		if diff := cmp.Diff(tt.want, texts(read(t, tt.in))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestFlagsAndDate(t *testing.T) {
	rows := read(t, from+"Status: RO\nX-Status: AF\nX-Keywords: $Junk later  \nX-Keywords: later (bad)\n\nx\n\n"+
		"From joe Fri, 13 Feb 2009 23:31:30 +0100\nX-Mozilla-Status: 0005\nX-Mozilla-Keys: \n\nx\n\n"+
		"From - Fri Feb 13 23:31 CET 2009\nStatus: Fixed\nX-STATUS: DT\n\nx\n\n")
	want := [][]imap.Flag{
		{`\Seen`, `\Answered`, `\Flagged`, "$Junk", "later"},
		{`\Seen`, `\Flagged`},
		{`\Deleted`, `\Draft`},
	}
	dates := []int64{1234567890, 1234564290, 1234567860}
	if len(rows) != 3 {
		t.Fatalf("%d messages, want 3", len(rows))
	}
	for i, r := range rows {
		if diff := cmp.Diff(want[i], r.Flags); diff != "" {
			t.Errorf("message %d (-want +got):\n%s", i, diff)
		}
		if r.Date.Unix() != dates[i] {
			t.Errorf("message %d: date %v, want %v", i, r.Date, time.Unix(dates[i], 0).UTC())
		}
		if !strings.Contains(strings.ToLower(r.Text), "status") {
			t.Errorf("message %d lost header bytes: %q", i, r.Text)
		}
	}
}

// What mail programs rewrite in an mbox, and messages before or behind, do not
// change which message it is; anything else does.
func TestDigest(t *testing.T) {
	const head, body = "Subject: x\n", "\none\n\ntwo\n"
	one := read(t, from+head+body)[0].Digest
	same := []string{
		from + head + "Status: RO\nX-Keywords: a\n  b\n" + body + "\n",
		from + "X-UID: 7\n" + head + "Lines: 3\nContent-Length: 10\n" + body + "\n" + from + "A: 2\n\ny\n",
	}
	for _, text := range same {
		if read(t, text)[0].Digest != one {
			t.Errorf("%q has another digest", text)
		}
	}
	for _, text := range []string{from + head + "\none\ntwo\n", from + "Subject: y\n" + body, from + head + "\n" + body} {
		if read(t, text)[0].Digest == one {
			t.Errorf("%q has the same digest", text)
		}
	}
	shifted := read(t, from+"A: 0\n\nx\n\n"+from+head+body)
	if len(shifted) != 2 || shifted[1].Digest != one || shifted[1].Offset == 0 {
		t.Errorf("the message behind another: %+v", shifted)
	}
}

func TestLongLines(t *testing.T) {
	long := strings.Repeat("x", 700<<10) + " From y"
	in := from + "A: " + long + "\n\n" + long + "\n>From " + long + "\n\n" + from + "A: 2\n\nz\n"
	got := texts(read(t, in))
	want := []string{"A: " + long + "\n\n" + long + "\nFrom " + long + "\n", "A: 2\n\nz\n"}
	if !cmp.Equal(got, want) {
		t.Error("long lines are not read right")
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "letter.eml")
	if err := os.WriteFile(file, []byte("Subject: x\n\nFrom a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		filepath.Join(dir, "link"):    "name " + file + " itself",
		dir:                           "import maildir",
		file:                          "does not begin with",
		filepath.Join(dir, "nothing"): "does not exist",
	} {
		if _, err := mbox.Open(path); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("Open(%s): %v; want something about %q", path, err, says)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(from + "Content-Length: 3\nStatus: R\n\n>From x\n\n" + from + "A: 2\n\ny\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		text := "From \n" + string(in)
		r, err := mbox.NewReader(strings.NewReader(text), int64(len(text)))
		if err != nil {
			t.Fatal(err)
		}
		total := int64(0)
		for {
			m, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, m.Open())
			if err != nil {
				t.Fatal(err)
			}
			if m.Offset < total {
				t.Fatalf("message at %d begins before the end of the last one at %d", m.Offset, total)
			}
			total = m.Offset + n
		}
		if total > int64(len(text)) {
			t.Fatalf("read %d bytes of %d", total, len(text))
		}
	})
}

//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/internal/corpus"
)

// messages returns messages whose bytes are easy to get wrong, with the line
// ends of the network, and those of ROOKERY_CORPUS.
func messages(t *testing.T) [][]byte {
	t.Helper()
	all := []string{
		"From: a@x.org\r\nTo: b@x.org\r\nSubject: plain\r\nMessage-ID: <1@x.org>\r\n\r\nHello.\r\n",
		"Subject: no body, but an end of the header\r\n\r\n",
		"Subject: no newline at the end\r\n\r\nthe end",
		"Subject: empty lines at both ends\r\n\r\n\r\n\r\nx\r\n\r\n\r\n",
		"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\nFrom here on\r\n>From there\r\n",
		"Subject: 8 bit \xe4\xf6\xfc and Gr\xc3\xbc\xc3\x9fe\r\nX-Odd: \x01\x02\x7f\r\n\r\n\xff\xfe\x80\r\n",
		"Subject: folded\r\n\tand folded\r\n  again\r\nX-Empty:\r\nX-Space: \r\n\r\nx\r\n",
		"Subject: trailing blanks \t \r\n\r\nline \t\r\n \r\n",
		"Subject: long lines\r\n\r\n" + strings.Repeat("0123456789", 2000) + "\r\n",
		"Subject: large\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 30_000),
		"MIME-Version: 1.0\r\nSubject: parts\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\nContent-Type: application/pdf; name=\"x.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--b--\r\n",
		"Subject: twins\r\n\r\nx\r\n",
		"Subject: twins\r\n\r\nx\r\n",
	}
	var raw [][]byte
	for _, m := range all {
		raw = append(raw, []byte(m))
	}
	return append(raw, realMail(t)...)
}

// realMail returns the messages of ROOKERY_CORPUS, with CRLF. Those that have NUL or
// lone CR are left out: mail programs change these themselves.
func realMail(t *testing.T) (all [][]byte) {
	t.Helper()
	for _, m := range corpus.Messages(t) {
		data := toLF(m.Raw)
		if bytes.ContainsAny(data, "\x00\r") || !bytes.Contains(data, []byte("\n\n")) {
			continue
		}
		all = append(all, toCRLF(data))
	}
	return all
}

func toLF(m []byte) []byte   { return bytes.ReplaceAll(m, []byte("\r\n"), []byte("\n")) }
func toCRLF(m []byte) []byte { return bytes.ReplaceAll(m, []byte("\n"), []byte("\r\n")) }

// maildir makes a Maildir with these messages, read and answered in turn.
func maildir(t *testing.T, dir string, msgs [][]byte) {
	t.Helper()
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	flags := []string{"", "S", "RS", "FS"}
	for i, m := range msgs {
		name := fmt.Sprintf("cur/17000%05d.M%d.host:2,%s", i, i, flags[i%len(flags)])
		write(t, filepath.Join(dir, name), string(toLF(m)))
	}
}

// maildirMessages returns the messages of a Maildir with CRLF, sorted.
func maildirMessages(t *testing.T, dir string) [][]byte {
	t.Helper()
	var all [][]byte
	for _, name := range maildirFiles(t, dir) {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, toCRLF(toLF(data)))
	}
	return sorted(all)
}

func maildirFiles(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "[cn][ue][rw]", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func sorted(msgs [][]byte) [][]byte {
	msgs = slices.Clone(msgs)
	slices.SortFunc(msgs, bytes.Compare)
	return msgs
}

// sameMessages fails the test unless both have the same messages, byte for
// byte, in any order.
func sameMessages(t *testing.T, where string, got, want [][]byte) {
	t.Helper()
	got, want = sorted(got), sorted(want)
	if len(got) != len(want) {
		t.Errorf("%s has %d messages, want %d", where, len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if !bytes.Equal(got[i], want[i]) {
			n := firstDifference(got[i], want[i])
			t.Fatalf("%s: a message differs at byte %d: got %.80q, want %.80q", where, n, got[i][n:], want[i][n:])
		}
	}
}

func firstDifference(a, b []byte) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

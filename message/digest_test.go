package message_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/rookery-mail/rookery/message"
)

var update = flag.Bool("update", false, "rewrite what the files in testdata expect")

// TestDigests compares digests with the files in testdata/digest. The comment
// of a file says what it is about, then, each on a line of its own:
//
//	lf          the message's lines end in LF, not CRLF
//	noeol       its last line has no line end
//	escapes     \xNN, \r and \\ in it are octets
//	limits a,b  Limits.Depth and Limits.Parts
//
// Run with -update to rewrite what is expected, and read the difference.
func TestDigests(t *testing.T) {
	files, err := filepath.Glob("testdata/digest/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test files: %v", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			raw, lim := testMessage(t, a)
			d, text := checkMessage(t, raw, lim)
			if d.HasNUL {
				d, text, err = message.ParseServed(bytes.NewReader(raw), int64(len(raw)), lim)
				if err != nil {
					t.Fatal(err)
				}
			}
			got := describe(message.Served(raw), d, text)
			if *update {
				a.Files = append(a.Files[:1], got...)
				if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want := map[string]string{}
			for _, f := range a.Files[1:] {
				want[f.Name] = string(f.Data)
			}
			for _, f := range got {
				if diff := cmp.Diff(want[f.Name], string(f.Data)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", f.Name, diff)
				}
			}
			if len(want) != len(got) {
				t.Errorf("the file expects %d things, not %d", len(want), len(got))
			}
		})
	}
}

// testMessage returns the message of a test file.
func testMessage(t *testing.T, a *txtar.Archive) ([]byte, message.Limits) {
	t.Helper()
	var lim message.Limits
	if len(a.Files) == 0 || a.Files[0].Name != "message" {
		t.Fatal("the first file of the archive is not a message")
	}
	m := string(a.Files[0].Data)
	has := map[string]bool{}
	for line := range strings.Lines(string(a.Comment)) {
		line = strings.TrimSpace(line)
		has[line] = true
		if v, ok := strings.CutPrefix(line, "limits "); ok {
			if _, err := fmt.Sscanf(v, "%d,%d", &lim.Depth, &lim.Parts); err != nil {
				t.Fatal(err)
			}
		}
	}
	if has["noeol"] {
		m = strings.TrimSuffix(m, "\n")
	}
	if !has["lf"] {
		m = strings.ReplaceAll(m, "\n", "\r\n")
	}
	if has["escapes"] {
		m = unescape(t, m)
	}
	return []byte(m), lim
}

func unescape(t *testing.T, s string) string {
	t.Helper()
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\':
			b.WriteByte(s[i])
		case strings.HasPrefix(s[i:], `\r`):
			b.WriteByte('\r')
			i++
		case strings.HasPrefix(s[i:], `\\`):
			b.WriteByte('\\')
			i++
		default:
			n, err := strconv.ParseUint(s[i+2:i+4], 16, 8)
			if err != nil {
				t.Fatal(err)
			}
			b.WriteByte(byte(n))
			i += 3
		}
	}
	return b.String()
}

// visible shows octets in ASCII.
func visible(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\n':
			b.WriteString(`\n`)
		case c < ' ' || c >= 0x7F:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// describe shows a digest in lines.
func describe(m []byte, d *message.Digest, text *message.Text) []txtar.File {
	file := func(name, content string) txtar.File {
		return txtar.File{Name: name, Data: []byte(content + "\n")}
	}
	var keys strings.Builder
	line := func(name string, v any) {
		if s := visible(fmt.Sprint(v)); s != "" && s != "false" && s != "[]" {
			fmt.Fprintf(&keys, "%s: %s\n", name, s)
		}
	}
	line("size", fmt.Sprintf("%d octets, %d lines", d.Size, d.Lines))
	line("id", d.MessageID)
	line("references", d.References)
	line("subject", d.Subject)
	line("reply or forward", d.IsReplyOrForward)
	line("from", d.Sort.From)
	line("to", d.Sort.To)
	line("cc", d.Sort.Cc)
	line("display from", d.Sort.DisplayFrom)
	line("display to", d.Sort.DisplayTo)
	if at, ok := d.SentDate(); ok {
		line("sent", at.Format("2006-01-02 15:04:05 -0700"))
	}
	line("preview", d.Preview)
	line("NUL", d.HasNUL)
	line("8-bit header", d.Has8BitHeader)
	line("truncated", d.Truncated)
	var parts strings.Builder
	describePart(&parts, m, "root", &d.Root)
	files := []txtar.File{
		file("envelope", visible(string(d.Envelope))),
		file("body", visible(string(d.Body))),
		file("bodystructure", visible(string(d.BodyStructure))),
		file("keys", strings.TrimSuffix(keys.String(), "\n")),
		file("parts", strings.TrimSuffix(parts.String(), "\n")),
	}
	var search []string
	for _, s := range [...][]byte{text.Header, text.MIME, text.Body} {
		search = append(search, visible(string(s)))
	}
	return append(files, file("text", strings.Join(search, "\n")))
}

func describePart(b *strings.Builder, m []byte, name string, p *message.Part) {
	show := func(s []byte) string {
		v := visible(string(s))
		if len(v) > 60 {
			v = v[:28] + "..." + v[len(v)-28:]
		}
		return v
	}
	fmt.Fprintf(b, "%s: %s/%s, header %d [%s], body %d to %d, %d lines [%s]\n", name, p.Type, p.Subtype,
		p.HeaderStart, show(m[p.HeaderStart:p.BodyStart]), p.BodyStart, p.End, p.Lines, show(m[p.BodyStart:p.End]))
	for i := range p.Children {
		describePart(b, m, fmt.Sprintf("%s.%d", name, i+1), &p.Children[i])
	}
	if p.Message != nil {
		describePart(b, m, name+".message", p.Message)
	}
}

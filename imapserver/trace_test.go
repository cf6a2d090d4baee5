package imapserver_test

import (
	"bufio"
	"bytes"
	"compress/flate"
	"io/fs"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imaptest"
)

// traceBook keeps a trace.
type traceBook struct {
	mu    sync.Mutex
	lines []string
}

func (b *traceBook) add(_ *imapserver.Conn, line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, line)
}

func (b *traceBook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.lines, "\n") + "\n"
}

// TestTraceRuns pastes the trace of a session into a transcript, which must run
// on a fresh server. What no two servers have in common becomes a variable.
func TestTraceRuns(t *testing.T) {
	var book traceBook
	srv := memoryServer(t, imapserver.Options{TLS: testTLS(t), Trace: book.add})
	c := connect(t, srv)
	c.ok("CAPABILITY")
	c.gets("LOGIN ann secret", "NO ")
	c.startTLS()
	c.send("p AUTHENTICATE PLAIN\r\n")
	c.want("+ ")
	c.send("*\r\n")
	c.want("p BAD ")
	c.gets("NONSENSE \x01", "BAD ")
	c.send("word\r\n")
	c.want("word BAD ")
	c.send("p AUTHENTICATE PLAIN\r\n")
	c.want("+ ")
	c.send("AGFubgBzZWNyZXQ=\r\n")
	c.want("p OK ")
	c.send("m APPEND INBOX (\\Seen) {40}\r\n")
	c.want("+ OK")
	c.send(strings.Repeat("x", 40) + " {12+}\r\nsecret words\r\n")
	c.want("m OK ")
	c.gets("APPEND Nowhere {40}", "NO ")
	c.gets("APPEND Nowhere {40+}\r\n"+strings.Repeat("y", 38)+"\r\n", "NO ")
	c.ok("SELECT INBOX")
	c.ok("COMPRESS DEFLATE")
	c.in = bufio.NewReader(flate.NewReader(c.in))
	c.conn = compressing(c.conn)
	c.ok("FETCH 1:* (FLAGS RFC822.SIZE BODY.PEEK[])")
	c.send("n NOOP\r\ni IDLE\r\n")
	c.want("n OK ", "+ idling")
	c.send("DONE\r\ns UID SEARCH ALL\r\n")
	c.want("i OK ", "* SEARCH 1 2", "s OK ")
	c.ok("STORE 1 +FLAGS (\\Deleted)")
	c.ok("EXPUNGE")
	c.ok("LOGOUT")

	until(t, "the connection has ended", func() bool { return len(srv.Connections()) == 0 })
	trace := book.String()
	if strings.Contains(trace, "secret") || strings.Contains(trace, "AGFubgBzZWNyZXQ=") || strings.Contains(trace, "xxx") {
		t.Errorf("the trace tells too much:\n%s", trace)
	}
	if !strings.Contains(trace, "octets: 40, 12") && !strings.Contains(trace, "octets: 40") {
		t.Errorf("the trace does not tell how long the messages are:\n%s", trace)
	}
	script := regexp.MustCompile(`(UIDVALIDITY|APPENDUID) \d+`).ReplaceAllString(trace, "$1 $$v")
	script = regexp.MustCompile(`(MAILBOXID) \([^)]*\)`).ReplaceAllString(script, "$1 ($$m)")
	script = "rfc: 9051\nstate: greeting\ndial: plain\ngen: octets40 40\ngen: octets12 12\n\n" + script
	target := memoryTarget()
	target.Transcripts = fstest.MapFS{"trace.txtar": &fstest.MapFile{Data: []byte(script), Mode: fs.ModePerm}}
	if !t.Run("pasted", func(t *testing.T) { imaptest.Run(t, target) }) {
		t.Logf("the trace:\n%s", script)
	}
}

// flushing compresses what is written, in one piece.
type flushing struct {
	net.Conn
	packed *bytes.Buffer
	w      *flate.Writer
}

func compressing(nc net.Conn) net.Conn {
	var packed bytes.Buffer
	w, _ := flate.NewWriter(&packed, 6) // a level that is known cannot fail
	return flushing{nc, &packed, w}
}

func (f flushing) Write(p []byte) (int, error) {
	if _, err := f.w.Write(p); err != nil {
		return 0, err
	}
	if err := f.w.Flush(); err != nil {
		return 0, err
	}
	_, err := f.packed.WriteTo(f.Conn)
	return len(p), err
}

// TestTraceHides: what is secret stays so, however the client sends it.
func TestTraceHides(t *testing.T) {
	const password = "Sesame7"
	for name, test := range map[string]struct {
		send []string // each is sent when the answer to the one before has come
		want []string
	}{
		"atoms":             {[]string{"a LOGIN ann Sesame7\r\n"}, []string{`a C: LOGIN ann "$pass"`}},
		"quoted":            {[]string{`a login "an\"n x" "Sesame7"` + "\r\n"}, []string{`a C: login "an\"n x" "$pass"`}},
		"literals":          {[]string{"a LOGIN {3+}\r\nann {7+}\r\nSesame7\r\n"}, []string{`a C: LOGIN {@octets3+} "$pass"`}},
		"waiting literals":  {[]string{"a LOGIN {3}\r\n", "ann {7}\r\n", "Sesame7\r\n"}, []string{`a C: LOGIN {@octets3} "$pass"`}},
		"without a tag":     {[]string{"LOGIN ann Sesame7\r\n"}, []string{`a C! LOGIN ...\r\n`}},
		"a broken quote":    {[]string{"a LOGIN \"ann Sesame7\r\n"}, []string{`a C: LOGIN ...`}},
		"one argument":      {[]string{"a LOGIN Sesame7\r\n"}, []string{`a C: LOGIN ...`}},
		"initial response":  {[]string{"a AUTHENTICATE PLAIN U2VzYW1lNw==\r\n"}, []string{"a C: AUTHENTICATE PLAIN $plain"}},
		"answer":            {[]string{"a AUTHENTICATE PLAIN\r\n", "U2VzYW1lNw==\r\n"}, []string{"a C: AUTHENTICATE PLAIN", "a C: $plain"}},
		"answer ahead":      {[]string{"a AUTHENTICATE PLAIN\r\nU2VzYW1lNw==\r\n"}, []string{"a C: AUTHENTICATE PLAIN", "a C: $plain"}},
		"answer too late":   {[]string{"a AUTHENTICATE NONE\r\n", "U2VzYW1lNw==\r\n"}, []string{"a C: AUTHENTICATE NONE", `a C! $tag\r\n`}},
		"behind another":    {[]string{"a NOOP\r\nb AUTHENTICATE PLAIN\r\n", "", "U2VzYW1lNw==\r\n"}, []string{"a C: NOOP", "a C: AUTHENTICATE PLAIN", "a C: $plain"}},
		"other mechanism":   {[]string{"a AUTHENTICATE X-TRUST\r\n", "Sesame7=\r\n"}, []string{"a C: AUTHENTICATE X-TRUST", "a C: $hidden"}},
		"byte by byte":      {strings.Split("a LOGIN ann Sesame7\r\n", ""), []string{`a C: LOGIN ann "$pass"`}},
		"in a long line":    {[]string{"a LOGIN " + strings.Repeat("n", 7000) + " Sesame7\r\n"}, []string{"a C: LOGIN " + strings.Repeat("n", 7000) + ` "$pass"`}},
		"behind a long one": {[]string{"a NOOP " + strings.Repeat("x", 8100) + " {7+}\r\nSesame7\r\n"}, []string{"a C: NOOP " + strings.Repeat("x", 8100) + " {@octets7+}"}},
	} {
		t.Run(name, func(t *testing.T) {
			var book traceBook
			srv := memoryServer(t, imapserver.Options{Trace: book.add, Extensions: []*imapserver.Extension{everything()}})
			c := connect(t, srv)
			for i, text := range test.send {
				if i > 0 && len(text) != 1 {
					c.line()
				}
				c.send(text)
			}
			c.line()
			trace := book.String()
			if strings.Contains(trace, password) || strings.Contains(trace, "U2VzYW1l") {
				t.Errorf("it tells the password:\n%s", trace)
			}
			var said []string
			for _, line := range strings.Split(trace, "\n") {
				if strings.HasPrefix(line, "a C") {
					said = append(said, line)
				}
			}
			if !slices.Equal(said, test.want) {
				t.Errorf("got\n%.300s\nwant\n%.300s", strings.Join(said, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

// TestTraceLetters: each connection has a letter of its own.
func TestTraceLetters(t *testing.T) {
	var book traceBook
	srv := memoryServer(t, imapserver.Options{Trace: book.add})
	a, b := connect(t, srv), connect(t, srv)
	b.ok("NOOP")
	a.ok("NOOP")
	want := "b C: NOOP\nb S: OK NOOP completed\na C: NOOP\na S: OK NOOP completed\n"
	if got := book.String(); !strings.HasSuffix(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestTracePanics: who listens cannot harm the connection.
func TestTracePanics(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{Trace: func(*imapserver.Conn, string) { panic("trace") }})
	c := connect(t, srv)
	c.ok("NOOP")
	c.ok("LOGOUT")
}

// TestTraceIsBounded: a line without end is cut.
func TestTraceIsBounded(t *testing.T) {
	var book traceBook
	srv := memoryServer(t, imapserver.Options{Trace: book.add})
	c := login(t, srv)
	c.appendTo("INBOX", slices.Repeat([]string{"x\r\n"}, 2001)...)
	c.ok("SELECT INBOX")
	c.ok("SEARCH ALL")
	for _, line := range strings.Split(book.String(), "\n") {
		if len(line) > 9000 {
			t.Errorf("a line of %d octets: %.100s", len(line), line)
		}
		if rest, ok := strings.CutPrefix(line, "a S: * SEARCH "); ok && !strings.HasSuffix(rest, " ...") {
			t.Errorf("the end is %q", rest[len(rest)-20:])
		}
	}
}

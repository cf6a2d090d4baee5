package imapserver

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
)

// tracer turns what a connection says into lines of a transcript (package
// imaptest): tags are left out, a literal is told by its size, passwords by the
// variables that stand for them there. It sees the plain text, above TLS and
// COMPRESS.
type tracer struct {
	emit   func(line string)
	letter string

	mu     sync.Mutex // the reader and who writes news are two
	client traced
	server traced

	mode      traceMode
	modeTag   string // of the command that has set mode
	mechanism string
	plain     bool   // the client's next line answers a "+"
	held      []byte // the client's, behind STARTTLS or COMPRESS
}

// traceMode is what the client's next lines are.
type traceMode uint8

const (
	traceCommands traceMode = iota
	traceAnswers            // to the challenges of AUTHENTICATE
	traceIdle
	traceTLS     // held until the server has answered STARTTLS
	traceDeflate // the same for COMPRESS
)

// maxTrace bounds a line; the rest of it is left out.
const maxTrace = 8 << 10

// traced cuts one direction of the stream into lines.
type traced struct {
	line    []byte // so far, literals as notes
	tail    []byte // the last bytes of what stands behind the last literal
	skip    int64  // octets of a literal to come
	sizes   []string
	cut     bool
	pending bool // a literal has been announced and nothing has come since
}

// newTracer returns nil where nobody listens.
func newTracer(c *Conn) *tracer {
	trace := c.srv.opts.Trace
	if trace == nil {
		return nil
	}
	letter := string(rune('a' + (c.id-1)%26))
	emit := func(line string) { _ = c.guard(func() error { trace(c, line); return nil }) }
	return &tracer{emit: emit, letter: letter}
}

// reader traces what is read from r.
func (t *tracer) reader(r io.Reader) io.Reader {
	if t == nil {
		return r
	}
	return tracingReader{t, r}
}

// writer traces what is written to w.
func (t *tracer) writer(w io.Writer) io.Writer {
	if t == nil {
		return w
	}
	return tracingWriter{t, w}
}

type tracingReader struct {
	t *tracer
	r io.Reader
}

func (r tracingReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.t.see(&r.t.client, p[:n], r.t.clientLine)
	return n, err
}

type tracingWriter struct {
	t *tracer
	w io.Writer
}

func (w tracingWriter) Write(p []byte) (int, error) {
	w.t.see(&w.t.server, p, w.t.serverLine)
	return w.w.Write(p)
}

// see takes bytes of one direction and calls line for each line that ends.
func (t *tracer) see(d *traced, p []byte, line func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.feed(d, p, line)
}

func (t *tracer) feed(d *traced, p []byte, line func()) {
	for len(p) > 0 {
		if d == &t.client && t.mode >= traceTLS {
			t.held = append(t.held, p...)
			return
		}
		d.pending = false
		if d.skip > 0 {
			n := min(d.skip, int64(len(p)))
			d.skip -= n
			p = p[n:]
			continue
		}
		piece, rest, ended := bytes.Cut(p, []byte("\n"))
		p = rest
		d.add(piece)
		switch {
		case !ended:
			return
		case d.literal(d == &t.client):
			continue
		}
		d.line = bytes.TrimSuffix(d.line, []byte("\r"))
		line()
		*d = traced{line: d.line[:0], tail: d.tail[:0]}
	}
}

// add appends to the line, and to its tail what may announce a literal.
func (d *traced) add(piece []byte) {
	const longest = 32
	d.tail = append(d.tail, piece[max(len(piece)-longest, 0):]...)
	d.tail = append(d.tail[:0], d.tail[max(len(d.tail)-longest, 0):]...)
	if room := maxTrace - len(d.line); len(piece) > room {
		piece, d.cut = piece[:room], true
	}
	d.line = append(d.line, piece...)
}

// literal replaces the announcement of a literal at the line's end by a note.
func (d *traced) literal(client bool) bool {
	tail := strings.TrimSuffix(string(d.tail), "\r")
	open := strings.LastIndexByte(tail, '{')
	if open < 0 || !strings.HasSuffix(tail, "}") {
		return false
	}
	digits, plus := strings.CutSuffix(tail[open+1:len(tail)-1], "+")
	size, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || size < 0 {
		return false
	}
	note := "{@octets" + digits + "}"
	if plus {
		note = "{@octets" + digits + "+}"
	}
	if !client {
		if open > 0 && tail[open-1] == '~' {
			open--
		}
		note = "$_"
	}
	if !d.cut {
		d.line = d.line[:len(d.line)-(len(d.tail)-open)]
		d.line = append(d.line, note...)
	}
	d.sizes = append(d.sizes, digits)
	d.skip, d.pending, d.tail = size, true, d.tail[:0]
	return true
}

// clientLine tells a whole command, or an answer.
func (t *tracer) clientLine() {
	text, answers := string(t.client.line), t.plain
	t.plain = false
	switch {
	case strings.EqualFold(text, "DONE"), t.mode == traceIdle && answers:
		t.mode = traceCommands
		t.say("C:", text)
		return
	case t.mode == traceAnswers && (answers || !strings.Contains(text, " ")):
		if text != "*" {
			text = t.secret()
		}
		t.say("C:", text)
		return
	}
	tag, command, _ := strings.Cut(text, " ")
	name, args, _ := strings.Cut(command, " ")
	switch upper := strings.ToUpper(name); {
	case isSecret(tag): // the tag was forgotten
		t.say("C!", quoteTrace(tag)+` ...\r\n`)
		return
	case upper == "LOGIN":
		command = name + " " + hidePassword(args)
	case upper == "AUTHENTICATE":
		var initial string
		if t.mechanism, initial, _ = strings.Cut(args, " "); initial != "" && initial != "=" {
			command = name + " " + t.mechanism + " " + t.secret()
		}
		t.mode, t.modeTag = traceAnswers, tag
	case upper == "IDLE":
		t.mode, t.modeTag = traceIdle, tag
	case upper == "STARTTLS":
		t.mode, t.modeTag = traceTLS, tag
	case upper == "COMPRESS":
		t.mode, t.modeTag = traceDeflate, tag
	}
	if t.client.cut {
		command += "..."
	}
	switch {
	case name == "": // it may be an answer that comes too late
		t.say("C!", `$tag\r\n`)
	case strings.ContainsFunc(command, isControl):
		t.say("C!", `$tag `+quoteTrace(command)+`\r\n`)
	default:
		t.say("C:", command)
	}
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' }

func isSecret(word string) bool {
	return strings.EqualFold(word, "LOGIN") || strings.EqualFold(word, "AUTHENTICATE")
}

// quoteTrace writes text as the inside of a Go string.
func quoteTrace(text string) string {
	q := strconv.Quote(text)
	return q[1 : len(q)-1]
}

// secret stands for what a client answers to a challenge.
func (t *tracer) secret() string {
	if strings.EqualFold(t.mechanism, "PLAIN") {
		return "$plain"
	}
	return "$hidden"
}

// hidePassword keeps the first argument of LOGIN, if it is one beyond doubt.
func hidePassword(args string) string {
	end := strings.IndexByte(args, ' ')
	if strings.HasPrefix(args, `"`) {
		end = 1
		for end < len(args) && args[end] != '"' {
			if args[end] == '\\' {
				end++
			}
			end++
		}
		end++
	}
	if end <= 0 || end >= len(args) || args[end] != ' ' {
		return "..."
	}
	return args[:end] + ` "$pass"`
}

// serverLine tells a response.
func (t *tracer) serverLine() {
	d := &t.server
	text := string(d.line)
	word, rest, _ := strings.Cut(text, " ")
	switch word {
	case "*":
	case "+":
		if t.client.pending { // asks for the literal of a command that is not told yet
			return
		}
		t.plain = true
		if t.mode == traceAnswers {
			text = "+ $_" // a challenge may help to guess a password
		}
	default:
		text = rest
		t.refused()
	}
	if d.cut {
		// The pattern "..." passes over the rest of a list.
		text = text[:max(strings.LastIndexByte(text, ' '), 0)] + " ..."
	}
	t.say("S:", text)
	if len(d.sizes) > 0 {
		t.emit("# where " + t.letter + " has $_ came literals of so many octets: " + strings.Join(d.sizes, ", "))
	}
	if word == t.modeTag {
		t.modeEnds(strings.HasPrefix(text, "OK"))
	}
}

// modeEnds is called for the tagged reply to the command that has set the mode.
func (t *tracer) modeEnds(ok bool) {
	mode, held := t.mode, t.held
	t.mode, t.modeTag, t.plain, t.held = traceCommands, "", false, nil
	switch {
	case mode == traceTLS && ok:
		t.emit(t.letter + " starttls")
	case mode == traceDeflate && ok:
		t.emit(t.letter + " deflate")
	case mode >= traceTLS:
		t.feed(&t.client, held, t.clientLine)
	}
}

// refused tells a command whose literal the server does not want: the rest of it
// will not come.
func (t *tracer) refused() {
	if d := &t.client; d.pending {
		t.clientLine()
		*d = traced{line: d.line[:0], tail: d.tail[:0]}
	}
}

// end tells which side has ended the connection.
func (t *tracer) end(byServer bool) {
	switch {
	case t == nil:
	case byServer:
		t.emit(t.letter + " eof")
	default:
		t.emit(t.letter + " close")
	}
}

func (t *tracer) say(who, text string) { t.emit(fmt.Sprintf("%s %s %s", t.letter, who, text)) }

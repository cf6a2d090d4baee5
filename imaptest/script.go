package imaptest

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"golang.org/x/tools/txtar"
)

// A script is one parsed transcript.
type script struct {
	name    string
	archive *txtar.Archive
	lines   []string // of the archive's comment, as written

	rfc      string
	needs    []string
	states   map[string]string // by connection; "" is the default
	users    map[string]string
	mailbox  string
	create   []string
	enable   string
	dial     string
	seeds    []seed
	members  map[string][]byte
	steps    []step
	conns    []string // in order of first mention
	restarts bool
}

// A seed is one message that is in a mailbox before the script begins.
type seed struct {
	mailbox string
	flags   string // with parentheses, or ""
	date    string // with quotes, or ""
	data    []byte
	own     bool // a member of the script, not a stock message
}

type op uint8

const (
	opSend     op = iota // a C:
	opHold               // a C+
	opRaw                // a C!
	opRecv               // a S:
	opOptional           // a S?
	opSkip               // a S: ...
	opUnordered
	opClose
	opEOF
	opDeflate
	opStartTLS
	opRelation
	opRestart
)

// A step is one line of a script, or one unordered block.
type step struct {
	op    op
	line  int // from 1
	conn  string
	text  string
	pat   *pattern
	block []step
}

// loadScripts reads all *.txtar of a file system.
func loadScripts(fsys fs.FS) ([]*script, error) {
	names, err := fs.Glob(fsys, "*.txtar")
	if err != nil {
		return nil, err
	}
	var all []*script
	for _, name := range names {
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		s, err := parseScript(name, data)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func parseScript(name string, data []byte) (*script, error) {
	s := &script{
		name:    strings.TrimSuffix(path.Base(name), ".txtar"),
		archive: txtar.Parse(data),
		states:  map[string]string{"": "auth"},
		users:   map[string]string{},
		mailbox: "INBOX",
		members: map[string][]byte{},
	}
	fail := func(line int, format string, args ...any) error {
		return fmt.Errorf("%s:%d: %s", name, line, fmt.Sprintf(format, args...))
	}
	for _, f := range s.archive.Files {
		if err := s.addMember(f); err != nil {
			return nil, fail(0, "member %s: %v", f.Name, err)
		}
	}
	text := strings.TrimSuffix(string(s.archive.Comment), "\n")
	s.lines = strings.Split(text, "\n")
	body := 0
	for i, line := range s.lines {
		if line == "" {
			body = i + 1
			break
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		if err := s.addHeader(line); err != nil {
			return nil, fail(i+1, "%v", err)
		}
	}
	if body == 0 {
		return nil, fail(1, "no empty line after the header")
	}
	if s.rfc == "" {
		return nil, fail(1, "no rfc: line in the header")
	}
	if err := s.addSteps(body); err != nil {
		return nil, fmt.Errorf("%s:%w", name, err)
	}
	return s, nil
}

func (s *script) addMember(f txtar.File) error {
	name, escaped := strings.CutSuffix(f.Name, ".esc")
	data := f.Data
	if escaped {
		text, err := unescape(strings.ReplaceAll(string(data), "\n", ""))
		if err != nil {
			return err
		}
		data = []byte(text)
	} else {
		data = bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n"))
	}
	s.members[name] = data
	return nil
}

// unescape reads text as the inside of a Go string.
func unescape(text string) (string, error) {
	var b strings.Builder
	for text != "" {
		if text[0] == '"' {
			b.WriteByte('"')
			text = text[1:]
			continue
		}
		if text[0] != '\\' { // keep bytes that are not UTF-8 as they are
			b.WriteByte(text[0])
			text = text[1:]
			continue
		}
		r, multibyte, tail, err := strconv.UnquoteChar(text, '"')
		if err != nil {
			return "", fmt.Errorf("bad escape at %.10q", text)
		}
		if r < 256 && !multibyte {
			b.WriteByte(byte(r))
		} else {
			b.WriteRune(r)
		}
		text = tail
	}
	return b.String(), nil
}

func (s *script) addHeader(line string) error {
	key, value, ok := strings.Cut(line, ":")
	if !ok {
		return fmt.Errorf("a header line is \"key: value\", not %q (an empty line ends the header)", line)
	}
	value = strings.TrimSpace(value)
	switch key {
	case "rfc":
		s.rfc = value
	case "needs":
		s.needs = append(s.needs, strings.Fields(value)...)
	case "state":
		perConn(s.states, value)
	case "user":
		perConn(s.users, value)
	case "mailbox":
		s.mailbox = value
	case "create":
		s.create = append(s.create, strings.Fields(value)...)
	case "enable":
		s.enable = value
	case "dial":
		s.dial = value
	case "seed":
		return s.addSeed(value)
	case "gen":
		name, count, _ := strings.Cut(value, " ")
		n, err := strconv.Atoi(count)
		if err != nil {
			return fmt.Errorf("gen: wants a name and a number of bytes")
		}
		s.members[name] = bytes.Repeat([]byte("x"), n)
	default:
		return fmt.Errorf("unknown header %q", key)
	}
	return nil
}

// perConn reads "selected b=auth" into a map whose "" is the default.
func perConn(m map[string]string, value string) {
	for _, f := range strings.Fields(value) {
		if conn, v, ok := strings.Cut(f, "="); ok {
			m[conn] = v
		} else {
			m[""] = f
		}
	}
}

// addSeed reads "[mailbox] member|count [(flags)] ["date"]".
func (s *script) addSeed(value string) error {
	head, date, hasDate := strings.Cut(value, `"`)
	if hasDate {
		date = `"` + date
	}
	head, flags, hasFlags := strings.Cut(head, "(")
	if hasFlags {
		flags = "(" + strings.TrimSpace(flags)
	}
	words := strings.Fields(head)
	mailbox := s.mailbox
	if len(words) == 2 {
		mailbox, words = words[0], words[1:]
	}
	if len(words) != 1 {
		return fmt.Errorf("seed: wants [mailbox] member [(flags)] [\"date\"], not %q", value)
	}
	var messages [][]byte
	own := false
	if data, ok := s.members[words[0]]; ok {
		messages, own = append(messages, data), true
	} else if n, err := strconv.Atoi(words[0]); err == nil {
		for i := range n {
			messages = append(messages, stockMessage(len(s.seeds)+i+1))
		}
	} else {
		return fmt.Errorf("seed: no member %q", words[0])
	}
	for _, data := range messages {
		s.seeds = append(s.seeds, seed{mailbox: mailbox, flags: flags, date: date, data: data, own: own})
	}
	return nil
}

// stockMessage is the n-th small message, for scripts that care only that
// there are messages.
func stockMessage(n int) []byte {
	return fmt.Appendf(nil, "From: Ann <ann@example.org>\r\nTo: Bob <bob@example.org>\r\n"+
		"Date: Wed, %d Jan 2020 12:00:00 +0000\r\nMessage-ID: <%d@example.org>\r\n"+
		"Subject: message %d\r\n\r\nThis is message %d.\r\n", n%28+1, n, n, n)
}

func (s *script) addSteps(from int) error {
	var block *step
	seen := map[string]bool{}
	for i := from; i < len(s.lines); i++ {
		line := strings.TrimSpace(s.lines[i])
		if line == "" || line[0] == '#' {
			continue
		}
		if line == "}" && block != nil {
			s.steps = append(s.steps, *block)
			block = nil
			continue
		}
		st, err := s.parseStep(line)
		if err != nil {
			return fmt.Errorf("%d: %w", i+1, err)
		}
		st.line = i + 1
		if st.conn != "" && !seen[st.conn] {
			seen[st.conn] = true
			s.conns = append(s.conns, st.conn)
		}
		switch {
		case st.op == opUnordered:
			block = &st
			continue
		case block == nil:
			s.steps = append(s.steps, st)
		case st.op != opRecv || (block.conn != "" && block.conn != st.conn):
			return fmt.Errorf("%d: an unordered block holds S: lines of one connection only", i+1)
		default:
			block.conn = st.conn
			block.block = append(block.block, st)
		}
		s.restarts = s.restarts || st.op == opRestart
	}
	if block != nil {
		return fmt.Errorf("%d: unordered block without }", block.line)
	}
	return nil
}

func (s *script) parseStep(line string) (step, error) {
	if line == "unordered {" {
		return step{op: opUnordered}, nil
	}
	if line == "restart" {
		return step{op: opRestart}, nil
	}
	word, rest, _ := strings.Cut(line, " ")
	if word == "?" {
		return step{op: opRelation, text: rest}, nil
	}
	if len(word) != 1 || word[0] < 'a' || word[0] > 'z' {
		return step{}, fmt.Errorf("a line begins with the letter of a connection, not %q", word)
	}
	verb, text, _ := strings.Cut(rest, " ")
	st := step{conn: word, text: text}
	switch verb {
	case "C:":
		st.op = opSend
	case "C+":
		st.op = opHold
	case "C!":
		st.op = opRaw
	case "S:", "S?":
		st.op = opRecv
		if text == "..." {
			st.op = opSkip
			return st, nil
		}
		if verb == "S?" {
			st.op = opOptional
		}
		var err error
		st.pat, err = parsePattern(text, s.members)
		return st, err
	case "close":
		st.op = opClose
	case "eof":
		st.op = opEOF
	case "deflate":
		st.op = opDeflate
	case "starttls":
		st.op = opStartTLS
	default:
		return st, fmt.Errorf("after the connection comes C: C+ C! S: S? close eof deflate or starttls, not %q", verb)
	}
	return st, nil
}

package message_test

import (
	"fmt"
	"strconv"
)

// grammar walks wire forms by the grammar of RFC 9051 section 9. The first
// error stays.
type grammar struct {
	in  []byte
	pos int
	err error
}

func (g *grammar) fail(format string, args ...any) {
	if g.err == nil {
		from := max(0, g.pos-30)
		to := min(len(g.in), g.pos+30)
		g.err = fmt.Errorf("at %d (%q): %s", g.pos, g.in[from:to], fmt.Sprintf(format, args...))
	}
	g.pos = len(g.in)
}

func (g *grammar) peek() byte {
	if g.pos < len(g.in) {
		return g.in[g.pos]
	}
	return 0
}

func (g *grammar) expect(s string) {
	if g.pos+len(s) > len(g.in) || string(g.in[g.pos:g.pos+len(s)]) != s {
		g.fail("want %q", s)
		return
	}
	g.pos += len(s)
}

func (g *grammar) accept(s string) bool {
	if g.pos+len(s) <= len(g.in) && string(g.in[g.pos:g.pos+len(s)]) == s {
		g.pos += len(s)
		return true
	}
	return false
}

func (g *grammar) string() string {
	if g.err != nil {
		return ""
	}
	switch g.peek() {
	case '"':
		return g.quoted()
	case '{':
		return g.literal()
	}
	g.fail("want a string")
	return ""
}

func (g *grammar) quoted() string {
	var s []byte
	for g.pos++; g.pos < len(g.in); g.pos++ {
		switch c := g.in[g.pos]; {
		case c == '"':
			g.pos++
			return string(s)
		case c == '\\':
			g.pos++
			if c = g.peek(); c != '"' && c != '\\' {
				g.fail("bad quoted pair")
				return ""
			}
			s = append(s, c)
		case c == 0 || c >= 0x80 || c == '\r' || c == '\n':
			g.fail("octet %#x in a quoted string", c)
			return ""
		default:
			s = append(s, c)
		}
	}
	g.fail("quoted string without end")
	return ""
}

func (g *grammar) literal() string {
	g.pos++
	n := g.number()
	g.expect("}\r\n")
	if n > int64(len(g.in)-g.pos) {
		g.fail("literal of %d beyond the end", n)
		return ""
	}
	s := string(g.in[g.pos : g.pos+int(n)])
	g.pos += int(n)
	for _, c := range []byte(s) {
		if c == 0 {
			g.fail("NUL in a literal")
		}
	}
	return s
}

func (g *grammar) nstring() (s string, isNil bool) {
	if g.accept("NIL") {
		return "", true
	}
	return g.string(), false
}

func (g *grammar) number() int64 {
	from := g.pos
	for g.pos < len(g.in) && g.in[g.pos]-'0' < 10 {
		g.pos++
	}
	n, err := strconv.ParseInt(string(g.in[from:g.pos]), 10, 63)
	if err != nil {
		g.fail("want a number")
	}
	return n
}

func (g *grammar) sp() { g.expect(" ") }

func (g *grammar) envelope() {
	g.expect("(")
	g.nstring()
	g.sp()
	g.nstring()
	for range 6 {
		g.sp()
		g.addresses()
	}
	g.sp()
	g.nstring()
	g.sp()
	g.nstring()
	g.expect(")")
}

func (g *grammar) addresses() {
	if g.accept("NIL") {
		return
	}
	g.expect("(")
	inGroup := false
	for first := true; g.err == nil && (first || g.peek() == '('); first = false {
		g.expect("(")
		_, noName := g.nstring()
		g.sp()
		_, noRoute := g.nstring()
		g.sp()
		_, noMailbox := g.nstring()
		g.sp()
		_, noHost := g.nstring()
		g.expect(")")
		switch {
		case noMailbox && noHost:
			if !inGroup || !noName || !noRoute {
				g.fail("end of a group where none can be")
			}
			inGroup = false
		case noMailbox:
			g.fail("host without mailbox")
		case noHost:
			if inGroup || !noName || !noRoute {
				g.fail("start of a group where none can be")
			}
			inGroup = true
		}
	}
	if inGroup {
		g.fail("group without end")
	}
	g.expect(")")
}

func (g *grammar) params() {
	if g.accept("NIL") {
		return
	}
	g.expect("(")
	for first := true; g.err == nil && (first || g.accept(" ")); first = false {
		g.string()
		g.sp()
		g.string()
	}
	g.expect(")")
}

func (g *grammar) tail(extended bool) {
	if !extended {
		return
	}
	g.sp()
	if !g.accept("NIL") {
		g.expect("(")
		g.string()
		g.sp()
		g.params()
		g.expect(")")
	}
	g.sp()
	if !g.accept("NIL") {
		g.expect("(")
		for first := true; g.err == nil && (first || g.accept(" ")); first = false {
			g.string()
		}
		g.expect(")")
	}
	g.sp()
	g.nstring()
}

func (g *grammar) body(extended bool) {
	g.expect("(")
	if g.peek() == '(' {
		for g.err == nil && g.peek() == '(' {
			g.body(extended)
		}
		g.sp()
		g.string()
		if extended {
			g.sp()
			g.params()
		}
		g.tail(extended)
		g.expect(")")
		return
	}
	typ := lower(g.string())
	g.sp()
	subtype := lower(g.string())
	g.sp()
	g.params()
	for range 2 {
		g.sp()
		g.nstring()
	}
	g.sp()
	g.string()
	g.sp()
	g.number()
	switch {
	case typ == "multipart":
		g.fail("multipart without parts")
	case typ == "message" && (subtype == "rfc822" || subtype == "global"):
		g.sp()
		g.envelope()
		g.sp()
		g.body(extended)
		g.sp()
		g.number()
	case typ == "text":
		g.sp()
		g.number()
	}
	if extended {
		g.sp()
		g.nstring()
	}
	g.tail(extended)
	g.expect(")")
}

func (g *grammar) end() error {
	if g.err == nil && g.pos != len(g.in) {
		g.fail("more than was expected")
	}
	return g.err
}

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 32
		}
	}
	return string(b)
}

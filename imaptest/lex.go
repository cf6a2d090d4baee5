package imaptest

import (
	"fmt"
	"strconv"
	"strings"
)

type nodeKind uint8

const (
	kindAtom   nodeKind = iota
	kindString          // quoted or literal
	kindList            // in parentheses
	kindAny             // $_ (patterns only, as are the next two)
	kindRest            // ...
	kindFold            // ~"text", a string in any case
)

// A node is one element of a response or of a pattern for one.
type node struct {
	kind nodeKind
	text string
	kids []node
	gap  bool // a space comes before it
}

// A lexer cuts a response, with its literals inside it, or a pattern.
type lexer struct {
	s       string
	pos     int
	pattern bool
	members map[string][]byte
}

// nodes reads elements up to the closing byte (0: to the end).
func (l *lexer) nodes(end byte) ([]node, error) {
	var list []node
	for {
		gap := false
		if l.pos < len(l.s) && l.s[l.pos] == ' ' {
			gap = true
			l.pos++
		}
		if l.pos == len(l.s) {
			if end != 0 {
				return nil, fmt.Errorf("missing %q", end)
			}
			if gap {
				return nil, fmt.Errorf("space at the end")
			}
			return list, nil
		}
		if l.s[l.pos] == end {
			l.pos++
			if gap {
				return nil, fmt.Errorf("space before %q", end)
			}
			return list, nil
		}
		n, err := l.node(end)
		if err != nil {
			return nil, err
		}
		if n.gap = gap; !gap && len(list) > 0 && (n.kind != kindList || list[len(list)-1].kind != kindList) {
			return nil, fmt.Errorf("no space before %.20q", n.text)
		}
		list = append(list, n)
	}
}

func (l *lexer) node(end byte) (node, error) {
	rest := l.s[l.pos:]
	switch {
	case rest[0] == ' ':
		return node{}, fmt.Errorf("two spaces before %.20q", rest)
	case rest[0] == '(':
		l.pos++
		kids, err := l.nodes(')')
		return node{kind: kindList, kids: kids}, err
	case rest[0] == ')':
		return node{}, fmt.Errorf("stray \")\"")
	case rest[0] == '"':
		text, err := l.quoted()
		return node{kind: kindString, text: text}, err
	case l.pattern && strings.HasPrefix(rest, `~"`):
		l.pos++
		text, err := l.quoted()
		return node{kind: kindFold, text: text}, err
	case rest[0] == '{' || strings.HasPrefix(rest, "~{"):
		text, err := l.literal()
		return node{kind: kindString, text: text}, err
	}
	text, err := l.atom(end)
	n := node{kind: kindAtom, text: text}
	if l.pattern && text == "$_" {
		n.kind = kindAny
	} else if l.pattern && text == "..." {
		n.kind = kindRest
	}
	return n, err
}

// atom reads a word; brackets in it, as of BODY[HEADER.FIELDS (TO)], belong
// to it with all that they hold.
func (l *lexer) atom(end byte) (string, error) {
	from := l.pos
	for l.pos < len(l.s) {
		c := l.s[l.pos]
		if c == end || c == ' ' || c == '(' || c == ')' || c == '"' {
			break
		}
		if c < ' ' || c == 0x7f {
			return "", fmt.Errorf("control byte %#x in %q", c, l.s[from:l.pos])
		}
		l.pos++
		if c == '[' {
			i := strings.IndexByte(l.s[l.pos:], ']')
			if i < 0 {
				return "", fmt.Errorf("missing \"]\"")
			}
			l.pos += i + 1
		}
	}
	if l.pos == from {
		return "", fmt.Errorf("expected a word before %.20q", l.s[from:])
	}
	return l.s[from:l.pos], nil
}

func (l *lexer) quoted() (string, error) {
	var b strings.Builder
	for l.pos++; l.pos < len(l.s); l.pos++ {
		switch c := l.s[l.pos]; c {
		case '"':
			l.pos++
			return b.String(), nil
		case '\r', '\n', 0:
			return "", fmt.Errorf("byte %#x in a quoted string", c)
		case '\\':
			l.pos++
			if l.pos == len(l.s) || (l.s[l.pos] != '\\' && l.s[l.pos] != '"') {
				return "", fmt.Errorf("bad escape in a quoted string")
			}
			b.WriteByte(l.s[l.pos])
		default:
			b.WriteByte(c)
		}
	}
	return "", fmt.Errorf("quoted string without end")
}

func (l *lexer) literal() (string, error) {
	if l.s[l.pos] == '~' {
		l.pos++
	}
	if l.pattern {
		lit, n, err := parseLiteral(l.s[l.pos:], l.members)
		l.pos += n
		return string(lit.data), err
	}
	i := strings.Index(l.s[l.pos:], "}\r\n")
	if i < 0 {
		return "", fmt.Errorf("literal without end")
	}
	n, err := strconv.Atoi(l.s[l.pos+1 : l.pos+i])
	start := l.pos + i + 3
	if err != nil || n < 0 || start+n > len(l.s) {
		return "", fmt.Errorf("bad literal %q", l.s[l.pos:l.pos+i+1])
	}
	l.pos = start + n
	return l.s[start:l.pos], nil
}

// A literal of a script: {@m}, {@m+}, {@m[1:5]}, {"text"} or {"text"+}.
type scriptLiteral struct {
	data    []byte
	nonSync bool
}

// parseLiteral reads a literal at the beginning of s and says how long its
// notation is.
func parseLiteral(s string, members map[string][]byte) (lit scriptLiteral, n int, err error) {
	if strings.HasPrefix(s, `{"`) {
		quoted, err := strconv.QuotedPrefix(s[1:])
		if err != nil {
			return lit, 0, fmt.Errorf("bad literal %.20q", s)
		}
		text, err := strconv.Unquote(quoted)
		lit.data = []byte(text)
		n = 1 + len(quoted)
		if strings.HasPrefix(s[n:], "+") {
			lit.nonSync = true
			n++
		}
		if err != nil || !strings.HasPrefix(s[n:], "}") {
			return lit, 0, fmt.Errorf("bad literal %.20q", s)
		}
		return lit, n + 1, nil
	}
	end := strings.IndexByte(s, '}')
	if !strings.HasPrefix(s, "{@") || end < 0 {
		return lit, 0, fmt.Errorf("bad literal %.20q: want {@member} or {\"text\"}", s)
	}
	name, nonSync := strings.CutSuffix(s[2:end], "+")
	name, slice, sliced := strings.Cut(name, "[")
	data, ok := members[name]
	if !ok {
		return lit, 0, fmt.Errorf("no member %q", name)
	}
	if sliced {
		lo, hi, _ := strings.Cut(strings.TrimSuffix(slice, "]"), ":")
		from, err1 := atoiOr(lo, 0)
		to, err2 := atoiOr(hi, len(data))
		if err1 != nil || err2 != nil || from < 0 || from > to || to > len(data) {
			return lit, 0, fmt.Errorf("bad range [%s of member %s, which has %d bytes", slice, name, len(data))
		}
		data = data[from:to]
	}
	return scriptLiteral{data: data, nonSync: nonSync}, end + 1, nil
}

func atoiOr(s string, otherwise int) (int, error) {
	if s == "" {
		return otherwise, nil
	}
	return strconv.Atoi(s)
}

package imaptest

import (
	"fmt"
	"slices"
	"strings"
)

// A response is one response of the server, cut into its elements.
type response struct {
	raw    string // with its literals, without the last CRLF
	tag    string // "*", "+" or a tag
	status string // OK, NO, BAD, BYE, PREAUTH, or "" for data
	coded  bool   // has a response code
	code   []node
	text   string // of a status or continuation
	nodes  []node // of data
}

// A pattern is what a S: line expects. Its tag is "" for the tagged response
// of the oldest open command.
type pattern struct {
	response
	anyCode bool // $_ after the status: any code or none
}

func isStatus(word string) bool {
	return slices.Contains([]string{"OK", "NO", "BAD", "BYE", "PREAUTH"}, word)
}

func parseResponse(raw string) (*response, error) {
	r := &response{raw: raw}
	l := &lexer{s: raw}
	if err := r.parse(l); err != nil {
		return nil, fmt.Errorf("response outside of the grammar: %v: %.200q", err, raw)
	}
	if r.tag != "+" && r.tag != "*" && r.status == "" {
		return nil, fmt.Errorf("response with a tag but without OK, NO or BAD: %.200q", raw)
	}
	if r.status != "" && r.text == "" {
		return nil, fmt.Errorf("status response without text (RFC 3501 section 9, resp-text): %q", raw)
	}
	return r, nil
}

func parsePattern(text string, members map[string][]byte) (*pattern, error) {
	p := &pattern{}
	l := &lexer{s: text, pattern: true, members: members}
	if first, _, _ := strings.Cut(text, " "); isStatus(first) {
		l.s = " " + text // no tag
	}
	err := p.parse(l)
	p.raw = text
	p.anyCode = p.text == "$_" && !p.coded
	return p, err
}

// parse reads tag, status and the rest. A lexer that begins with a space has
// no tag (patterns only).
func (r *response) parse(l *lexer) error {
	var rest string
	r.tag, rest, _ = strings.Cut(l.s, " ")
	if r.tag == "+" {
		r.text = rest
		return nil
	}
	if r.tag == "" && !l.pattern {
		return fmt.Errorf("no tag")
	}
	word, text, _ := strings.Cut(rest, " ")
	l.pos = len(r.tag) + 1
	if !isStatus(word) {
		var err error
		r.nodes, err = l.nodes(0)
		if err == nil && len(r.nodes) == 0 {
			err = fmt.Errorf("empty response")
		}
		return err
	}
	r.status = word
	r.text = text
	if !strings.HasPrefix(text, "[") {
		return nil
	}
	r.coded = true
	l.pos += len(word) + 2
	var err error
	r.code, err = l.nodes(']')
	if err != nil {
		return fmt.Errorf("response code: %w", err)
	}
	if l.pos < len(l.s) && l.s[l.pos] != ' ' {
		return fmt.Errorf("no space after the response code")
	}
	r.text = strings.TrimPrefix(l.s[l.pos:], " ")
	return nil
}

package imaptest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/tools/txtar"
)

// receive handles the S: lines of one connection at the beginning of steps.
func (r *runner) receive(steps []step) (int, error) {
	if r.update {
		return r.receiveAnew(steps)
	}
	c := r.clients[steps[0].conn]
	switch st := steps[0]; st.op {
	case opUnordered:
		return 1, r.unordered(c, st.block)
	case opSkip:
		if len(steps) < 2 || steps[1].op != opRecv || steps[1].conn != st.conn {
			return 0, fmt.Errorf("\"S: ...\" needs an S: line of the same connection after it")
		}
		for {
			resp, err := c.next()
			if err != nil {
				return 0, err
			}
			if r.matches(c, steps[1], resp) {
				return 2, nil
			}
			if resp.tag != "*" {
				return 0, mismatch(resp)
			}
		}
	case opOptional:
		resp, err := c.next()
		if err != nil {
			return 0, err
		}
		if !r.matches(c, st, resp) {
			c.pushed = append([]*response{resp}, c.pushed...)
		}
		return 1, nil
	default:
		resp, err := c.next()
		if err != nil {
			return 0, err
		}
		if !r.matches(c, st, resp) {
			return 0, mismatch(resp)
		}
		return 1, nil
	}
}

func mismatch(resp *response) error {
	return fmt.Errorf("the server said otherwise: %s", display(resp))
}

// matches compares, and on success counts the response as given.
func (r *runner) matches(c *client, st step, resp *response) bool {
	ok := st.pat.match(resp, r.vars, c.tag())
	if ok {
		c.answered(resp)
	}
	return ok
}

func (r *runner) unordered(c *client, block []step) error {
	left := append([]step(nil), block...)
next:
	for len(left) > 0 {
		resp, err := c.next()
		if err != nil {
			return fmt.Errorf("still expecting %q: %w", left[0].pat.raw, err)
		}
		for i, st := range left {
			if r.matches(c, st, resp) {
				left = append(left[:i], left[i+1:]...)
				continue next
			}
		}
		return fmt.Errorf("none of the lines fits; still expecting %q: %w", left[0].pat.raw, mismatch(resp))
	}
	return nil
}

// receiveAnew reads the responses that the S: lines at the beginning of steps
// stand for. Where they do not match, it notes what is to be written in their
// place: lines that still match keep their form and their variables.
func (r *runner) receiveAnew(steps []step) (int, error) {
	n := 0
	for n < len(steps) && steps[n].conn == steps[0].conn && steps[n].receives() {
		n++
	}
	group := steps[:n]
	c := r.clients[steps[0].conn]
	got := collect(c, group)
	pending, known := slices.Clone(c.pending), maps.Clone(r.vars)
	c.pushed = slices.Clone(got)
	r.update = false
	err := r.receiveAll(group)
	r.update = true
	if err == nil && len(c.pushed) == 0 {
		return n, nil
	}
	c.pushed, c.pending, r.vars = nil, pending, known
	r.changed = true
	r.edits[group[0].line] = r.lines(c, group, got)
	for line := group[0].line + 1; line < r.after(group[n-1]); line++ {
		r.edits[line] = nil
	}
	return n, nil
}

// after is the line behind a step.
func (r *runner) after(st step) int {
	line := st.line + 1
	if st.op == opUnordered {
		for strings.TrimSpace(r.script.lines[line-1]) != "}" {
			line++
		}
		line++
	}
	return line
}

func (r *runner) receiveAll(steps []step) error {
	for len(steps) > 0 {
		n, err := r.receive(steps)
		if err != nil {
			return err
		}
		steps = steps[n:]
	}
	return nil
}

// collect reads up to the last tagged response (or "+") that the group has,
// and then as many untagged ones as it has behind that.
func collect(c *client, group []step) []*response {
	tagged, plain := 0, 0
	for _, st := range group {
		for _, line := range st.flat() {
			switch {
			case line.op == opOptional || line.op == opSkip:
			case line.pat.tag != "*":
				tagged, plain = tagged+1, 0
			default:
				plain++
			}
		}
	}
	var got []*response
	for tagged > 0 || plain > 0 {
		resp, err := c.next()
		if err != nil {
			break
		}
		got = append(got, resp)
		if resp.tag != "*" {
			tagged--
		} else if tagged <= 0 {
			plain--
		}
	}
	return got
}

// lines are what the group becomes.
func (r *runner) lines(c *client, group []step, got []*response) []string {
	var old []step
	for _, st := range group {
		if st.op != opSkip {
			old = append(old, st.flat()...)
		}
	}
	var lines []string
next:
	for _, resp := range got {
		for i, st := range old {
			if r.matches(c, st, resp) {
				lines = append(lines, strings.TrimSpace(r.script.lines[st.line-1]))
				old = append(old[:i:i], old[i+1:]...)
				continue next
			}
		}
		lines = append(lines, r.written(c, resp))
		c.answered(resp)
	}
	return lines
}

func (st step) receives() bool {
	return st.op == opRecv || st.op == opOptional || st.op == opSkip || st.op == opUnordered
}

func (st step) flat() []step {
	if st.op == opUnordered {
		return st.block
	}
	return []step{st}
}

// rewritten is the file with its edits.
func (r *runner) rewritten() []byte {
	var b strings.Builder
	for i, line := range r.script.lines {
		lines, edited := r.edits[i+1]
		if !edited {
			lines = []string{line}
		}
		for _, l := range lines {
			b.WriteString(l + "\n")
		}
	}
	return txtar.Format(&txtar.Archive{Comment: []byte(b.String()), Files: r.script.archive.Files})
}

// written is a response as a line of a transcript.
func (r *runner) written(c *client, resp *response) string {
	text := resp.raw
	if resp.status != "" && resp.tag != "+" {
		code := ""
		if resp.coded {
			i := strings.IndexByte(text, '[')
			code = " " + strings.TrimSuffix(text[i:], " "+resp.text)
		}
		text = resp.status + code
		if resp.tag == "*" {
			text = "* " + text
		}
	}
	for name, data := range r.script.members {
		text = strings.ReplaceAll(text, fmt.Sprintf("{%d}\r\n%s", len(data), data), "{@"+name+"}")
	}
	for {
		i := strings.Index(text, "}\r\n")
		j := strings.LastIndexByte(text[:max(i, 0)], '{')
		if i < 0 || j < 0 {
			break
		}
		size, ok := literalSize([]byte(text[j : i+1]))
		if !ok || i+3+size > len(text) || !utf8.ValidString(text) {
			break
		}
		text = text[:j] + fmt.Sprintf("{%q}", text[i+3:i+3+size]) + text[i+3+size:]
	}
	return c.name + " S: " + text
}

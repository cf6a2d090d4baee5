package imaptest

import (
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
)

// vars are the variables of a running script.
type vars map[string]string

var variable = regexp.MustCompile(`\$([a-z][a-z0-9]*|_)`)

// expand puts values in for variables; one without a value is an error.
func (v vars) expand(text string) (string, error) {
	var missing string
	out := variable.ReplaceAllStringFunc(text, func(name string) string {
		value, ok := v[name[1:]]
		if !ok {
			missing = name
		}
		return value
	})
	if missing != "" {
		return "", fmt.Errorf("%s has no value here", missing)
	}
	return out, nil
}

// match compares a response with a pattern. On success the variables that it
// met first are bound; on failure v is as before.
func (p *pattern) match(r *response, v vars, tag string) bool {
	m := matcher{maps.Clone(v)}
	m.vars["tag"] = tag
	if !m.response(p, r, tag) {
		return false
	}
	delete(m.vars, "tag")
	maps.Copy(v, m.vars)
	return true
}

type matcher struct{ vars vars }

func (m *matcher) response(p *pattern, r *response, tag string) bool {
	want := p.tag
	if want == "" {
		want = tag
	}
	if want != r.tag || p.status != r.status {
		return false
	}
	if p.tag == "+" {
		return m.text(p.text, r.text)
	}
	if p.status == "" {
		return m.data(p.nodes, r.nodes)
	}
	if !m.text(p.text, r.text) {
		return false
	}
	if p.anyCode {
		return true
	}
	return p.coded == r.coded && (!p.coded || m.code(p.code, r.code))
}

// text holds a pattern's free text against the server's: only ~"part" asks
// for something.
func (m *matcher) text(want, got string) bool {
	part, ok := strings.CutPrefix(want, `~"`)
	if !ok {
		return true
	}
	part = strings.TrimSuffix(part, `"`)
	return strings.Contains(strings.ToLower(got), strings.ToLower(part))
}

func (m *matcher) code(want, got []node) bool {
	if len(want) == 2 && len(got) == 2 && isWord(want[0], "PERMANENTFLAGS") {
		return m.node(want[0], got[0]) && m.set(want[1], got[1])
	}
	if len(want) > 0 && isWord(want[0], "CAPABILITY") {
		return len(got) > 0 && m.node(want[0], got[0]) && m.anyOrder(want[1:], got[1:])
	}
	return m.list(want, got)
}

// data compares an untagged response, whose parts come in a fixed order
// except where RFC 3501 and RFC 9051 leave it free.
func (m *matcher) data(want, got []node) bool {
	if len(want) < 2 || len(got) < 2 {
		return m.list(want, got)
	}
	head := func(n int) bool { return len(got) >= n && m.list(want[:n], got[:n]) }
	switch {
	case len(want) == 3 && isWord(want[1], "FETCH"):
		return head(2) && len(got) == 3 && m.pairs(want[2], got[2])
	case len(want) == 3 && isWord(want[0], "STATUS"):
		return head(2) && len(got) == 3 && m.pairs(want[2], got[2])
	case isWord(want[0], "FLAGS") && len(want) == 2:
		return head(1) && len(got) == 2 && m.set(want[1], got[1])
	case isWord(want[0], "CAPABILITY"), isWord(want[0], "ENABLED"):
		return head(1) && m.anyOrder(want[1:], got[1:])
	case isWord(want[0], "LIST"), isWord(want[0], "LSUB"):
		return head(1) && m.set(want[1], got[1]) && m.list(want[2:], got[2:])
	case isWord(want[0], "ESEARCH"):
		n := 1
		for n < len(want) && (want[n].kind == kindList || isWord(want[n], "UID")) {
			n++
		}
		return head(n) && m.pairs(node{kind: kindList, kids: want[n:]}, node{kind: kindList, kids: got[n:]})
	}
	return m.list(want, got)
}

func isWord(n node, word string) bool { return n.kind == kindAtom && n.text == word }

// list compares elements in their order.
func (m *matcher) list(want, got []node) bool {
	for i, w := range want {
		if w.kind == kindRest {
			return true
		}
		if i >= len(got) || w.gap != got[i].gap || !m.node(w, got[i]) {
			return false
		}
	}
	return len(want) == len(got)
}

// set compares two lists without regard to order.
func (m *matcher) set(want, got node) bool {
	if want.kind != kindList || got.kind != kindList {
		return m.node(want, got)
	}
	return m.anyOrder(want.kids, got.kids)
}

// anyOrder pairs what has no variables first, so that a variable takes what is
// left over.
func (m *matcher) anyOrder(want, got []node) bool {
	left := append([]node(nil), got...)
	rest := false
	take := func(w node) bool {
		for i, g := range left {
			if m.node(w, g) {
				left = append(left[:i], left[i+1:]...)
				return true
			}
		}
		return false
	}
	for _, loose := range []bool{false, true} {
		for _, w := range want {
			if w.kind == kindRest {
				rest = true
				continue
			}
			isLoose := w.kind == kindAny || strings.Contains(w.text, "$")
			if isLoose == loose && !take(w) {
				return false
			}
		}
	}
	return rest || len(left) == 0
}

// pairs compares lists of names and values by name. The name of a FETCH item
// is without regard to case.
func (m *matcher) pairs(want, got node) bool {
	if want.kind != kindList || got.kind != kindList {
		return m.node(want, got)
	}
	if len(got.kids)%2 != 0 {
		return false
	}
	w, g := want.kids, got.kids
	rest := len(w) > 0 && w[len(w)-1].kind == kindRest
	if rest {
		w = w[:len(w)-1]
	}
	if len(w)%2 != 0 || (!rest && len(w) != len(g)) {
		return false
	}
	used := make([]bool, len(g)/2)
	for i := 0; i < len(w); i += 2 {
		found := false
		for j := 0; j < len(g) && !found; j += 2 {
			if !used[j/2] && (w[i].kind == kindAny || strings.EqualFold(w[i].text, g[j].text)) {
				used[j/2], found = true, true
				if !m.value(w[i].text, w[i+1], g[j+1]) {
					return false
				}
			}
		}
		if !found {
			return false
		}
	}
	return true
}

func (m *matcher) value(name string, want, got node) bool {
	if want.gap != got.gap {
		return false
	}
	if strings.EqualFold(name, "FLAGS") {
		return m.set(want, got)
	}
	return m.node(want, got)
}

func (m *matcher) node(want, got node) bool {
	switch want.kind {
	case kindAny:
		return true
	case kindFold:
		return got.kind == kindString && strings.EqualFold(want.text, got.text)
	case kindString:
		return got.kind == kindString && want.text == got.text
	case kindList:
		return got.kind == kindList && m.list(want.kids, got.kids)
	case kindRest:
		return false
	}
	if name, ok := strings.CutPrefix(want.text, "$"); ok && variable.FindString(want.text) == want.text {
		return m.bind(name, flat(got))
	}
	if got.kind == kindList {
		return false
	}
	if got.kind == kindString && want.text == "NIL" {
		return false
	}
	if want.text == got.text || strings.HasPrefix(want.text, `\`) && strings.EqualFold(want.text, got.text) {
		return true // flags and attributes have no case
	}
	return got.kind == kindAtom && (m.composite(want.text, got.text) || sameNumbers(want.text, got.text))
}

func (m *matcher) bind(name, value string) bool {
	if name == "_" {
		return true
	}
	if old, ok := m.vars[name]; ok {
		return old == value
	}
	m.vars[name] = value
	return true
}

// composite matches a word with variables inside, such as 1:$last.
func (m *matcher) composite(want, got string) bool {
	places := variable.FindAllStringIndex(want, -1)
	if places == nil {
		return false
	}
	var re strings.Builder
	re.WriteString("^")
	at := 0
	for _, p := range places {
		re.WriteString(regexp.QuoteMeta(want[at:p[0]]) + "([^:,]+)")
		at = p[1]
	}
	re.WriteString(regexp.QuoteMeta(want[at:]) + "$")
	values := regexp.MustCompile(re.String()).FindStringSubmatch(got)
	if values == nil {
		return false
	}
	for i, p := range places {
		if !m.bind(want[p[0]+1:p[1]], values[i+1]) {
			return false
		}
	}
	return true
}

// flat writes a node as the value of a variable: strings as their bytes.
func flat(n node) string {
	if n.kind != kindList {
		return n.text
	}
	var b strings.Builder
	b.WriteByte('(')
	for _, k := range n.kids {
		if k.gap {
			b.WriteByte(' ')
		}
		b.WriteString(flat(k))
	}
	b.WriteByte(')')
	return b.String()
}

// sameNumbers says whether two sets such as 1:3 and 1,2,3 name the same
// numbers in the same order.
func sameNumbers(a, b string) bool {
	x, ok := numbers(a)
	if !ok {
		return false
	}
	y, ok := numbers(b)
	if !ok || len(x) != len(y) {
		return false
	}
	for i := range x {
		if x[i] != y[i] {
			return false
		}
	}
	return true
}

// numbers lists a small set of numbers; it gives up on large ones.
func numbers(s string) ([]uint64, bool) {
	var list []uint64
	for part := range strings.SplitSeq(s, ",") {
		lo, hi, isRange := strings.Cut(part, ":")
		from, err := strconv.ParseUint(lo, 10, 32)
		if err != nil {
			return nil, false
		}
		to := from
		if isRange {
			if to, err = strconv.ParseUint(hi, 10, 32); err != nil {
				return nil, false
			}
		}
		from, to = min(from, to), max(from, to)
		if to-from > 10000 {
			return nil, false
		}
		for n := from; n <= to; n++ {
			list = append(list, n)
		}
	}
	return list, true
}

// relation evaluates "$a < $b + 1".
func (v vars) relation(text string) error {
	f := strings.Fields(text)
	if len(f) != 3 && (len(f) != 5 || f[3] != "+") {
		return fmt.Errorf("a relation is \"? $a < $b\" or \"? $a == $b + 1\", not %q", text)
	}
	left, err := v.expand(f[0])
	if err != nil {
		return err
	}
	right, err := v.expand(f[2])
	if err != nil {
		return err
	}
	if len(f) == 3 && (f[1] == "==" || f[1] == "!=") {
		if (left == right) != (f[1] == "==") {
			return fmt.Errorf("%s does not hold: %q, %q", text, left, right)
		}
		return nil
	}
	a, err1 := strconv.ParseUint(left, 10, 64)
	b, err2 := strconv.ParseUint(right, 10, 64)
	if err1 != nil || err2 != nil {
		return fmt.Errorf("%s: not numbers: %q, %q", text, left, right)
	}
	if len(f) == 5 {
		n, err := strconv.ParseUint(f[4], 10, 64)
		if err != nil {
			return fmt.Errorf("%s: %v", text, err)
		}
		b += n
	}
	holds := map[string]bool{"<": a < b, ">": a > b, "==": a == b, "!=": a != b, "<=": a <= b, ">=": a >= b}
	ok, known := holds[f[1]]
	if !known || !ok {
		return fmt.Errorf("%s does not hold: %d, %d", text, a, b)
	}
	return nil
}

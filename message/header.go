package message

import "bytes"

// headerLine is one field of a header with its continuation lines, or a line
// that is no field.
type headerLine struct {
	raw   []byte // with the line end
	name  []byte // nil where it is no field
	value []byte // behind the colon, folded as it came, without the last line end
}

// nextHeaderLine takes the first field off h. It returns false at the empty
// line that ends a header, or at the end.
func nextHeaderLine(h []byte) (l headerLine, rest []byte, ok bool) {
	if len(h) == 0 || isEmptyLine(h) {
		return l, h, false
	}
	end := 0
	for {
		i := bytes.IndexByte(h[end:], '\n')
		if i < 0 {
			end = len(h)
			break
		}
		end += i + 1
		if end == len(h) || h[end] != ' ' && h[end] != '\t' {
			break
		}
	}
	l.raw = h[:end]
	if name, value, ok := cutField(l.raw); ok {
		l.name, l.value = name, trimLineEnd(value)
	}
	return l, h[end:], true
}

// cutField divides a field at the colon behind its name; ok is false for what is no
// field.
func cutField(b []byte) (name, value []byte, ok bool) {
	n := 0
	for n < len(b) && isNameOctet(b[n]) && b[n] != ':' {
		n++
	}
	colon := n
	for colon < len(b) && (b[colon] == ' ' || b[colon] == '\t') {
		colon++
	}
	if n == 0 || colon == len(b) || b[colon] != ':' {
		return nil, nil, false
	}
	return b[:n], b[colon+1:], true
}

// isEmptyLine tells whether h begins with an empty line.
func isEmptyLine(h []byte) bool {
	return h[0] == '\n' || h[0] == '\r' && len(h) > 1 && h[1] == '\n'
}

func isFieldName(b []byte) bool {
	for _, c := range b {
		if !isNameOctet(c) {
			return false
		}
	}
	return len(b) > 0
}

func isNameOctet(c byte) bool { return ' ' < c && c < 0x7F }

// trimLineEnd takes one line end off.
func trimLineEnd(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
		if n > 1 && b[n-2] == '\r' {
			b = b[:n-2]
		}
	}
	return b
}

// unfolded is memory for field values without their folds, which lie one behind the
// other in it until it is emptied.
type unfolded []byte

// unfold returns a field value without line ends and without the white space
// around it. It shares memory with v where v is not folded.
func (u *unfolded) unfold(v []byte) []byte {
	v = trimSpace(v)
	i := bytes.IndexByte(v, '\n')
	if i < 0 {
		return v
	}
	out, start := *u, len(*u)
	for ; i >= 0; i = bytes.IndexByte(v, '\n') {
		out = append(out, trimLineEnd(v[:i+1])...)
		v = v[i+1:]
	}
	*u = append(out, v...)
	return trimSpace((*u)[start:len(*u):len(*u)])
}

// put returns s in memory of u.
func (u *unfolded) put(s string) []byte {
	start := len(*u)
	*u = append(*u, s...)
	return (*u)[start:len(*u):len(*u)]
}

// trimSpace takes off white space of header fields. The result is never nil,
// so that an empty field differs from an absent one.
func trimSpace(b []byte) []byte {
	i, j := 0, len(b)
	for i < j && isSpace(b[i]) {
		i++
	}
	for i < j && isSpace(b[j-1]) {
		j--
	}
	if b == nil {
		return []byte{}
	}
	return b[i:j]
}

// trimBlanks takes spaces and tabs off the end.
func trimBlanks(b []byte) []byte {
	n := len(b)
	for n > 0 && (b[n-1] == ' ' || b[n-1] == '\t') {
		n--
	}
	return b[:n]
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// lowerName writes a field or type name in lower case into buf, for a switch;
// it returns "" for one that is longer.
func lowerName(buf *[32]byte, name []byte) []byte {
	if len(name) > len(buf) {
		return nil
	}
	for i, c := range name {
		if c-'A' < 26 {
			c += 'a' - 'A'
		}
		buf[i] = c
	}
	return buf[:len(name)]
}

// FilterHeader appends to dst the fields of header whose names are among
// names, in any case, or, where not is set, those that are not: what
// HEADER.FIELDS and HEADER.FIELDS.NOT ask for (RFC 9051 section 6.4.5.1).
//
// header is what [Digest.Section] finds for HEADER. Fields come whole, with
// the folds and line ends that they have, in the order of the message. Lines
// that are no fields belong to HEADER.FIELDS.NOT. The empty line at the end of
// header follows, unless header has none.
func FilterHeader(dst, header []byte, names []string, not bool) []byte {
	var many *nameSet
	if len(names) > fewNames {
		many = newNameSet(names)
	}
	for {
		l, rest, ok := nextHeaderLine(header)
		if !ok {
			return append(dst, rest...)
		}
		var named bool
		if many != nil {
			named = many.has(l.name)
		} else {
			named = hasName(names, l.name)
		}
		if named != not {
			dst = append(dst, l.raw...)
		}
		header = rest
	}
}

func hasName(names []string, name []byte) bool {
	for _, n := range names {
		if len(n) == len(name) && len(n) > 0 && equalFoldASCII(n, name) {
			return true
		}
	}
	return false
}

// fewNames is how many names are compared one by one. Clients ask for ten or so;
// thousands of them, times the fields of a header, would be work without end.
const fewNames = 32

// nameSet is many names, in lower case.
type nameSet struct {
	names map[string]struct{}
	lower []byte
}

func newNameSet(names []string) *nameSet {
	set := &nameSet{names: make(map[string]struct{}, len(names))}
	for _, n := range names {
		set.lower = appendLower(set.lower[:0], n)
		set.names[string(set.lower)] = struct{}{}
	}
	delete(set.names, "") // no field has no name
	return set
}

func (s *nameSet) has(name []byte) bool {
	s.lower = appendLower(s.lower[:0], name)
	_, ok := s.names[string(s.lower)]
	return ok
}

// appendLower appends a name with its ASCII letters in lower case.
func appendLower[T string | []byte](dst []byte, name T) []byte {
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

func equalFoldASCII(a string, b []byte) bool {
	for i := range b {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z' {
			return false
		}
	}
	return true
}

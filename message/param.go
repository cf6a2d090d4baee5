package message

import (
	"bytes"
	"strings"
)

// param is a parameter of Content-Type or Content-Disposition.
type param struct {
	name, value []byte
	joined      bool // made of several by joinContinuations
}

// maxParams is how many parameters of one field are looked at.
const maxParams = 256

// splitParams reads what is before the first semicolon of an unfolded field
// value, and the parameters behind it (RFC 2045 section 5.1), which it appends to
// params. It forgives missing semicolons, missing quotes and spaces where none may be.
func splitParams(params []param, v []byte) (value []byte, _ []param) {
	s := paramScanner{src: v}
	value = s.token(endsValue)
	for len(params) < maxParams {
		s.skipSpace()
		if len(s.src) == 0 {
			break
		}
		if s.src[0] == ';' {
			s.src = s.src[1:]
			continue
		}
		name := s.token(endsName)
		s.skipSpace()
		if len(s.src) == 0 || s.src[0] != '=' {
			if len(name) == 0 && len(s.src) > 0 && s.src[0] != ';' {
				s.src = s.src[1:]
			}
			continue // a word without a value
		}
		s.src = s.src[1:]
		s.skipSpace()
		if val := s.value(); len(name) > 0 {
			params = append(params, param{name: name, value: val})
		}
	}
	return value, params
}

type paramScanner struct{ src []byte }

// skipSpace passes white space and comments.
func (s *paramScanner) skipSpace() {
	depth := 0
	for i := 0; i < len(s.src); i++ {
		switch c := s.src[i]; {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case c == '\\' && depth > 0:
			i++
		case depth > 0 || isSpace(c):
		default:
			s.src = s.src[i:]
			return
		}
	}
	s.src = nil
}

// What ends a token: of a value with parameters, of a parameter's name, and of a list.
var (
	endsValue = setOf("; \t(")
	endsName  = setOf("=; \t(")
	endsTag   = setOf("(;")
	endsWord  = setOf(", \t(")
)

// charSet is a set of characters.
type charSet [256]bool

func setOf(chars string) *charSet {
	set := new(charSet)
	for i := range len(chars) {
		set[chars[i]] = true
	}
	return set
}

// token reads up to one of the given characters, without spaces around it.
func (s *paramScanner) token(stop *charSet) []byte {
	s.skipSpace()
	i := 0
	for i < len(s.src) && !stop[s.src[i]] {
		i++
	}
	t := s.src[:i:i]
	s.src = s.src[i:]
	return trimSpace(t)
}

// value reads a parameter value: a quoted string, or what is up to the next
// semicolon, comment or parameter.
func (s *paramScanner) value() []byte {
	if len(s.src) == 0 {
		return []byte{}
	}
	if s.src[0] == '"' {
		return s.quoted()
	}
	end := bytes.IndexByte(s.src, ';')
	if end < 0 {
		end = len(s.src)
	}
	v := s.src[:end]
	for i := 1; i < len(v); i++ {
		if isSpace(v[i-1]) && (v[i] == '(' || startsParam(v[i:])) {
			v = v[:i-1]
			break
		}
	}
	s.src = s.src[len(v):]
	return trimSpace(v[:len(v):len(v)])
}

// startsParam tells whether b begins with a word and "=".
func startsParam(b []byte) bool {
	for i, c := range b {
		switch {
		case c == '=':
			return i > 0 && i+1 < len(b)
		case isSpace(c) || i > 30:
			return false
		case c-'a' < 26 || c-'A' < 26 || c == '-' || c == '*' || c-'0' < 10:
		default:
			return false
		}
	}
	return false
}

func (s *paramScanner) quoted() []byte {
	src := s.src[1:]
	plain := 0
	for plain < len(src) && src[plain] != '"' && src[plain] != '\\' {
		plain++
	}
	if plain < len(src) && src[plain] == '"' {
		s.src = src[plain+1:]
		return src[:plain:plain]
	}
	out := append([]byte{}, src[:plain]...)
	for i := plain; i < len(src); i++ {
		switch c := src[i]; {
		case c == '"':
			s.src = src[i+1:]
			return out
		case c == '\\' && i+1 < len(src):
			i++
			out = append(out, src[i])
		default:
			out = append(out, c)
		}
	}
	s.src = nil
	return out
}

// segment is a parameter name apart: name*3* is the extended part 3 of name.
func (p param) segment() (base []byte, index int, extended bool) {
	name := p.name
	if n := len(name); n > 1 && name[n-1] == '*' {
		name, extended = name[:n-1], true
	}
	i := bytes.LastIndexByte(name, '*')
	if i <= 0 || i+1 == len(name) || len(name)-i > 4 {
		return name, -1, extended
	}
	for _, c := range name[i+1:] {
		if c < '0' || c > '9' {
			return name, -1, extended
		}
		index = index*10 + int(c-'0')
	}
	return name[:i], index, extended
}

// joinContinuations makes one parameter of those that RFC 2231 section 3
// divides. Segments without a first one stay as they are.
func joinContinuations(params []param) []param {
	split := false
	for _, p := range params {
		split = split || bytes.IndexByte(p.name, '*') >= 0
	}
	if !split {
		return params
	}
	out := params[:0:0]
	used := make([]bool, len(params))
	for i, p := range params {
		if used[i] {
			continue
		}
		base, index, _ := p.segment()
		if index < 0 {
			out = append(out, p)
			continue
		}
		segments := findSegments(params, used, base)
		if len(segments) == 0 {
			out = append(out, p)
			continue
		}
		joined := joinSegments(params, segments, base)
		for _, s := range segments {
			used[s] = true
		}
		out = append(out, joined)
	}
	return out
}

// findSegments returns the places of base*0, base*1 and so on.
func findSegments(params []param, used []bool, base []byte) []int {
	var at [maxParams]int
	for i := len(params) - 1; i >= 0; i-- { // the first of equal ones counts
		b, index, _ := params[i].segment()
		if !used[i] && 0 <= index && index < len(at) && bytes.EqualFold(b, base) {
			at[index] = i + 1
		}
	}
	var found []int
	for _, i := range at {
		if i == 0 {
			break
		}
		found = append(found, i-1)
	}
	return found
}

func joinSegments(params []param, segments []int, base []byte) param {
	extended := false
	for _, i := range segments {
		_, _, ext := params[i].segment()
		extended = extended || ext
	}
	joined := param{name: bytes.Clone(base), value: []byte{}, joined: true}
	if extended {
		joined.name = append(joined.name, '*')
	}
	for n, i := range segments {
		_, _, ext := params[i].segment()
		switch {
		case ext || !extended:
			joined.value = append(joined.value, params[i].value...)
		default:
			if n == 0 {
				joined.value = append(joined.value, "''"...)
			}
			joined.value = appendPercent(joined.value, params[i].value)
		}
	}
	return joined
}

// appendPercent writes v as extended-other-values of RFC 2231.
func appendPercent(dst, v []byte) []byte {
	const hex = "0123456789ABCDEF"
	for _, c := range v {
		if c <= ' ' || c >= 0x7F || strings.IndexByte(`*'%()<>@,;:\"/[]?=`, c) >= 0 {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

// findParam returns the value of the first parameter of that name (in lower
// case), or nil.
func findParam(params []param, name string) []byte {
	for _, p := range params {
		if len(p.name) == len(name) && equalFoldASCII(name, p.name) {
			return p.value
		}
	}
	return nil
}

// paramValue is [findParam] for a parameter that may be extended; it is
// decoded then.
func paramValue(params []param, name string) []byte {
	if v := findParam(params, name); v != nil {
		return v
	}
	if v := findParam(params, name+"*"); v != nil {
		return decodeExtended(nil, v)
	}
	return nil
}

// appendParams appends a parameter list, or NIL for none. A text part's gets
// the default charset where it has none.
func appendParams(dst []byte, params []param, text bool) []byte {
	start := len(dst)
	for _, p := range params {
		dst = appendString(append(dst, ' '), p.name)
		dst = appendString(append(dst, ' '), p.value)
	}
	if text && paramValue(params, "charset") == nil {
		dst = append(dst, ` "charset" "us-ascii"`...)
	}
	if len(dst) == start {
		return append(dst, "NIL"...)
	}
	dst[start] = '('
	return append(dst, ')')
}

package message

import "bytes"

// maxSubject is how much of a subject is looked at for the base subject.
const maxSubject = 4096

// baseSubject returns the base subject of a Subject field (RFC 5256 section
// 2.1, with the ABNF of section 5), and whether the subject marks a reply or
// a forward. It is valid until p.words is used again.
func (p *parser) baseSubject(v []byte) (base []byte, replyOrForward bool) {
	p.words = decodeWords(p.words[:0], p.values.unfold(v[:min(len(v), maxSubject)]))
	s := singleSpaces(p.words)
	for {
		var more bool
		s, more = trimTrailer(s) // (2)
		replyOrForward = replyOrForward || more
		s, more = trimLeader(s) // (3) to (5)
		replyOrForward = replyOrForward || more
		if len(s) < 6 || !bytes.EqualFold(s[:5], []byte("[fwd:")) || s[len(s)-1] != ']' {
			return s, replyOrForward
		}
		s = s[5 : len(s)-1] // (6)
		replyOrForward = true
	}
}

// singleSpaces makes one space of all white space, in place.
func singleSpaces(b []byte) []byte {
	out := b[:0]
	for _, c := range b {
		if isSpace(c) {
			if n := len(out); n > 0 && out[n-1] == ' ' {
				continue
			}
			c = ' '
		}
		out = append(out, c)
	}
	return out
}

// trimTrailer removes subj-trailer: "(fwd)" and white space.
func trimTrailer(s []byte) (_ []byte, found bool) {
	for {
		s = bytes.TrimRight(s, " ")
		n := len(s) - len("(fwd)")
		if n < 0 || !bytes.EqualFold(s[n:], []byte("(fwd)")) {
			return s, found
		}
		s, found = s[:n], true
	}
}

// trimLeader removes subj-leader and subj-blob, as long as they come and
// something is left behind a blob.
func trimLeader(s []byte) (_ []byte, found bool) {
	for {
		s = bytes.TrimLeft(s, " ")
		rest, last := s, s
		for {
			n := blobLen(rest)
			if n == 0 {
				break
			}
			last, rest = rest, rest[n:]
		}
		n := refwdLen(rest)
		switch {
		case n > 0:
			s, found = rest[n:], true
			continue
		case len(rest) == 0: // nothing but blobs: the last one is the base
			return last, found
		}
		return rest, found
	}
}

// blobLen returns the length of a subj-blob at the start of s, or 0.
func blobLen(s []byte) int {
	if len(s) == 0 || s[0] != '[' {
		return 0
	}
	i := bytes.IndexAny(s[1:], "[]")
	if i < 0 || s[i+1] != ']' {
		return 0
	}
	n := i + 2
	for n < len(s) && s[n] == ' ' {
		n++
	}
	return n
}

// refwdLen returns the length of a subj-refwd at the start of s, or 0.
func refwdLen(s []byte) int {
	for _, word := range [...]string{"re", "fwd", "fw"} {
		if len(s) <= len(word) || !equalFoldASCII(word, s[:len(word)]) {
			continue
		}
		n := len(word)
		for n < len(s) && s[n] == ' ' {
			n++
		}
		n += blobLen(s[n:])
		if n < len(s) && s[n] == ':' {
			return n + 1
		}
	}
	return 0
}

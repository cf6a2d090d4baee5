package message

// SectionKind says what of a part a [Section] names.
type SectionKind uint8

// Kinds of section (RFC 9051 section 6.4.5, section-spec).
const (
	SectionBody   SectionKind = iota // BODY[], BODY[1.2]
	SectionHeader                    // HEADER, and HEADER.FIELDS before [FilterHeader]
	SectionText                      // TEXT
	SectionMIME                      // MIME, only with a path
)

// Section is a section specification: BODY[2.1.HEADER] has the path 2, 1 and
// the kind SectionHeader.
type Section struct {
	Path []int // part numbers, from 1; empty for the message itself
	Kind SectionKind
}

// Range is a range of octets, End exclusive.
type Range struct{ Start, End int64 }

// Len returns the number of octets in r.
func (r Range) Len() int64 { return r.End - r.Start }

// Section finds the octets of BODY[s]. It returns false for what does not
// exist: a part number out of range, HEADER or TEXT of a part that is not a
// message, MIME without a path. The answer to a FETCH of that is NIL.
//
// A part that is not multipart has a part 1 where it is a message (or holds
// one): BODY[1] of a plain message is its body, BODY[1.MIME] its header.
func (d *Digest) Section(s Section) (Range, bool) {
	if len(s.Path) == 0 {
		r := &d.Root
		switch s.Kind {
		case SectionBody:
			return Range{r.HeaderStart, r.End}, true
		case SectionHeader:
			return Range{r.HeaderStart, r.BodyStart}, true
		case SectionText:
			return Range{r.BodyStart, r.End}, true
		}
		return Range{}, false
	}
	p, ok := d.Part(s.Path)
	if !ok {
		return Range{}, false
	}
	switch s.Kind {
	case SectionBody:
		return Range{p.BodyStart, p.End}, true
	case SectionMIME:
		return Range{p.HeaderStart, p.BodyStart}, true
	}
	m := p.Message
	if m == nil {
		return Range{}, false
	}
	if s.Kind == SectionHeader {
		return Range{m.HeaderStart, m.BodyStart}, true
	}
	return Range{m.BodyStart, m.End}, true
}

// Part finds the part with the given number (RFC 9051 section 6.4.5.1); an
// empty path is the message itself. The part belongs to d.
func (d *Digest) Part(path []int) (*Part, bool) {
	p := &d.Root
	entity := true // p is a message, so that its body is part 1 where it has no parts
	for _, n := range path {
		if !entity && p.Message != nil {
			p, entity = p.Message, true
		}
		switch {
		case n < 1:
			return nil, false
		case p.IsMultipart():
			if n > len(p.Children) {
				return nil, false
			}
			p = &p.Children[n-1]
		case !entity || n != 1:
			return nil, false
		}
		entity = false
	}
	return p, true
}

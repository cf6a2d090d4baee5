package message

import (
	"bytes"
	"io"
)

// Parse reads a message to its end, in one pass and in memory that lim
// bounds, and digests it.
//
// Only errors of r are returned. The results share no memory with what r
// returned. The Digest of a message that holds NUL octets (HasNUL) is that of
// the stored octets; what is served then, and its digest, are those of
// [ServedReader] and [ParseServed].
func Parse(r io.Reader, lim Limits) (*Digest, *Text, error) {
	return NewParser(lim).Parse(r)
}

// Parser digests one message after another, like [Parse], and keeps its
// buffers in between: some 100 kB after ordinary mail, and what Limits allow
// at most. A Text that it returns is valid until it is used again. It must not
// be used by two goroutines at a time.
type Parser struct {
	lim    Limits
	parser parser
	keeper keeper
	buf    []byte // of readBuffer octets
	spare  Digest // where none is wanted
}

// NewParser returns a parser with these limits.
func NewParser(lim Limits) *Parser {
	return &Parser{lim: lim.withDefaults(), buf: make([]byte, readBuffer)}
}

// Parse is the function [Parse], with the limits of p. It may be called again
// after an error.
func (p *Parser) Parse(r io.Reader) (*Digest, *Text, error) {
	d, err := p.parse(r, p.lim.TextBytes)
	if err != nil {
		return nil, nil, err
	}
	return d, p.keeper.text(d.Truncated), nil
}

// parse digests a message and keeps some of its text: at most so many octets.
func (p *Parser) parse(r io.Reader, text int64) (*Digest, error) {
	q := &p.parser
	q.begin(new(Digest), p.lim, p.keeper.begin(text))
	if err := q.read(r, p.buf); err != nil {
		return nil, err
	}
	q.d.Preview = q.text.preview.result()
	return q.digest(), nil
}

// node is a part while the message is being read.
type node struct {
	Part
	kind     nodeKind
	boundary []byte // of a multipart that is open
	open     bool   // delimiters of boundary count
	kids     []*node
	message  *node
	startLF  int64 // line feeds before the body
	nul      bool  // the body, without that of parts, holds NUL

	wire wireFields
}

type nodeKind uint8

const (
	nodeLeaf nodeKind = iota
	nodeMultipart
	nodeMessage
)

// parser is the state of one pass over a message.
type parser struct {
	lim  Limits
	d    *Digest
	text *textCollector

	off     int64 // of the line or piece of a line that is looked at
	lf      int64 // line feeds before it
	eol     int64 // length of the line end before it
	endCR   bool  // the last piece of a line ended in CR
	atStart bool  // what comes next begins a line

	open     int // multiparts of the stack whose delimiters count
	inHeader bool
	full     bool // no more parts
	blank    bool // the last line of the header was white space
	noWire   bool // only the text is wanted, or where the parts are

	parts      int
	headerLeft int64
	fieldsLeft int
	addrsLeft  int
	fields     headerFields

	parserRoom
}

// parserRoom is memory that one message after another is parsed in.
type parserRoom struct {
	stack []*node // from the root to the part that is being read
	nodes []*node // of the parts of the message, in order of their headers
	hdr   []byte  // what is kept of the header that is being read
	wire  []byte  // rendered pieces of BODYSTRUCTURE, found by wireFields
	kept  Fields  // of the message

	// For a moment:
	values    unfolded // of the header that is digested
	params    []param
	addresses addressParser
	words     []byte
	folded    []byte
	out       []byte
}

// begin readies the parser for another message, of which d is to be the digest.
func (p *parser) begin(d *Digest, lim Limits, text *textCollector) {
	*d = Digest{Version: Version}
	*p = parser{
		lim: lim, d: d, text: text,
		headerLeft: lim.HeaderBytes, fieldsLeft: lim.HeaderFields, addrsLeft: lim.Addresses,
		atStart: true, parserRoom: p.parserRoom,
	}
	if cap(p.nodes) > roomForNodes {
		p.nodes = nil
	}
	p.stack, p.nodes, p.wire, p.kept = p.stack[:0], p.nodes[:0], p.wire[:0], p.kept[:0]
	p.push(p.newNode())
}

// roomForNodes is how many nodes are kept for the next message at most.
const roomForNodes = 64

// newNode returns a node with the memory of one of an earlier message, if there is any.
func (p *parser) newNode() *node {
	var n *node
	if i := len(p.nodes); i < cap(p.nodes) {
		n = p.nodes[:i+1][i]
	}
	if n == nil {
		n = new(node)
	}
	*n = node{boundary: n.boundary[:0], kids: n.kids[:0]}
	p.nodes = append(p.nodes, n)
	return n
}

// push begins a part.
func (p *parser) push(n *node) {
	n.HeaderStart = p.off
	p.stack = append(p.stack, n)
	p.parts++
	p.full = p.full || p.parts >= p.lim.Parts
	p.inHeader, p.hdr, p.blank = true, p.hdr[:0], false
}

func (p *parser) top() *node { return p.stack[len(p.stack)-1] }

// line takes a line, or a piece of one; start and end say whether the piece
// begins and ends it.
func (p *parser) line(b []byte, start, end bool) {
	p.noteNUL(b)
	switch {
	case p.open > 0 && start && end && len(b) > 2 && b[0] == '-' && b[1] == '-' && p.delimiter(b):
		p.advance(b)
		if p.inHeader { // of the part that begins behind the line
			p.top().HeaderStart = p.off
		}
		return
	case p.inHeader:
		p.headerLine(b, start, end)
	default:
		p.body(b)
	}
}

// body takes lines of a body, or a piece of one.
func (p *parser) body(b []byte) {
	p.text.body(b)
	p.advance(b)
}

// noteNUL notes in whose body NULs are, if there are any.
func (p *parser) noteNUL(b []byte) {
	if top := p.top(); p.d.HasNUL && !p.inHeader && !top.nul {
		top.nul = bytes.IndexByte(b, 0) >= 0
	}
}

// headerLine takes a line of a header. A header ends at an empty line, or at
// a line of white space behind which no field follows: by RFC 5322 that is a
// fold, but people mean it as an empty line.
func (p *parser) headerLine(b []byte, start, end bool) {
	if start && p.blank && !isSpace(b[0]) {
		if _, _, field := cutField(b); !field {
			p.blank = false
			p.endHeader()
			p.line(b, start, end)
			return
		}
	}
	p.blank = start && end && isSpace(b[0]) && len(trimSpace(b)) == 0
	p.keepHeader(b)
	p.advance(b)
	if start && end && isEmptyLine(b) {
		p.blank = false
		p.endHeader()
	}
}

// advance counts lines, or a piece of one, that have been dealt with.
func (p *parser) advance(b []byte) {
	n := len(b)
	p.off += int64(n)
	if b[n-1] != '\n' {
		p.eol, p.endCR = 0, b[n-1] == '\r'
		return
	}
	p.lf += int64(bytes.Count(b, []byte{'\n'}))
	p.eol = 1
	if n > 1 && b[n-2] == '\r' || n == 1 && p.endCR {
		p.eol = 2
	}
	p.endCR = false
}

// keepHeader keeps header octets within the limit, whole lines at least.
func (p *parser) keepHeader(b []byte) {
	if p.headerLeft < int64(len(b)) {
		p.headerLeft, p.d.Truncated = 0, true
		p.hdr = p.hdr[:bytes.LastIndexByte(p.hdr, '\n')+1]
		return
	}
	p.headerLeft -= int64(len(b))
	p.hdr = append(p.hdr, b...)
}

// delimiter looks whether a line is a delimiter of an open multipart, and
// ends and begins parts if so.
func (p *parser) delimiter(b []byte) bool {
	mark := bytes.TrimRight(b[2:], " \t\r\n")
	for i := len(p.stack) - 1; i >= 0; i-- {
		n := p.stack[i]
		rest, found := bytes.CutPrefix(mark, n.boundary)
		if !n.open || !found || len(rest) != 0 && string(rest) != "--" {
			continue
		}
		if p.full {
			p.d.Truncated = true
			return false
		}
		p.endParts(i)
		if len(rest) > 0 {
			n.open = false
			p.open--
			return true
		}
		if len(n.kids) == 0 {
			p.text.dropPart() // a preamble
		}
		kid := p.newNode()
		n.kids = append(n.kids, kid)
		p.push(kid)
		return true
	}
	return false
}

// endParts ends the parts below stack[keep] before the line at p.off. The line
// end before a delimiter belongs to the delimiter, if it is not needed to end
// the header.
func (p *parser) endParts(keep int) {
	for p.inHeader {
		p.endHeader()
	}
	end, lf := p.off-p.eol, p.lf-1
	if end < p.top().BodyStart || p.eol == 0 {
		end, lf = p.off, p.lf
	}
	p.endAt(keep, end, lf)
}

func (p *parser) endAt(keep int, end, lf int64) {
	for len(p.stack) > keep+1 {
		n := p.top()
		if n.open {
			p.open--
		}
		p.text.endPart()
		n.End, n.Lines = end, lf-n.startLF
		p.stack = p.stack[:len(p.stack)-1]
	}
}

// finish ends the message.
func (p *parser) finish() {
	for p.inHeader {
		p.endHeader()
	}
	p.d.Size, p.d.Lines = p.off, p.lf
	root := p.stack[0]
	p.endAt(-1, p.off, p.lf)
	p.stack = append(p.stack, root)
}

// endHeader reads the header of the top part, and readies the parser for its
// body; where that is a message, for the message's header.
func (p *parser) endHeader() {
	n := p.top()
	p.inHeader = false
	n.BodyStart, n.startLF = p.off, p.lf
	p.readHeader(n)
	if n.kind != nodeLeaf && (len(p.stack) >= p.lim.Depth || p.full) {
		p.d.Truncated = true
		p.unopened(n)
	}
	switch n.kind {
	case nodeMultipart:
		n.open = true
		p.open++
		p.text.beginPart(&n.Part, textFormat{}) // shown where no parts are found
	case nodeMessage:
		n.message = p.newNode()
		p.push(n.message)
	case nodeLeaf:
		p.text.beginPart(&n.Part, n.wire.format)
	}
}

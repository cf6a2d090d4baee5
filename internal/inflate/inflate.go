// Package inflate decompresses DEFLATE (RFC 1951) for conversations: a Reader
// hands out every byte as soon as its code has arrived, however the sender
// flushed. COMPRESS=DEFLATE needs that (RFC 4978 section 4): zlib's partial
// flush and its block flush leave the last block open, and readers that wait
// for its end, as those made for files do, wait for ever.
//
// It is not for files and archives; those want compress/flate. Start with
// NewReader.
package inflate

import (
	"errors"
	"io"
	"os"
)

// ErrCorrupt is returned where the input is not DEFLATE.
var ErrCorrupt = errors.New("inflate: corrupt input")

const (
	windowSize = 32 << 10 // how far back a match may reach
	slack      = 8 << 10  // how much is decoded ahead of the caller
	longest    = 258      // match
	inputSize  = 2 << 10
)

// Reader decompresses. It needs at most about 45 kB, and less until so much has
// been read. It is for one goroutine at a time.
type Reader struct {
	src   io.Reader
	input []byte // room for src.Read
	in    []byte // what is left of it
	bits  uint64 // read from in and not consumed; the next bit is the lowest
	nbits uint

	out  []byte // the window, then what has not been handed out
	read int    // begin of the latter

	step  func(*Reader) bool // decodes on; false when it lacks bits
	final bool               // the last block has begun
	left  int                // of a stored block
	err   error              // sticks; told when all is handed out

	lengths     [320]uint8 // code lengths of a dynamic block
	seen        int        // how many of them have been read
	nlit, ndist int
	ncode       int
	lit, dist   huffman
	codes       huffman
	fixed       bool // lit and dist hold the fixed codes
}

// NewReader returns a Reader of what src has. It reads from src only when all
// that can be decoded has been handed out.
func NewReader(src io.Reader) *Reader {
	return &Reader{src: src, step: (*Reader).blockHeader}
}

// Read implements io.Reader. At the end of the last block it returns io.EOF;
// where src ends before, io.ErrUnexpectedEOF. After os.ErrDeadlineExceeded of
// src it goes on.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if r.read < len(r.out) {
			n := copy(p, r.out[r.read:])
			r.read += n
			return n, nil
		}
		if r.err != nil {
			return 0, r.err
		}
		r.slide()
		for r.err == nil && len(r.out) < windowSize+slack-longest {
			if !r.step(r) {
				break
			}
		}
		if r.read == len(r.out) && r.err == nil {
			if err := r.fill(); err != nil {
				return 0, err
			}
		}
	}
}

// slide makes room behind the window. All has been handed out.
func (r *Reader) slide() {
	if len(r.out) > windowSize {
		n := copy(r.out, r.out[len(r.out)-windowSize:])
		r.out = r.out[:n]
	}
	r.read = len(r.out)
}

// fill waits for input. Nothing is left of the old. Errors stick in r.err, but
// for a deadline that has passed, which is returned: another may follow.
func (r *Reader) fill() error {
	if r.input == nil {
		r.input = make([]byte, inputSize)
	}
	n, err := r.src.Read(r.input)
	r.in = r.input[:n]
	switch {
	case n > 0 || err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case err == io.EOF:
		r.err = io.ErrUnexpectedEOF
	default:
		r.err = err
	}
	return nil
}

// need reports whether n bits are there, n at most 56.
func (r *Reader) need(n uint) bool {
	for r.nbits < n {
		if len(r.in) == 0 {
			return false
		}
		r.bits |= uint64(r.in[0]) << r.nbits
		r.in = r.in[1:]
		r.nbits += 8
	}
	return true
}

// take consumes n bits, which must be there.
func (r *Reader) take(n uint) int {
	v := r.bits & (1<<n - 1)
	r.bits >>= n
	r.nbits -= n
	return int(v)
}

func (r *Reader) corrupt() bool {
	r.err = ErrCorrupt
	return false
}

// blockHeader reads the three bits that begin a block (RFC 1951 section 3.2.3).
func (r *Reader) blockHeader() bool {
	if r.final {
		r.err = io.EOF
		return false
	}
	if !r.need(3) {
		return false
	}
	r.final = r.take(1) == 1
	switch r.take(2) {
	case 0:
		r.take(r.nbits % 8) // to the next byte
		r.step = (*Reader).storedLength
	case 1:
		r.fixedCodes()
		r.step = (*Reader).symbol
	case 2:
		r.step = (*Reader).tableSizes
	default:
		return r.corrupt()
	}
	return true
}

// storedLength reads the header of a stored block (section 3.2.4).
func (r *Reader) storedLength() bool {
	if !r.need(32) {
		return false
	}
	n, inverse := r.take(16), r.take(16)
	if n != inverse^0xffff {
		return r.corrupt()
	}
	r.left, r.step = n, (*Reader).stored
	return true
}

// stored copies bytes.
func (r *Reader) stored() bool {
	room := windowSize + slack - len(r.out)
	for ; r.left > 0 && r.nbits >= 8 && room > 0; room-- { // whole bytes: the block is aligned
		r.out = append(r.out, byte(r.take(8)))
		r.left--
	}
	n := min(r.left, len(r.in), room)
	if r.nbits > 0 {
		n = 0
	}
	r.out = append(r.out, r.in[:n]...)
	r.in, r.left = r.in[n:], r.left-n
	if r.left == 0 {
		r.step = (*Reader).blockHeader
		return true
	}
	return n > 0
}

// The lengths and distances that symbols stand for (section 3.2.5).
func lengthOf(symbol int) (base int, extra uint) {
	switch s := symbol - 257; {
	case s < 8:
		return s + 3, 0
	case s == 28:
		return longest, 0
	default:
		extra = uint(s-4) / 4
		return 3 + (4+s%4)<<extra, extra
	}
}

func distanceOf(symbol int) (base int, extra uint) {
	if symbol < 4 {
		return symbol + 1, 0
	}
	extra = uint(symbol-2) / 2
	return 1 + (2+symbol%2)<<extra, extra
}

// symbol decodes one literal, match or end of block. It consumes nothing unless
// all of it is there.
func (r *Reader) symbol() bool {
	r.need(48) // as many as there are
	sym, n := r.lit.decode(r.bits, r.nbits)
	switch {
	case n == 0:
		return false
	case sym < 0 || sym > 285:
		return r.corrupt()
	case sym < 256:
		r.take(n)
		r.out = append(r.out, byte(sym))
		return true
	case sym == 256:
		r.take(n)
		r.step = (*Reader).blockHeader
		return true
	}
	length, extra := lengthOf(sym)
	at := n + extra // bits looked at
	if at > r.nbits {
		return false
	}
	length += int(r.bits >> n & (1<<extra - 1))
	sym, n = r.dist.decode(r.bits>>at, r.nbits-at)
	switch {
	case n == 0:
		return false
	case sym < 0 || sym > 29:
		return r.corrupt()
	}
	distance, extra := distanceOf(sym)
	at += n
	if at+extra > r.nbits {
		return false
	}
	distance += int(r.bits >> at & (1<<extra - 1))
	r.take(at + extra)
	if distance > len(r.out) || distance > windowSize {
		return r.corrupt()
	}
	for from := len(r.out) - distance; length > 0; length-- { // may overlap what it writes
		r.out = append(r.out, r.out[from])
		from++
	}
	return true
}

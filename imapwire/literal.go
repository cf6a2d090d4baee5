package imapwire

import (
	"bytes"
	"io"
	"math"
	"strconv"
)

// LiteralInfo is the announcement of a literal (RFC 9051 section 9, literal
// and literal8; RFC 7888 for the non-synchronizing forms).
type LiteralInfo struct {
	Size   int64 // bytes that follow
	Sync   bool  // {n}: the client waits for "+" before it sends them
	Binary bool  // ~{n}: literal8, which may have NULs
}

type litPhase uint8

const (
	litNone    litPhase = iota
	litPending          // announced, neither accepted nor refused
	litOpen             // accepted; body has what is left
)

// litScan recognises a literal announcement at the end of a line, one byte at
// a time, whatever stood before it. It serves both the grammar and the recovery
// after an error, which may strike in the middle of an announcement.
type litScan struct {
	state    scanState
	size     int64
	overflow bool
	nonSync  bool
}

type scanState uint8

const (
	scanNone   scanState = iota
	scanBrace            // "{"
	scanDigits           // "{12"
	scanPlus             // "{12+"
	scanClosed           // "{12}" or "{12+}", maybe with CR
)

func (s *litScan) step(c byte) {
	switch {
	case c == '{':
		*s = litScan{state: scanBrace}
	case '0' <= c && c <= '9' && (s.state == scanBrace || s.state == scanDigits):
		s.state = scanDigits
		if digit := int64(c - '0'); s.size > (math.MaxInt64-digit)/10 {
			s.overflow = true
		} else {
			s.size = s.size*10 + digit
		}
	case c == '+' && s.state == scanDigits:
		s.state, s.nonSync = scanPlus, true
	case c == '}' && (s.state == scanDigits || s.state == scanPlus):
		s.state = scanClosed
	case c == '\r' && s.state == scanClosed:
	default:
		s.state = scanNone
	}
}

func (s *litScan) feed(p []byte) {
	for _, c := range p {
		s.step(c)
	}
}

// LiteralHeader reads the announcement of a literal, in any of its four forms,
// with its line end. ok is false after an error. The caller looks at the size
// and then calls AcceptLiteral or RefuseLiteral.
func (d *Decoder) LiteralHeader() (info LiteralInfo, ok bool) {
	info.Binary = d.TryByte('~')
	c, ok := d.peek()
	if !ok {
		return LiteralInfo{}, false
	}
	if c != '{' {
		d.Fail("literal", "")
		return LiteralInfo{}, false
	}
	start := d.line
	d.scan = litScan{}
	for d.scan.state != scanClosed {
		if c, ok = d.peek(); !ok {
			return LiteralInfo{}, false
		}
		was := d.scan
		if d.scan.step(c); d.scan.state == scanNone || c == '{' && was.state != scanNone {
			d.scan = was
			d.Fail("literal size as {n} or {n+}", "")
			return LiteralInfo{}, false
		}
		if !d.consume(1) {
			return LiteralInfo{}, false
		}
	}
	if !d.lineEnd("line end after the literal size") {
		return LiteralInfo{}, false
	}
	info.Size, info.Sync = d.scan.size, !d.scan.nonSync
	overflow := d.scan.overflow
	// The announcement is over: an empty line behind the literal is none.
	d.info, d.phase, d.scan = info, litPending, litScan{}
	if overflow {
		d.info.Size = math.MaxInt64
		d.failAt(start, "literal size up to 9223372036854775807", "a greater one")
		return LiteralInfo{}, false
	}
	if limit := d.limits.MaxNonSync; limit > 0 && !info.Sync && info.Size > limit {
		d.failLimit(LimitError{What: "non-synchronizing literal", Limit: limit, Unit: "bytes", Literal: true})
		return LiteralInfo{}, false
	}
	if info.Sync && d.cont == nil {
		d.failAt(start, "no synchronizing literal here", "{n}")
		return LiteralInfo{}, false
	}
	return info, true
}

// AcceptLiteral asks the client for the literal that LiteralHeader announced,
// where it waits for that, and returns a reader of exactly its bytes. What the
// caller leaves unread is skipped when it goes on with the command. The reader
// returns io.ErrUnexpectedEOF where the connection ends early. After a failure
// the reader returns that, so that nothing empty is taken for a message.
//
// NULs are passed on: see [NewNULReader].
func (d *Decoder) AcceptLiteral() io.Reader {
	if d.err == nil && d.phase != litPending {
		d.Fail("literal", "none")
	}
	if d.err != nil {
		return failedReader{d.err}
	}
	d.body = &literalReader{d: d, left: d.info.Size}
	d.phase = litOpen
	if d.info.Sync {
		if err := d.cont(); err != nil {
			d.die(err)
		}
	}
	return d.body
}

// RefuseLiteral turns down the literal that LiteralHeader announced. A
// synchronizing one ends the command, since the client will not send it. The
// bytes of a non-synchronizing one are skipped, and the command goes on behind
// them. ErrSkipTooLarge says that they are more than MaxSkip: end the
// connection.
func (d *Decoder) RefuseLiteral() error {
	if d.phase != litPending {
		return d.dead
	}
	d.phase = litNone
	if d.info.Sync {
		d.ended = true
		d.Fail("no literal", "one")
		return nil
	}
	return d.skip(d.info.Size)
}

// leaveLiteral is called when the grammar goes on while a literal is open. It
// reports whether the line can be read on.
func (d *Decoder) leaveLiteral() bool {
	if d.phase == litPending {
		// The caller has neither accepted nor refused: that is a refusal.
		if err := d.RefuseLiteral(); err != nil || d.err != nil {
			return false
		}
		return true
	}
	left := d.body.left
	d.phase, d.body.left = litNone, 0
	if left > 0 {
		return d.skip(left) == nil
	}
	return true
}

// skip throws n bytes away, within MaxSkip per command.
func (d *Decoder) skip(n int64) error {
	if d.dead != nil {
		return d.dead
	}
	if n > d.limits.MaxSkip-d.skipped {
		d.die(ErrSkipTooLarge)
		return ErrSkipTooLarge
	}
	d.skipped += n
	for n > 0 {
		if d.pos == len(d.win) && !d.fill() {
			return d.dead
		}
		k := int(min(n, int64(len(d.win)-d.pos)))
		d.pos += k
		n -= int64(k)
	}
	return nil
}

// DiscardCommand reads and throws away what is left of the command, so that
// the next byte is the first of the next command. Call it after every failure.
// The bytes of literals that the rest announces with {n+} are skipped too, and
// the lines behind them, so that they are never taken for commands; at {n} the
// command ends, since the client waits for a "+" that it does not get.
//
// It returns the connection's error, or ErrSkipTooLarge when the rest has more
// than MaxSkip bytes, or a line of it is many times as long as MaxLine: end the
// connection then.
func (d *Decoder) DiscardCommand() error {
	for {
		if d.dead != nil {
			return d.dead
		}
		if err := d.discardLiteral(); err != nil {
			return err
		}
		if d.ended {
			return nil
		}
		if err := d.discardLine(); err != nil {
			return err
		}
	}
}

// discardLiteral skips a literal that is announced or half read.
func (d *Decoder) discardLiteral() error {
	phase := d.phase
	d.phase = litNone
	switch {
	case phase == litOpen:
		left := d.body.left
		d.body.left = 0
		return d.skip(left)
	case phase == litPending && d.info.Sync:
		d.ended = true
	case phase == litPending:
		return d.skip(d.info.Size)
	}
	return nil
}

// The rest of a refused line may be discardLines times as long as MaxLine, and
// discardBytes at least. Who goes on and on is no client that made a mistake.
const (
	discardLines = 16
	discardBytes = 64 << 10
)

// discardLine skips up to the next line end, and leaves a literal that the
// line announces as pending.
func (d *Decoder) discardLine() error {
	for left := max(int64(d.limits.MaxLine)*discardLines, discardBytes); ; {
		if d.pos == len(d.win) && !d.fill() {
			return d.dead
		}
		d.begun = true
		win := d.win[d.pos:]
		end := bytes.IndexByte(win, '\n')
		n := end + 1
		if end < 0 {
			n = len(win)
		}
		d.scan.feed(win[:max(end, 0)])
		if end < 0 {
			d.scan.feed(win)
		}
		if left -= int64(n); left < 0 {
			d.die(ErrSkipTooLarge)
			return ErrSkipTooLarge
		}
		if err := d.skip(int64(n)); err != nil {
			return err
		}
		if end < 0 {
			continue
		}
		if d.scan.state != scanClosed {
			d.ended = true
			return nil
		}
		d.info = LiteralInfo{Size: d.scan.size, Sync: !d.scan.nonSync}
		if d.scan.overflow {
			d.info.Size = math.MaxInt64
		}
		d.phase, d.scan = litPending, litScan{}
		return nil
	}
}

// Literal reads a literal into memory. Limits: MaxLiteral and MaxCommand. NUL
// is refused; literal8 is not taken.
func (d *Decoder) Literal() []byte {
	if c, ok := d.peek(); ok && c != '{' {
		d.Fail("literal", "")
	}
	info, ok := d.LiteralHeader()
	if !ok {
		return nil
	}
	if info.Size > int64(d.limits.MaxLiteral) {
		d.failLimit(LimitError{What: "literal of " + strconv.FormatInt(info.Size, 10) + " bytes",
			Limit: int64(d.limits.MaxLiteral), Unit: "bytes", Literal: true})
		return nil
	}
	if !d.charge(int(info.Size)) {
		return nil
	}
	body := d.AcceptLiteral()
	if d.err != nil {
		return nil
	}
	b := make([]byte, info.Size)
	if _, err := io.ReadFull(body, b); err != nil {
		d.die(err)
		return nil
	}
	d.phase = litNone
	if i := bytes.IndexByte(b, 0); i >= 0 {
		if d.err == nil {
			d.err = &NULError{Offset: int64(i)}
		}
		return nil
	}
	return b
}

// literalReader reads the bytes of one accepted literal.
type literalReader struct {
	d    *Decoder
	left int64
}

func (r *literalReader) Read(p []byte) (int, error) {
	d := r.d
	if d.dead != nil {
		return 0, d.dead
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.left)]
	if len(p) == 0 {
		return 0, nil
	}
	var n int
	if d.pos == len(d.win) && len(p) >= 4096 {
		// Large reads go past the buffer.
		var err error
		if n, err = readSome(d.r, p); n == 0 {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			d.die(err)
			return 0, err
		}
	} else {
		if d.pos == len(d.win) && !d.fill() {
			return 0, d.dead
		}
		n = copy(p, d.win[d.pos:])
		d.pos += n
	}
	r.left -= int64(n)
	return n, nil
}

// failedReader has nothing but an error.
type failedReader struct{ err error }

func (r failedReader) Read([]byte) (int, error) { return 0, r.err }

// NewNULReader wraps the reader of a literal: the first NUL ends it with a
// [*NULError] that names its offset. The bytes before the NUL are delivered.
func NewNULReader(r io.Reader) io.Reader { return &nulReader{r: r} }

type nulReader struct {
	r   io.Reader
	at  int64
	err error
}

func (r *nulReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.r.Read(p)
	if i := bytes.IndexByte(p[:n], 0); i >= 0 {
		r.err = &NULError{Offset: r.at + int64(i)}
		return i, r.err
	}
	r.at += int64(n)
	return n, err
}

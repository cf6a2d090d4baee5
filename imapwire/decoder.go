package imapwire

import (
	"errors"
	"io"
	"os"
	"slices"
)

// Limits bound what one command may cost. Zero fields mean the defaults.
type Limits struct {
	// MaxLine is how many bytes a command may have outside of its literals;
	// default 65536.
	MaxLine int
	// MaxLiteral is how many bytes a literal may have that is read into memory
	// (streamed literals are the caller's to bound); default 262144.
	MaxLiteral int
	// MaxCommand bounds lines and literals in memory of one command together;
	// default 1 MiB.
	MaxCommand int
	// MaxDepth is how deep [Decoder.List] and [Decoder.Enter] may nest;
	// default 100.
	MaxDepth int
	// MaxSkip is how many bytes of a refused command are read and thrown away
	// to keep the connection; default 64 MiB.
	MaxSkip int64
	// MaxNonSync is the greatest non-synchronizing literal: 4096 for LITERAL-
	// (RFC 7888 section 5); zero means no bound of its own (LITERAL+).
	MaxNonSync int64
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	set(&l.MaxLine, 64<<10)
	set(&l.MaxLiteral, 256<<10)
	set(&l.MaxCommand, 1<<20)
	set(&l.MaxDepth, 100)
	if l.MaxSkip <= 0 {
		l.MaxSkip = 64 << 20
	}
	return l
}

// DecoderOptions are the settings of a [Decoder].
type DecoderOptions struct {
	// Pool lends the read buffer; nil allocates.
	Pool *BufferPool
	// Limits bound each command; they can be changed by [Decoder.SetLimits].
	Limits Limits
	// Continue is called when a synchronizing literal is accepted: it sends
	// "+ ..." and flushes. Its error ends the connection. nil refuses all
	// synchronizing literals as a syntax error.
	Continue func() error
}

// tinySize is the room for the first bytes after an idle time.
const tinySize = 128

// Decoder reads IMAP commands. Its errors stick: after the first failure every
// method does nothing and returns zero values until [Decoder.Begin], so a
// grammar reads top-down and asks [Decoder.Err] once.
//
// A Decoder is for one goroutine at a time.
type Decoder struct {
	r      io.Reader
	pool   *BufferPool
	limits Limits
	cont   func() error
	utf8   bool

	win   []byte  // what was read and is not yet consumed begins at win[pos]
	pos   int     //
	chunk *[]byte // the buffer from the pool, nil while idle
	tiny  [tinySize]byte

	scratch []byte // a token that spans two reads
	quoted  []byte // a quoted string with escapes

	err   error // first failure of this command
	dead  error // failure of the connection, outlives the command
	begun bool  // a byte of this command was consumed
	ended bool  // its last line end was consumed
	line  int   // bytes of its lines consumed
	held  int   // bytes of it in memory
	depth int

	phase   litPhase
	scan    litScan
	info    LiteralInfo
	body    *literalReader
	skipped int64 // bytes thrown away of this command
}

// NewDecoder makes a decoder that reads from r.
func NewDecoder(r io.Reader, opts DecoderOptions) *Decoder {
	return &Decoder{r: r, pool: opts.Pool, limits: opts.Limits.withDefaults(), cont: opts.Continue}
}

// SetLimits changes the limits, say after login.
func (d *Decoder) SetLimits(l Limits) { d.limits = l.withDefaults() }

// SetMode switches mailbox names between modified UTF-7 and UTF-8.
func (d *Decoder) SetMode(m Mode) { d.utf8 = m == ModeUTF8 }

// Begin starts a command (or the answer to a continuation request): it clears
// the error and all counts. It does not read: a command that was not read to
// its end must have been discarded before, see [Decoder.DiscardCommand].
func (d *Decoder) Begin() {
	d.err = d.dead
	d.begun, d.ended = false, false
	d.line, d.held, d.depth, d.skipped = 0, 0, 0, 0
	if d.body != nil {
		d.body.left = 0 // its reader is of no use any more
	}
	d.phase, d.scan, d.body = litNone, litScan{}, nil
	if cap(d.scratch) > 4096 {
		d.scratch = nil
	}
	if cap(d.quoted) > 4096 {
		d.quoted = nil
	}
}

// Wait blocks until at least one byte can be decoded or the reader fails,
// while it holds no buffer from the pool: the way to wait for the next command
// of an idle client. It returns io.EOF where the client has closed. After
// os.ErrDeadlineExceeded it may be called again: nothing has been lost.
func (d *Decoder) Wait() error {
	if d.dead != nil {
		return d.dead
	}
	if d.pos < len(d.win) {
		return nil
	}
	d.release()
	n, err := readSome(d.r, d.tiny[:])
	d.win, d.pos = d.tiny[:n], 0
	switch {
	case n > 0:
		return nil
	case !errors.Is(err, os.ErrDeadlineExceeded):
		d.die(err)
	}
	return err
}

// Buffered returns how many bytes have been read ahead: more than zero after a
// command means that the client has pipelined.
func (d *Decoder) Buffered() int { return len(d.win) - d.pos }

// Reset makes the decoder read from r from now on and returns the bytes that
// had been read ahead from the old reader. After STARTTLS they must be none,
// else someone has injected plain text before the handshake (RFC 9051 section
// 6.2.1): refuse it. For COMPRESS they are the begin of the compressed stream.
func (d *Decoder) Reset(r io.Reader) []byte {
	rest := slices.Clone(d.win[d.pos:])
	d.release()
	d.r, d.dead = r, nil
	d.Begin()
	return rest
}

// Close gives the buffer back. The decoder must not be used afterwards.
func (d *Decoder) Close() {
	d.release()
	d.die(io.ErrClosedPipe)
}

func (d *Decoder) release() {
	d.win, d.pos = nil, 0
	d.pool.put(d.chunk)
	d.chunk = nil
}

// Err returns the first failure of this command: a [*SyntaxError],
// [*LimitError] or [*NULError], or what the reader returned.
func (d *Decoder) Err() error { return d.err }

// Fail makes the command fail as if the grammar had wanted expected at this
// place. got may be "" for the next byte. The first failure sticks.
func (d *Decoder) Fail(expected, got string) {
	if d.err != nil {
		return
	}
	if got == "" && d.pos < len(d.win) && !d.ended {
		got = describeByte(d.win[d.pos])
	}
	d.err = &SyntaxError{Pos: d.line, Expected: expected, Got: got}
}

// failAt is Fail for what began at an earlier position.
func (d *Decoder) failAt(pos int, expected, got string) {
	if d.err == nil {
		d.err = &SyntaxError{Pos: pos, Expected: expected, Got: got}
	}
}

func (d *Decoder) failLimit(e LimitError) {
	if d.err == nil {
		d.err = &e
	}
}

// die records a failure of the connection.
func (d *Decoder) die(err error) {
	if d.dead == nil {
		d.dead = err
	}
	if d.err == nil {
		d.err = err
	}
}

// fill reads more. It is called only when the window is empty.
func (d *Decoder) fill() bool {
	if d.dead != nil {
		return false
	}
	if d.chunk == nil {
		d.chunk = d.pool.get()
	}
	n, err := readSome(d.r, *d.chunk)
	d.win, d.pos = (*d.chunk)[:n], 0
	if n > 0 {
		return true
	}
	if err == io.EOF && d.begun {
		err = io.ErrUnexpectedEOF
	}
	d.die(err)
	return false
}

// readSome reads at least one byte or returns an error.
func readSome(r io.Reader, p []byte) (int, error) {
	for range 100 {
		if n, err := r.Read(p); n > 0 || err != nil {
			// An error that comes with bytes comes again with the next read.
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

// peek returns the next byte of the command's line.
func (d *Decoder) peek() (byte, bool) {
	if d.err != nil || d.phase != litNone && !d.leaveLiteral() {
		return 0, false
	}
	if d.pos == len(d.win) && !d.fill() {
		return 0, false
	}
	return d.win[d.pos], true
}

// consume moves past n bytes of the window and counts them.
func (d *Decoder) consume(n int) bool {
	d.pos += n
	d.begun = true
	d.line += n
	if d.line > d.limits.MaxLine {
		d.failLimit(LimitError{What: "command line", Limit: int64(d.limits.MaxLine), Unit: "bytes"})
		return false
	}
	return true
}

// takeWhile reads the longest run of bytes of a class, maybe empty. The result
// holds until the next read; the byte behind it is in the window.
func (d *Decoder) takeWhile(class uint16) []byte {
	d.scratch = d.scratch[:0]
	for {
		if _, ok := d.peek(); !ok {
			return nil
		}
		win := d.win[d.pos:]
		n := 0
		for n < len(win) && classes[win[n]]&class != 0 {
			n++
		}
		if !d.consume(n) {
			// The line goes on: what was read of it may begin an announcement.
			d.scan.feed(d.scratch)
			d.scan.feed(win[:n])
			return nil
		}
		if n < len(win) && len(d.scratch) == 0 {
			return win[:n]
		}
		d.scratch = append(d.scratch, win[:n]...)
		if n < len(win) {
			return d.scratch
		}
	}
}

// charge counts n bytes that this command holds in memory.
func (d *Decoder) charge(n int) bool {
	if d.held+d.line+n > d.limits.MaxCommand {
		d.failLimit(LimitError{What: "command with its literals", Limit: int64(d.limits.MaxCommand), Unit: "bytes"})
		return false
	}
	d.held += n
	return true
}

// Enter counts one level of nesting of a grammar that recurses without
// parentheses, as SEARCH NOT does, and reports whether it may go on. Leave ends
// the level.
func (d *Decoder) Enter() bool {
	if d.err != nil {
		return false
	}
	if d.depth >= d.limits.MaxDepth {
		d.failLimit(LimitError{What: "nesting", Limit: int64(d.limits.MaxDepth), Unit: "levels"})
		return false
	}
	d.depth++
	return true
}

// Leave ends a level that [Decoder.Enter] allowed.
func (d *Decoder) Leave() { d.depth-- }

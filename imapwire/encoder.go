package imapwire

import (
	"fmt"
	"io"
	"strconv"

	"github.com/rookery-mail/rookery/imap"
)

// EncoderOptions are the settings of an [Encoder].
type EncoderOptions struct {
	// Pool lends the output buffer; nil allocates.
	Pool *BufferPool
}

// Encoder writes responses into a buffer, which it sends when it is nearly
// full, and when [Encoder.Flush] is called. Errors of the writer stick: after
// the first one everything is thrown away, and Flush and Err return it.
//
// An Encoder is for one goroutine at a time.
type Encoder struct {
	w     io.Writer
	pool  *BufferPool
	chunk *[]byte // the pool's buffer, nil while nothing is buffered
	buf   []byte
	high  int // length of buf from which on it is sent
	mode  Mode
	err   error
}

// NewEncoder makes an encoder that writes to w.
func NewEncoder(w io.Writer, opts EncoderOptions) *Encoder {
	return &Encoder{w: w, pool: opts.Pool}
}

// SetMode says which strings and mailbox names the client understands.
func (e *Encoder) SetMode(m Mode) { e.mode = m }

// Mode returns what SetMode has set.
func (e *Encoder) Mode() Mode { return e.mode }

// Reset makes the encoder write to w from now on, for STARTTLS and COMPRESS.
// What is buffered must have been flushed; it is thrown away.
func (e *Encoder) Reset(w io.Writer) {
	e.w, e.err = w, nil
	e.Release()
}

// Err returns the error that sticks, nil while all is well.
func (e *Encoder) Err() error { return e.err }

// Poison makes err stick if there is none yet: for a response that was begun
// and cannot be finished, after which the stream makes no sense.
func (e *Encoder) Poison(err error) {
	if e.err == nil {
		e.err = err
	}
	e.buf = e.buf[:0]
}

// Buffered returns how many bytes wait to be sent.
func (e *Encoder) Buffered() int { return len(e.buf) }

// Flush sends what is buffered.
func (e *Encoder) Flush() error {
	e.send()
	return e.err
}

// Release gives the buffer back to the pool while there is nothing to say.
// What was not flushed is lost.
func (e *Encoder) Release() {
	e.pool.put(e.chunk)
	e.chunk, e.buf = nil, nil
}

// room returns the buffer to append to.
func (e *Encoder) room() []byte {
	if e.chunk == nil {
		e.chunk = e.pool.get()
		e.buf = (*e.chunk)[:0]
		e.high = cap(e.buf) - min(cap(e.buf)/4, 4096)
	}
	return e.buf
}

// keep takes over the buffer that was appended to and sends it when it is
// nearly full.
func (e *Encoder) keep(buf []byte) {
	e.buf = buf
	if len(buf) >= e.high {
		e.send()
	}
}

func (e *Encoder) send() {
	if len(e.buf) > 0 && e.err == nil {
		e.write(e.buf)
	}
	if e.chunk != nil {
		// An append may have moved buf to memory that is not the pool's.
		e.buf = (*e.chunk)[:0]
	}
}

func (e *Encoder) write(p []byte) {
	n, err := e.w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		e.err = err
	}
}

// Raw writes s as it is.
func (e *Encoder) Raw(s string) { e.keep(append(e.room(), s...)) }

// RawBytes writes p as it is. Large ones go to the writer without a copy.
func (e *Encoder) RawBytes(p []byte) {
	buf := e.room()
	if len(p) < cap(buf)-len(buf) {
		e.keep(append(buf, p...))
		return
	}
	e.send()
	if e.err == nil {
		e.write(p)
	}
}

// Append hands the buffer to fn, which appends and returns it: the way to use
// the append functions of this package and of others.
func (e *Encoder) Append(fn func(dst []byte) []byte) { e.keep(fn(e.room())) }

// Byte writes one byte.
func (e *Encoder) Byte(c byte) { e.keep(append(e.room(), c)) }

// SP writes a space.
func (e *Encoder) SP() { e.Byte(' ') }

// CRLF writes a line end.
func (e *Encoder) CRLF() { e.keep(append(e.room(), '\r', '\n')) }

// Number writes a number of 32 bits.
func (e *Encoder) Number(n uint32) { e.Number64(uint64(n)) }

// Number64 writes a number.
func (e *Encoder) Number64(n uint64) { e.keep(strconv.AppendUint(e.room(), n, 10)) }

// ModSeq writes a mod-sequence.
func (e *Encoder) ModSeq(m imap.ModSeq) { e.Number64(uint64(m)) }

// Atom writes s, which must be an atom, as it is.
func (e *Encoder) Atom(s string) { e.Raw(s) }

// Nil writes NIL.
func (e *Encoder) Nil() { e.Raw("NIL") }

// Quoted writes s in quotes. It must have no CR, LF or NUL, and outside of
// ModeUTF8 only ASCII: String is safe for everything.
func (e *Encoder) Quoted(s string) { e.keep(appendQuoted(e.room(), s)) }

// String writes s as [AppendString] does.
func (e *Encoder) String(s string) { e.keep(AppendString(e.room(), s, e.mode)) }

// StringBytes is String for bytes.
func (e *Encoder) StringBytes(s []byte) { e.keep(AppendString(e.room(), s, e.mode)) }

// NString writes s, or NIL where ok is false.
func (e *Encoder) NString(s string, ok bool) { e.keep(AppendNString(e.room(), s, ok, e.mode)) }

// Astring writes s as an atom where it is one, else as a string.
func (e *Encoder) Astring(s string) { e.keep(AppendAstring(e.room(), s, e.mode)) }

// Mailbox writes a mailbox name given in UTF-8.
func (e *Encoder) Mailbox(name string) { e.keep(AppendMailbox(e.room(), name, e.mode)) }

// Text writes human-readable text as [AppendText] does.
func (e *Encoder) Text(s string) { e.keep(AppendText(e.room(), s, e.mode)) }

// Flag writes a flag.
func (e *Encoder) Flag(f imap.Flag) { e.Raw(string(f)) }

// FlagList writes flags in parentheses.
func (e *Encoder) FlagList(flags []imap.Flag) { e.keep(AppendFlagList(e.room(), flags)) }

// Date writes a date without quotes.
func (e *Encoder) Date(date imap.Date) { e.keep(date.AppendWire(e.room())) }

// DateTime writes a date-time with its quotes.
func (e *Encoder) DateTime(t imap.Time) { e.keep(AppendDateTime(e.room(), t)) }

// NumSet writes a sequence-set as it was parsed.
func (e *Encoder) NumSet(set imap.NumSet) { e.keep(set.AppendWire(e.room())) }

// UIDSet writes a set of UIDs, which must not be empty.
func (e *Encoder) UIDSet(set imap.UIDSet) { writeSet(e, set) }

// SeqSet writes a set of sequence numbers, which must not be empty.
func (e *Encoder) SeqSet(set imap.SeqSet) { writeSet(e, set) }

// writeSet goes range by range, so that a set of any size passes the buffer.
func writeSet[N ~uint32](e *Encoder, set imap.Set[N]) {
	for i, r := range set.Ranges() {
		buf := e.room()
		if i > 0 {
			buf = append(buf, ',')
		}
		e.keep(r.AppendWire(buf))
	}
}

// List writes n items in parentheses with spaces between them; item writes
// the i-th.
func (e *Encoder) List(n int, item func(i int)) {
	e.Byte('(')
	for i := range n {
		if i > 0 {
			e.SP()
		}
		item(i)
	}
	e.Byte(')')
}

// Literal writes p as a literal. It must have no NUL: see Literal8.
func (e *Encoder) Literal(p []byte) {
	e.keep(AppendLiteralHeader(e.room(), int64(len(p)), false))
	e.RawBytes(p)
}

// Literal8 writes p as a literal8 (RFC 3516, RFC 9051 section 4.3.2).
func (e *Encoder) Literal8(p []byte) {
	e.keep(AppendLiteralHeader(e.room(), int64(len(p)), true))
	e.RawBytes(p)
}

// LiteralFrom writes a literal (a literal8 where binary is set) of exactly
// size bytes read from r; what r has beyond is not read. A reader that fails or
// ends early poisons the encoder, since the client waits for bytes that do not
// come: the connection must end. The error is returned too.
func (e *Encoder) LiteralFrom(r io.Reader, size int64, binary bool) error {
	e.keep(AppendLiteralHeader(e.room(), size, binary))
	for left := size; left > 0 && e.err == nil; {
		buf := e.room()
		if len(buf) == cap(buf) {
			e.send()
			continue
		}
		n, err := readSome(r, buf[len(buf):min(int64(cap(buf)), int64(len(buf))+left)])
		left -= int64(n)
		e.buf = buf[:len(buf)+n]
		if len(e.buf) == cap(e.buf) {
			e.send()
		}
		if err != nil && left > 0 {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			e.Poison(fmt.Errorf("literal of %d bytes broke off with %d to go: %w", size, left, err))
		}
	}
	e.keep(e.room())
	return e.err
}

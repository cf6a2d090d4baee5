package lmtp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// conn is a connection that gives the library one command line at a time and
// reads the bytes after DATA itself. The library's own reader of those loses
// its place after CR CR LF: the dot that ends a message is missed there, and
// doubled dots stay double. It also bounds the lines of messages along with
// those of commands.
type conn struct {
	net.Conn
	idle   time.Duration
	closed func()
	full   bool // one too many: it is sent away at its first command
	once   sync.Once

	br       *bufio.Reader
	chunk    int64  // bytes of a BDAT chunk that are still to come
	leftover []byte // to be given to the library before anything else
	written  replies

	outMu sync.Mutex
	out   []byte // replies that are still to be sent

	mu       sync.Mutex
	busy     bool // a message is coming in
	stopping bool
}

// maxCommand bounds a command line.
const maxCommand = 8 << 10

func newConn(nc net.Conn, idle time.Duration) *conn {
	c := &conn{Conn: nc, idle: idle}
	c.br = bufio.NewReaderSize(deadlineReader{c}, 32<<10)
	return c
}

// deadlineReader reads from the network, and waits for it as long as it may. The
// client, which may wait for replies, gets them before.
type deadlineReader struct{ c *conn }

func (r deadlineReader) Read(p []byte) (int, error) {
	if err := r.c.flush(); err != nil {
		return 0, err
	}
	r.c.mu.Lock()
	stop := r.c.stopping && !r.c.busy
	if !stop {
		r.c.Conn.SetReadDeadline(time.Now().Add(r.c.idle))
	}
	r.c.mu.Unlock()
	if stop {
		return 0, os.ErrDeadlineExceeded
	}
	return r.c.Conn.Read(p)
}

// interrupt ends the connection as soon as no message is coming in.
func (c *conn) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopping = true
	if !c.busy {
		c.Conn.SetReadDeadline(time.Now())
	}
}

func (c *conn) setBusy(busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = busy
}

func (c *conn) isStopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopping && !c.busy
}

// SetReadDeadline does nothing: whoever reads sets its own.
func (c *conn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing, likewise.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// Close closes the connection.
func (c *conn) Close() error {
	c.once.Do(func() {
		_ = c.flush() // the last words, which may find nobody
		c.closed()
	})
	return c.Conn.Close()
}

// Read gives the library what it asks for, but never more than one line at a
// time while commands are read.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.leftover) > 0 {
		n := copy(p, c.leftover)
		c.leftover = c.leftover[n:]
		return n, nil
	}
	if c.chunk > 0 {
		n, err := c.br.Read(p[:min(int64(len(p)), c.chunk)])
		c.chunk -= int64(n)
		return n, err
	}
	if c.isStopping() {
		return 0, c.goodbye("421 4.3.2 Server is shutting down\r\n")
	}
	if c.full {
		return 0, c.goodbye("421 4.3.2 Too many connections\r\n")
	}
	line, err := c.br.ReadSlice('\n')
	switch {
	case len(line) > maxCommand:
		return 0, c.goodbye("500 5.5.2 The command line is too long\r\n")
	case err != nil && c.isStopping():
		return 0, c.goodbye("421 4.3.2 Server is shutting down\r\n")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, c.goodbye("421 4.4.2 Nothing was said for too long\r\n")
	case err != nil:
		return 0, err
	}
	c.chunk = chunkSize(string(line))
	c.leftover = addDomain(line)
	n := copy(p, c.leftover)
	c.leftover = c.leftover[n:]
	return n, nil
}

// chunkSize returns how many bytes follow a command line that is not text: the
// size that a BDAT names (RFC 3030 section 2).
func chunkSize(line string) int64 {
	f := strings.Fields(line)
	if len(f) < 2 || !strings.EqualFold(f[0], "BDAT") {
		return 0
	}
	n, err := strconv.ParseUint(f[1], 10, 32)
	if err != nil {
		return 0
	}
	return int64(n)
}

// goodbye writes a last line; the library takes the end of input for the end
// of the connection.
func (c *conn) goodbye(line string) error {
	_ = c.flush()
	c.Conn.SetWriteDeadline(time.Now().Add(2 * time.Second))
	_, _ = io.WriteString(c.Conn, line)
	return io.EOF
}

// data returns a reader of the message that follows DATA: to CR LF dot CR LF
// and without the dots that lines have in front (RFC 5321 section 4.5.2). A LF
// without CR ends no line.
func (c *conn) data() *dataReader { return &dataReader{c: c, state: lineBegin} }

// endData tells the library that the message is over.
func (c *conn) endData() { c.leftover = []byte(".\r\n") }

type dataState uint8

const (
	inLine    dataState = iota
	lineCR              // after CR
	lineBegin           // after CR LF
	lineDot             // after CR LF dot, which has not been given on
	lineDotCR           // after CR LF dot CR, neither given on
	dataEnd
)

type dataReader struct {
	c     *conn
	state dataState
}

// Read reads bytes of the message; io.EOF after its end.
func (d *dataReader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if d.state == dataEnd {
			return n, io.EOF
		}
		// What is here already is taken; what is not is waited for only when
		// there is nothing to return.
		if n > 0 && d.c.br.Buffered() == 0 {
			return n, nil
		}
		if d.state == inLine && d.c.br.Buffered() > 0 {
			n += d.line(p[n:])
			if n == len(p) || d.c.br.Buffered() == 0 {
				continue
			}
		}
		b, err := d.c.br.ReadByte()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return n, err
		}
		before := d.state
		if d.step(b) {
			p[n] = b
			n++
		} else if before == lineDotCR && d.state == lineDotCR {
			// The dot was one in front of a CR that ends no line, as here.
			d.state = lineCR
			p[n] = '\r'
			n++
			d.c.br.UnreadByte()
		}
	}
	return n, nil
}

// line takes what is here of a line, up to its first CR.
func (d *dataReader) line(p []byte) int {
	here, _ := d.c.br.Peek(min(d.c.br.Buffered(), len(p)))
	if i := bytes.IndexByte(here, '\r'); i >= 0 {
		here = here[:i]
	}
	n := copy(p, here)
	_, _ = d.c.br.Discard(n)
	return n
}

// step takes one byte and reports whether it belongs to the message.
func (d *dataReader) step(b byte) bool {
	switch {
	case d.state == lineBegin && b == '.':
		d.state = lineDot
		return false
	case d.state == lineDot && b == '\r':
		d.state = lineDotCR
		return false
	case d.state == lineDotCR && b == '\n':
		d.state = dataEnd
		return false
	case d.state == lineDotCR:
		return false
	case b == '\r':
		d.state = lineCR
	case b == '\n' && d.state == lineCR:
		d.state = lineBegin
	default:
		d.state = inLine
	}
	return true
}

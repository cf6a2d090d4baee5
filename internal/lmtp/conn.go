package lmtp

import (
	"bytes"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// conn is a connection: the bytes that have come and are not used yet, the replies
// that are not sent yet, and how long either may take. All but interrupt is for the
// goroutine that serves it.
type conn struct {
	nc   net.Conn
	from string // for Received, see comesFrom
	idle time.Duration

	buf  []byte
	r, w int    // buf[r:w] has come
	out  []byte // replies that are still to be sent

	writeBy time.Time // the deadline that nc has

	mu       sync.Mutex
	readBy   time.Time // the deadline that nc has, but for interrupt's
	busy     bool      // a message is coming in
	stopping bool
}

// Sizes in bytes.
const (
	readSize   = 32 << 10 // is read at once
	maxCommand = 8 << 10  // bounds a command line
	maxReplies = 4 << 10  // bounds the replies that wait
)

// Why a connection ends, where it is not the network's fault.
var (
	errLineTooLong = errors.New("lmtp: the command line is too long")
	errStopping    = errors.New("lmtp: the server is shutting down")
)

func newConn(nc net.Conn, idle time.Duration) *conn {
	return &conn{nc: nc, from: comesFrom(nc.RemoteAddr()), idle: idle, buf: make([]byte, readSize)}
}

// interrupt ends the connection as soon as no message is coming in.
func (c *conn) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopping = true
	if !c.busy {
		c.nc.SetReadDeadline(time.Now())
		c.readBy = time.Time{}
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

// readLine returns the next command line with its end, LF, which is valid until the
// next read.
func (c *conn) readLine() ([]byte, error) {
	if c.isStopping() {
		return nil, errStopping
	}
	seen := 0
	for {
		here := c.buf[c.r:min(c.w, c.r+maxCommand)]
		if i := bytes.IndexByte(here[seen:], '\n'); i >= 0 {
			line := here[:seen+i+1]
			c.r += len(line)
			return line, nil
		}
		if seen = len(here); seen == maxCommand {
			return nil, errLineTooLong
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// chunk returns what has come, n bytes of it at most, and waits where that is
// nothing. It is valid until the next read.
func (c *conn) chunk(n int64) ([]byte, error) {
	if c.r == c.w {
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
	p := c.buf[c.r : c.r+int(min(n, int64(c.w-c.r)))]
	c.r += len(p)
	return p, nil
}

// unread gives the last n bytes of a chunk back.
func (c *conn) unread(n int) { c.r -= n }

// fill reads what comes. The client, which may wait for replies, gets them before.
func (c *conn) fill() error {
	if err := c.flush(); err != nil {
		return err
	}
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	if err := c.extend(); err != nil {
		return err
	}
	n, err := c.nc.Read(c.buf[c.w:])
	c.w += n
	switch {
	case n > 0:
		return nil // an error comes again
	case c.isStopping():
		return errStopping
	}
	return err
}

// extend gives the client time for what it says next. A deadline is not moved for a
// few seconds, which take longer to arrange than to read: with five minutes a client
// has some twenty seconds more.
func (c *conn) extend() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping && !c.busy {
		return errStopping
	}
	if now := time.Now(); c.readBy.Sub(now) < c.idle {
		c.readBy = now.Add(c.idle + c.idle/16)
		return c.nc.SetReadDeadline(c.readBy)
	}
	return nil
}

// say adds a reply line. It is sent before the next wait for the client, so that
// commands which come together are answered together (RFC 2920).
func (c *conn) say(r reply) {
	c.out = append(append(c.out, r...), "\r\n"...)
}

// sayOf adds a reply that is for one recipient, who is named behind the codes.
func (c *conn) sayOf(recipient string, r reply) {
	const codes = len("250 2.1.5 ")
	c.out = append(append(append(append(c.out, r[:codes]...), '<'), recipient...), "> "...)
	c.out = append(append(c.out, r[codes:]...), "\r\n"...)
}

// flush sends the replies that wait.
func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	if now := time.Now(); c.writeBy.Sub(now) < c.idle {
		c.writeBy = now.Add(c.idle + c.idle/16)
		if err := c.nc.SetWriteDeadline(c.writeBy); err != nil {
			return err
		}
	}
	_, err := c.nc.Write(c.out)
	if cap(c.out) > 2*maxReplies {
		c.out = nil
	}
	c.out = c.out[:0]
	return err
}

// goodbye says why the connection ends, where there is something to say, and sends
// what waits. The client may be gone.
func (c *conn) goodbye(why error) {
	switch {
	case errors.Is(why, errStopping):
		c.say("421 4.3.2 Server is shutting down")
	case errors.Is(why, errLineTooLong):
		c.say("500 5.5.2 The command line is too long")
	case errors.Is(why, os.ErrDeadlineExceeded):
		c.say("421 4.4.2 Nothing was said for too long")
	}
	if len(c.out) > 0 {
		c.nc.SetWriteDeadline(time.Now().Add(2 * time.Second))
		_, _ = c.nc.Write(c.out)
	}
}

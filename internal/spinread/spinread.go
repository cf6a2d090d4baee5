// Package spinread reads from TCP connections without going to sleep at once.
//
// Putting a thread to sleep until input comes, and waking it up, takes ten to
// fifty microseconds, much of it processor time. Where input is expected within
// that time it is better to look for it again and again for a moment. When that
// is worth while is for the caller to know: this package has no policy.
//
// Start with [New].
package spinread

import (
	"net"
	"syscall"
	"time"
)

// Conn is a TCP connection that can be looked at for input. Look and Read are
// for one goroutine at a time; all else is as for the connection that it is made
// of.
type Conn struct {
	*net.TCPConn
	raw  syscall.RawConn
	look func(fd uintptr) (done bool) // lookFor, bound once

	// Of the Look that is under way:
	p     []byte
	n     int
	err   error
	until time.Time
}

// New makes a Conn of a connection. ok is false where that is no TCP connection
// of the system's.
func New(nc net.Conn) (c *Conn, ok bool) {
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return nil, false
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return nil, false
	}
	c = &Conn{TCPConn: tc, raw: raw}
	c.look = c.lookFor
	return c, true
}

// Look reads what comes within a time, which should be well under a
// millisecond: a Close of the connection waits for it. It returns 0 and no error
// where nothing has come; what is at the end of the stream says the next Read.
func (c *Conn) Look(p []byte, within time.Duration) (int, error) {
	c.p, c.n, c.err, c.until = p, 0, nil, time.Now().Add(within)
	err := c.raw.Read(c.look)
	c.p = nil
	if err == nil && c.err != nil {
		err = &net.OpError{Op: "read", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: c.err}
	}
	return c.n, err
}

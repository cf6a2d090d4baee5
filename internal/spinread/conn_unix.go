//go:build unix

package spinread

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const canLook = true

// enough is how many Looks in a row must have found something until the runtime
// need not know of the socket: to take it away and to give it back takes some
// microseconds.
const enough = 16

// Conn is a TCP connection that can be looked at for input. Look and Read are
// for one goroutine at a time; all else is as for any net.Conn.
type Conn struct {
	local, remote net.Addr

	mu      sync.Mutex // held for moments only
	known   known      // nil while the runtime does not know of the socket
	fd      int        // the socket then
	writers int        // that may wait in known
	looking bool       // Look uses the socket: what ends it closes it
	closed  bool
	found   int // Looks in a row that have found something
	// The deadlines: known has them too.
	readBy, writeBy time.Time

	halt atomic.Bool // a Look shall end: the connection is closed, or its time over
}

func newConn(tc *net.TCPConn) *Conn {
	return &Conn{local: tc.LocalAddr(), remote: tc.RemoteAddr(), known: tc, fd: -1}
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// Look reads what comes within a time, which should be well under a
// millisecond. It returns 0 and no error where nothing has come; what is at the end
// of the stream says the next Read.
func (c *Conn) Look(p []byte, within time.Duration) (int, error) {
	c.mu.Lock()
	if err := c.mayRead(); err != nil {
		c.mu.Unlock()
		return 0, c.failed("read", err)
	}
	if c.known != nil && c.found >= enough && c.writers == 0 {
		c.takeAway()
	}
	fd := c.fd
	if c.known != nil {
		fd = descriptor(c.known)
	}
	c.looking = true
	c.mu.Unlock()

	n, err := c.lookAt(fd, p, time.Now().Add(within))

	c.mu.Lock()
	defer c.mu.Unlock()
	c.looking = false
	if c.found++; n == 0 {
		c.found = 0
	}
	if c.closed {
		_ = c.shut()
	}
	if n == 0 && err == nil {
		err = c.mayRead()
	}
	return n, c.failed("read", err)
}

// lookAt reads when something has come, unless the time is over or the Look is to
// end. Until then it asks, which takes no lock of the socket's: reading again and
// again would hold up the sender, who needs that lock to bring what is waited for.
// The end of the stream is left to a read as usual.
func (c *Conn) lookAt(fd int, p []byte, until time.Time) (int, error) {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		if n, err := unix.Poll(fds[:], 0); n == 0 || err != nil {
			if c.halt.Load() || time.Now().After(until) {
				return 0, nil
			}
			continue
		}
		n, err := readNow(fd, p)
		if err == unix.EAGAIN {
			err = nil
		}
		return n, err
	}
}

// mayRead returns why nothing can be read, whatever comes. mu is held.
func (c *Conn) mayRead() error {
	switch {
	case c.closed:
		return net.ErrClosed
	case c.halt.Load():
		return os.ErrDeadlineExceeded
	}
	return nil
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	if c.known == nil {
		err := c.mayRead()
		n := 0
		if err == nil {
			n, err = readNow(c.fd, p)
		}
		if err != unix.EAGAIN {
			c.mu.Unlock()
			if err == nil && n == 0 && len(p) > 0 {
				return 0, io.EOF
			}
			return n, c.failed("read", err)
		}
		c.giveBack()
	}
	k := c.known
	c.mu.Unlock()
	n, err := k.Read(p)
	return n, c.failed("read", err)
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return 0, c.failed("write", net.ErrClosed)
	}
	done := 0
	for c.known == nil && done < len(p) {
		switch n, err := unix.Write(c.fd, p[done:]); {
		case err == unix.EAGAIN:
			c.giveBack()
		case err == unix.EINTR:
		case err != nil:
			c.mu.Unlock()
			return done, c.failed("write", os.NewSyscallError("write", err))
		default:
			done += n
		}
	}
	if done == len(p) {
		c.mu.Unlock()
		return done, nil
	}
	k := c.known
	c.writers++
	c.mu.Unlock()
	n, err := k.Write(p[done:])
	c.mu.Lock()
	c.writers--
	c.mu.Unlock()
	return done + n, c.failed("write", err)
}

// Close implements net.Conn. It ends a Read or Write that waits.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.failed("close", net.ErrClosed)
	}
	c.closed = true
	c.halt.Store(true)
	if c.looking {
		return nil // Look does it, which ends at once
	}
	return c.shut()
}

// shut closes the socket. mu is held, and nobody looks at it.
func (c *Conn) shut() error {
	if c.known != nil {
		return c.failed("close", c.known.Close())
	}
	fd := c.fd
	c.fd = -1
	return c.failed("close", os.NewSyscallError("close", unix.Close(fd)))
}

// CloseWrite tells the other side that nothing more comes.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.failed("close", net.ErrClosed)
	}
	fd := c.fd
	if c.known != nil {
		fd = descriptor(c.known)
	}
	return c.failed("close", os.NewSyscallError("shutdown", unix.Shutdown(fd, unix.SHUT_WR)))
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn. A Look, which is short, ends early only by a
// deadline that is over when it is set.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.failed("set", net.ErrClosed)
	}
	c.readBy = t
	c.halt.Store(!t.IsZero() && !t.After(time.Now()))
	if c.known == nil {
		return nil
	}
	return c.failed("set", c.known.SetReadDeadline(t))
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.failed("set", net.ErrClosed)
	}
	c.writeBy = t
	if c.known == nil {
		return nil
	}
	return c.failed("set", c.known.SetWriteDeadline(t))
}

// takeAway takes the socket away from the runtime, if the system allows it: another
// descriptor of it stays. mu is held, and nobody waits in known.
func (c *Conn) takeAway() {
	c.found = 0 // where it fails: not again at once
	fd, err := unix.FcntlInt(uintptr(descriptor(c.known)), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return
	}
	_ = c.known.Close()
	c.known, c.fd = nil, fd
}

// giveBack makes the socket known to the runtime, for somebody who has to wait. mu is
// held.
func (c *Conn) giveBack() {
	c.known, c.fd, c.found = os.NewFile(uintptr(c.fd), "tcp"), -1, 0
	_ = c.known.SetReadDeadline(c.readBy)
	_ = c.known.SetWriteDeadline(c.writeBy)
}

func (c *Conn) failed(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return opError(op, c.local, c.remote, err)
}

// descriptor returns the number of a socket that is open, and stays so.
func descriptor(k known) int {
	n := -1
	if raw, err := k.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { n = int(fd) })
	}
	return n
}

// readNow reads what is there.
func readNow(fd int, p []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, p)
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return 0, unix.EAGAIN
		default:
			return max(n, 0), os.NewSyscallError("read", err)
		}
	}
}

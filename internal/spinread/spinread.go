// Package spinread reads from TCP connections without going to sleep at once.
//
// Putting a thread to sleep until input comes, and waking it up, takes ten to
// fifty microseconds, much of it processor time. Where input is expected within
// that time it is better to look for it again and again for a moment. When that
// is worth while is for the caller to know: this package has no policy.
//
// Go's runtime has a thread wait for all sockets that it knows of, and whatever
// comes wakes it up, also where somebody looks for it anyway: that costs as much as
// looking saves. So a connection that has been looked at with success for some time is
// taken away from the runtime, and given back when somebody has to sleep.
//
// Start with [New].
package spinread

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// New makes a Conn of a connection, which must not be used any more. ok is false
// where that is no TCP connection of the system's.
func New(nc net.Conn) (c *Conn, ok bool) {
	tc, ok := nc.(*net.TCPConn)
	if !ok || !canLook {
		return nil, false
	}
	return newConn(tc), true
}

// known is a socket that the runtime knows of: a *net.TCPConn at first, then an
// *os.File.
type known interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	Close() error
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	SyscallConn() (syscall.RawConn, error)
}

// opError makes an error of a socket one of a connection.
func opError(op string, local, remote net.Addr, err error) error {
	var done *net.OpError
	if err == nil || errors.As(err, &done) {
		return err
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	if errors.Is(err, os.ErrClosed) {
		err = net.ErrClosed
	}
	return &net.OpError{Op: op, Net: "tcp", Source: local, Addr: remote, Err: err}
}

package imapserver

import (
	"context"
	"errors"
	"io"
	"net"
	"time"
)

// Everything that waits has a limit: for the client while it sends or reads,
// for the back end while a command runs. The two are kept apart, since a client
// on a slow line may take an hour for its mail.

// patience is how long the client may pause in the midst of something.
func (c *Conn) patience(limit time.Duration) time.Time {
	if c.leaving.Load() != nil || c.ending {
		limit = min(limit, byePatience)
	}
	return time.Now().Add(limit)
}

var errTooLong = errors.New("imapserver: the back end takes too long")

// limitCommand returns a context that ends, with errTooLong as its cause, when
// the back end takes too long. done must be called. mu is held.
func (c *Conn) limitCommand(ctx context.Context) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	c.limit = time.AfterFunc(c.srv.limits.Command, func() { cancel(errTooLong) })
	return ctx, func() {
		c.limit.Stop()
		c.limit = nil
		cancel(nil)
	}
}

// progress restarts the back end's time: until now the client was waited for.
// mu is held.
func (c *Conn) progress() {
	if c.limit != nil {
		c.limit.Reset(c.srv.limits.Command)
	}
}

// reader returns what the decoder reads from: the transport, with everything
// written so far on its way to the client before a read may wait for it.
func (c *Conn) reader(r io.Reader) io.Reader { return flushingReader{c, c.trace.reader(r)} }

type flushingReader struct {
	c *Conn
	r io.Reader
}

func (f flushingReader) Read(p []byte) (int, error) {
	// The goroutine that reads holds mu, unless it is parked; then all has been
	// flushed already.
	if !f.c.parked.Load() {
		if f.c.enc.Buffered() > 0 {
			if err := f.c.enc.Flush(); err != nil {
				return 0, err
			}
		}
		// In the midst of a command a client is not allowed to be idle.
		_ = f.c.transport.nc.SetReadDeadline(f.c.patience(f.c.srv.limits.Read))
		if f.c.reading.Load() && f.c.leaving.Load() != nil {
			return 0, errLeaving
		}
		defer f.c.progress()
	}
	return f.r.Read(p)
}

// writer returns what the encoder writes to.
func (c *Conn) writer(nc net.Conn) io.Writer { return c.trace.writer(deadlineWriter{c, nc}) }

// deadlineWriter bounds how long a client may take to accept a write. mu is held
// by whoever writes.
type deadlineWriter struct {
	c  *Conn
	nc net.Conn
}

func (w deadlineWriter) Write(p []byte) (int, error) {
	_ = w.nc.SetWriteDeadline(w.c.patience(w.c.srv.limits.Write))
	defer w.c.progress()
	return w.nc.Write(p)
}

package imapserver

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
	"weak"
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

// underWay is a command whose time is limited.
type underWay struct {
	since  atomic.Int64 // when the back end's time began; see Server.elapsed
	cancel context.CancelCauseFunc
}

// limitCommand returns a context that ends, with errTooLong as its cause, when
// the back end takes too long. done must be called. mu is held.
func (c *Conn) limitCommand(ctx context.Context) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	u := &underWay{cancel: cancel}
	u.since.Store(c.srv.elapsed())
	c.command.Store(u)
	c.srv.watchCommands()
	return ctx, func() {
		c.command.Store(nil)
		cancel(nil)
	}
}

// progress restarts the back end's time: until now the client was waited for.
func (c *Conn) progress() {
	if u := c.command.Load(); u != nil {
		u.since.Store(c.srv.elapsed())
	}
}

// elapsed is the time since the server was made, in nanoseconds.
func (s *Server) elapsed() int64 { return int64(time.Since(s.made)) }

// watchCommands makes sure that somebody looks after commands that take too
// long. That is one timer for all, and none while nobody gives a command: a timer
// for each command costs more than many a command does, as it wakes up another
// thread to wait for it.
func (s *Server) watchCommands() {
	if !s.watching.Load() && s.watching.CompareAndSwap(false, true) {
		found := weak.Make(s) // a server that is closed need not wait for it
		time.AfterFunc(s.limits.Command/8, func() {
			if s := found.Value(); s != nil {
				s.endOverdue()
			}
		})
	}
}

// endOverdue ends the commands that have taken too long, and comes again while
// there are others.
func (s *Server) endOverdue() {
	s.watching.Store(false) // before it looks, so that no command is missed
	limit, others := s.elapsed()-int64(s.limits.Command), false
	for _, c := range s.Connections() {
		switch u := c.command.Load(); {
		case u == nil:
		case u.since.Load() <= limit:
			u.cancel(errTooLong)
		default:
			others = true
		}
	}
	if others {
		s.watchCommands()
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

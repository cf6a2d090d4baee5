// Package lmtp takes mail from an MTA (RFC 2033) and hands it to a
// [Deliverer], which answers for each recipient after the message is durable.
//
// A connection has one goroutine: it reads commands (command.go, RFC 5321), takes the
// message to memory or a file (message.go, data.go, spool.go), and delivers it to each
// recipient (deliver.go). It is no SMTP server for the open net: who can connect can
// deliver. Start with [New].
package lmtp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"
)

// Deliverer is where the mail goes. It is safe for concurrent use.
type Deliverer interface {
	// Resolve returns the user that an address (local-part@domain, or a local-part
	// alone) belongs to.
	// Kind NotFound refuses the recipient for good, any other error for now.
	Resolve(ctx context.Context, address string) (user string, err error)
	// Deliver puts a message into the user's INBOX and returns when that is
	// durable. r has exactly size bytes.
	Deliver(ctx context.Context, user string, r io.Reader, size int64) error
}

// Options tune a Server. The zero value is good.
type Options struct {
	// Hostname is what the server calls itself; empty means "localhost".
	Hostname string
	// MaxSize bounds a message; 0 means 64 MiB.
	MaxSize int64
	// MaxRecipients bounds the recipients of a message; 0 means 1,000.
	MaxRecipients int
	// MaxConns bounds the connections; 0 means 500.
	MaxConns int
	// Idle is how long a client may be silent; 0 means 5 minutes.
	Idle time.Duration
	// TempDir is where messages of more than 64 KiB wait while they come in.
	// Empty means the system's.
	TempDir string
	// Room, if not nil, is asked whether there is room for a message of size
	// bytes (0 where the client has not said) before the message is sent, and for
	// the next part of a long one while it comes in.
	// Where it returns an error, the sender is told to try again later.
	Room func(size int64) error
	// Log gets what an operator should know; nil means slog.Default.
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Server is an LMTP server. It is safe for concurrent use.
type Server struct {
	opts Options
	to   Deliverer
	ctx  context.Context // ends when deliveries must
	stop context.CancelFunc

	rooms sync.Pool // of *bytes.Buffer: messages on their way in

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	serving   sync.WaitGroup // one for each of conns
	stopping  bool
}

// New returns a server that delivers to d.
func New(d Deliverer, opts Options) *Server {
	if opts.Hostname == "" {
		opts.Hostname = "localhost"
	}
	if opts.MaxSize == 0 {
		opts.MaxSize = 64 << 20
	}
	if opts.MaxRecipients == 0 {
		opts.MaxRecipients = 1000
	}
	if opts.MaxConns == 0 {
		opts.MaxConns = 500
	}
	if opts.Idle == 0 {
		opts.Idle = 5 * time.Minute
	}
	if opts.Room == nil {
		opts.Room = func(int64) error { return nil }
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	s := &Server{opts: opts, to: d, listeners: make(map[net.Listener]struct{}), conns: make(map[*conn]struct{})}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// Serve accepts connections until Shutdown. It closes ln.
func (s *Server) Serve(ln net.Listener) error {
	s.mu.Lock()
	s.listeners[ln] = struct{}{}
	stopping := s.stopping
	s.mu.Unlock()
	defer func() {
		ln.Close()
		s.mu.Lock()
		delete(s.listeners, ln)
		s.mu.Unlock()
	}()
	if stopping {
		return nil
	}
	pause := time.Duration(0)
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			s.accept(nc)
		case s.isStopping():
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default: // too many open files, or a client that was gone at once
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.opts.Log.Warn("a connection was not accepted", "err", err, "pause", pause)
			select {
			case <-time.After(pause):
			case <-s.ctx.Done():
			}
		}
	}
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// accept begins to serve a connection.
func (s *Server) accept(nc net.Conn) {
	c := newConn(nc, s.opts.Idle)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		nc.Close()
		return
	}
	full := len(s.conns) >= s.opts.MaxConns
	s.conns[c] = struct{}{}
	s.serving.Go(func() {
		defer func() {
			nc.Close()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		}()
		s.serveConn(c, full)
	})
}

// serveConn talks with a client to the end. A panic ends this connection only.
func (s *Server) serveConn(c *conn, full bool) {
	sn := &session{server: s, conn: c}
	defer func() {
		if v := recover(); v != nil {
			s.opts.Log.Error("serving a connection panicked", "addr", c.nc.RemoteAddr(), "panic", v, "stack", string(debug.Stack()))
			c.say("421 4.3.0 Internal server error")
			c.goodbye(nil)
		}
		sn.reset()
	}()
	c.say(reply("220 " + s.opts.Hostname + " LMTP Service Ready"))
	if full {
		c.say("421 4.3.2 Too many connections")
		c.goodbye(nil)
		return
	}
	for more := true; more; {
		line, err := c.readLine()
		if err == nil {
			more, err = sn.command(line)
		}
		if err != nil || !more {
			c.goodbye(err)
			return
		}
	}
}

// Shutdown lets the messages finish that are coming in, tells every client
// that the server goes away, and returns when all are gone. When ctx ends
// first, it closes what is left and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	for ln := range s.listeners {
		ln.Close()
	}
	for c := range s.conns {
		c.interrupt()
	}
	s.mu.Unlock()
	defer s.stop()
	gone := make(chan struct{})
	go func() {
		s.serving.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.nc.Close()
	}
	return ctx.Err()
}

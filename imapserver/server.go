package imapserver

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rookery-mail/rookery/imapwire"
)

// Server serves IMAP for one back end. It is made by New and safe for
// concurrent use. Several servers can live in one process.
type Server struct {
	backend   Backend
	auth      Authenticator
	opts      Options
	limits    Limits
	reg       *registry
	pool      *imapwire.BufferPool
	deflaters sync.Pool // of *flate.Writer, for COMPRESS
	log       *slog.Logger
	gate      *gate
	eager     *eagerGate
	features  Features

	lastID   atomic.Uint64
	made     time.Time
	watching atomic.Bool     // a timer looks after the commands that are under way
	ctx      context.Context // ends when the server stops
	cancel   context.CancelCauseFunc

	mu        sync.Mutex
	conns     map[*Conn]struct{}
	listeners map[net.Listener]struct{}
	closing   bool
	running   sync.WaitGroup
}

// ErrServerClosed is returned by Serve after Shutdown or Close.
var ErrServerClosed = errors.New("imapserver: server closed")

// New returns a server for a back end. It refuses extensions that contradict
// each other, limits that break the protocol, and a back end that declares
// features it does not have.
func New(backend Backend, auth Authenticator, opts Options) (*Server, error) {
	if backend == nil || auth == nil {
		return nil, errors.New("imapserver: New needs a Backend and an Authenticator")
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	if opts.Name == "" {
		opts.Name = "Rookery"
	}
	if opts.Version == "" {
		opts.Version = moduleVersion()
	}
	reg, err := newRegistry(append(builtin(), opts.Extensions...), backend.Features(), opts.Without)
	if err != nil {
		return nil, err
	}
	if err := opts.Limits.check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	limits := opts.Limits.withDefaults()
	return &Server{
		backend: backend, auth: auth, opts: opts, limits: limits, reg: reg,
		pool: imapwire.NewBufferPool(0), log: opts.Log, made: time.Now(),
		gate:     newGate(limits, opts.Allow, opts.Deny),
		eager:    newEagerGate(runtime.GOMAXPROCS(0)),
		features: backend.Features(),
		ctx:      ctx, cancel: cancel,
		conns: map[*Conn]struct{}{}, listeners: map[net.Listener]struct{}{},
	}, nil
}

// moduleVersion returns the version that the binary was built from.
func moduleVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == "github.com/rookery-mail/rookery" && m.Version != "" {
			return m.Version
		}
	}
	return "devel"
}

// ListenAndServe listens on a TCP address and serves IMAP there without
// implicit TLS. It returns when ctx ends or the server is closed.
func (s *Server) ListenAndServe(ctx context.Context, addr string) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("imapserver: listen on %s: %w", addr, err)
	}
	return s.Serve(ctx, ln)
}

// ServeTLS is Serve with implicit TLS, as on port 993. It needs Options.TLS.
func (s *Server) ServeTLS(ctx context.Context, ln net.Listener) error {
	if s.opts.TLS == nil {
		return errors.New("imapserver: ServeTLS needs Options.TLS")
	}
	return s.serve(ctx, tls.NewListener(eagerListener{ln, s.eager}, s.opts.TLS))
}

// Serve accepts connections on ln, and serves each in a goroutine of its own,
// until ctx ends or the server is closed. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	return s.serve(ctx, eagerListener{ln, s.eager})
}

func (s *Server) serve(ctx context.Context, ln net.Listener) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		ln.Close()
		return ErrServerClosed
	}
	s.listeners[ln] = struct{}{}
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	conns, _ := s.under(ctx)
	defer func() {
		stop()
		ln.Close()
		s.mu.Lock()
		delete(s.listeners, ln)
		s.mu.Unlock()
	}()
	for backoff := time.Duration(0); ; {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			backoff = 0
			go s.serveConn(conns, nc)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case s.isClosing() || errors.Is(err, net.ErrClosed):
			return ErrServerClosed
		default:
			// Too many open files, or a client that was gone before it was
			// accepted: wait a little instead of spinning, and go on.
			backoff = min(max(2*backoff, 5*time.Millisecond), time.Second)
			s.log.Warn("accepting a connection failed; trying again", "listener", ln.Addr(), "wait", backoff, "err", err)
			select {
			case <-time.After(backoff):
			case <-ctx.Done():
			}
		}
	}
}

// ServeConn serves one connection and returns when it has ended. It closes nc.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) {
	ctx, stop := s.under(ctx)
	defer stop()
	s.serveConn(ctx, nc)
}

// under returns a context for connections: when ctx ends, they are told and
// closed, and when the server ends, the context ends too. It is one for all that
// Serve accepts, so that it costs an idle connection nothing. stop ends it
// early; where all connections go on until then, that may be left out.
func (s *Server) under(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })
	untell := context.AfterFunc(ctx, func() {
		for _, c := range s.Connections() {
			if c.ctx.Context == ctx {
				c.Bye("Server is shutting down")
			}
		}
	})
	return ctx, func() {
		untell()
		unhook()
		cancel(nil)
	}
}

// refuse says BYE to a connection that is not served.
func (s *Server) refuse(nc net.Conn, why string) {
	s.log.Info("connection refused", "addr", nc.RemoteAddr(), "why", why)
	_ = nc.SetDeadline(time.Now().Add(2 * time.Second))
	_, _ = nc.Write([]byte("* BYE " + why + "\r\n"))
	nc.Close()
}

func (s *Server) track(c *Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.conns[c] = struct{}{}
	s.running.Add(1)
	return true
}

func (s *Server) untrack(c *Conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.running.Done()
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// Connections returns the connections that are open now.
func (s *Server) Connections() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	return all
}

// stuckPatience is how long Shutdown waits for a back end that does not return
// although its context has ended.
const stuckPatience = 5 * time.Second

// Shutdown stops listening, lets commands that are under way finish, says BYE
// to every client and waits until all connections have ended. When ctx ends
// before, it closes what is left, ends the contexts of the commands, and gives
// the back end a few seconds to return from them.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopListening()
	for _, c := range s.Connections() {
		c.leave(&hangUp{"", "Server is shutting down"})
	}
	done := make(chan struct{})
	go func() { s.running.Wait(); close(done) }()
	select {
	case <-done:
		s.cancel(ErrServerClosed)
		return nil
	case <-ctx.Done():
		s.cancel(ErrServerClosed)
		for _, c := range s.Connections() {
			c.nc.Close()
		}
		select {
		case <-done:
		case <-time.After(stuckPatience):
			s.log.Error("the back end does not return from some commands; they are left behind", "connections", len(s.Connections()))
		}
		return ctx.Err()
	}
}

// Close stops listening and closes all connections at once.
func (s *Server) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.Shutdown(ctx)
	return nil
}

func (s *Server) stopListening() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	for ln := range s.listeners {
		ln.Close()
	}
}

// now is the server's time.
func (s *Server) now() time.Time { return s.opts.Clock() }

func equalConstantTime(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

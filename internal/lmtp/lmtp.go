// Package lmtp takes mail from an MTA (RFC 2033) and hands it to a
// [Deliverer], which answers for each recipient after the message is durable.
//
// The commands are emersion/go-smtp's; the bytes of a message are read by this
// package, because they must stay as they came (see conn), and some replies are
// put in other words (see dialect.go). It is no SMTP server
// for the open net: who can connect can deliver. Start with [New].
package lmtp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/rookery-mail/rookery/imap"
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
	smtp *smtp.Server
	ctx  context.Context // ends when deliveries must
	stop context.CancelFunc

	rooms sync.Pool // of *bytes.Buffer: messages on their way in

	mu       sync.Mutex
	conns    map[*conn]struct{}
	stopping bool
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
	s := &Server{opts: opts, to: d, conns: make(map[*conn]struct{})}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.smtp = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return &session{server: s, smtp: c, conn: c.Conn().(*conn)}, nil
	}))
	s.smtp.LMTP = true
	s.smtp.Domain = opts.Hostname
	s.smtp.MaxRecipients = opts.MaxRecipients
	s.smtp.MaxMessageBytes = opts.MaxSize
	s.smtp.MaxLineLength = 0 // conn bounds the lines of commands; those of messages may be long
	s.smtp.EnableSMTPUTF8 = true
	s.smtp.ErrorLog = slog.NewLogLogger(opts.Log.Handler(), slog.LevelWarn)
	return s
}

// Serve accepts connections until Shutdown. It closes ln.
func (s *Server) Serve(ln net.Listener) error {
	return s.smtp.Serve(&listener{Listener: ln, server: s})
}

// Shutdown lets the messages finish that are coming in, tells every client
// that the server goes away, and returns when all are gone. When ctx ends
// first, it closes what is left and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	for c := range s.conns {
		c.interrupt()
	}
	s.mu.Unlock()
	err := s.smtp.Shutdown(ctx)
	s.stop()
	if ctx.Err() != nil {
		s.mu.Lock()
		for c := range s.conns {
			c.Conn.Close()
		}
		s.mu.Unlock()
	}
	if errors.Is(err, net.ErrClosed) || errors.Is(err, smtp.ErrServerClosed) {
		err = nil
	}
	return err
}

type listener struct {
	net.Listener
	server *Server
}

// Accept wraps what it accepts.
func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	s := l.server
	c := newConn(nc, s.opts.Idle)
	c.closed = func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= s.opts.MaxConns {
		c.full = true
	}
	s.conns[c] = struct{}{}
	if s.stopping {
		c.interrupt()
	}
	return c, nil
}

// Addresses lists the names under which the account of an address may be
// kept, the first choice first: the whole address, the address without its
// +detail, the local part, the local part without its +detail; each as it is
// and in lower case.
func Addresses(address string) []string {
	local, domain := address, ""
	if i := strings.LastIndexByte(address, '@'); i >= 0 {
		local, domain = address[:i], address[i+1:]
	}
	plain, _, detailed := strings.Cut(local, "+")
	var names []string
	add := func(name string) {
		for _, n := range [...]string{name, strings.ToLower(name)} {
			if n == "" {
				continue
			}
			known := false
			for _, have := range names {
				known = known || have == n
			}
			if !known {
				names = append(names, n)
			}
		}
	}
	if domain != "" {
		add(local + "@" + domain)
		// Domains have no case; local parts might.
		add(local + "@" + strings.ToLower(domain))
		if detailed && plain != "" {
			add(plain + "@" + domain)
			add(plain + "@" + strings.ToLower(domain))
		}
	}
	add(local)
	if detailed && plain != "" {
		add(plain)
	}
	return names
}

// refuse turns an error of Resolve into one for the client.
func (s *Server) refuse(err error, address string) error {
	if imap.KindOf(err) == imap.NotFound {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "No such user here"}
	}
	return s.reply(err, address)
}

// reply turns an error of Deliver into one for the client. Only what will not
// change by itself is refused for good: a sender that is told to try again has
// lost nothing.
func (s *Server) reply(err error, address string) error {
	switch imap.KindOf(err) {
	case imap.TooBig:
		return &smtp.SMTPError{Code: 552, EnhancedCode: smtp.EnhancedCode{5, 3, 4}, Message: "Message is too big"}
	case imap.OverQuota:
		return &smtp.SMTPError{Code: 552, EnhancedCode: smtp.EnhancedCode{5, 2, 2}, Message: "Mailbox is full"}
	}
	s.opts.Log.Error("delivery failed; the sender was told to try again", "recipient", address, "err", err)
	return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "Cannot deliver now, try again later"}
}

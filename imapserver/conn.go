package imapserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rookery-mail/rookery/imapwire"
)

// Conn is a connection of a client. Its methods may be called from any
// goroutine unless they say otherwise.
//
// One goroutine at a time reads from the client and runs its commands (see
// rest.go). Whoever writes to the client, or looks at its view of the mailbox,
// holds mu: that goroutine while a command runs, and a short-lived one that
// brings news while the client idles. Nobody holds mu while waiting for the
// client's next command, so an idle connection costs one parked goroutine with
// a small stack, and no buffers.
type Conn struct {
	srv  *Server
	id   uint64
	addr netip.Addr
	nc   net.Conn // as it was accepted: closing it ends everything
	// eager is what nc reads from, nil where that cannot look for input.
	eager *eagerConn
	ctx   connContext
	// trace is nil unless somebody listens.
	trace     *tracer
	leaveGate func()

	mu        sync.Mutex
	transport transport
	dec       *imapwire.Decoder
	enc       *imapwire.Encoder
	login     login
	sel       *selection // nil unless a mailbox is selected
	stopLook  func()     // ends the look at the mailbox that an idling client waits for
	enabled   enabled
	counts    counts
	ending    bool      // BYE has been sent
	idler     *Call     // the IDLE that is under way
	silent    time.Time // since when the client has given no command
	values    map[any]any

	// parked is set while the reader waits for the client without holding mu,
	// idling while it does so in IDLE.
	parked, idling atomic.Bool
	shaking        atomic.Bool // a TLS handshake is under way
	reading        atomic.Bool // a command is read, and none runs yet
	// leaving is the BYE that is to be said when no command is under way.
	leaving atomic.Pointer[hangUp]
	command atomic.Pointer[underWay] // nil between commands
	// poller is the selected mailbox, for Poll, which does not hold mu. Anything
	// but nil in it can be called.
	poller atomic.Pointer[Poller]

	news newsQueue
	info connInfo
}

// transport is what the bytes go over.
type transport struct {
	nc         net.Conn
	secure     bool // TLS, by STARTTLS or from the start
	compressed bool
}

// login is who the client is.
type login struct {
	user    string
	account Account
	leave   func() // gives the user's place in the gate back
}

// enabled is what the client has turned on (RFC 5161, RFC 7162).
type enabled struct {
	rev2, condstore, qresync, utf8 bool
}

// counts are the numbers that limits look at.
type counts struct {
	commands  int // all so far
	badInARow int
}

func (s *Server) newConn(ctx context.Context, nc net.Conn, addr netip.Addr) *Conn {
	c := &Conn{srv: s, id: s.lastID.Add(1), addr: addr, nc: nc, eager: eagerOf(nc)}
	c.ctx = connContext{ctx, c}
	_, c.transport.secure = nc.(*tls.Conn)
	c.trace = newTracer(c)
	c.setTransport(nc)
	c.info.init(c)
	return c
}

// setTransport makes nc what the codec reads from and writes to.
func (c *Conn) setTransport(nc net.Conn) {
	c.transport.nc = nc
	if c.dec == nil {
		c.dec = imapwire.NewDecoder(c.reader(nc), c.decoderOptions())
		c.enc = imapwire.NewEncoder(c.writer(nc), imapwire.EncoderOptions{Pool: c.srv.pool})
	}
}

func (c *Conn) decoderOptions() imapwire.DecoderOptions {
	return imapwire.DecoderOptions{
		Pool: c.srv.pool, Limits: c.decoderLimits(),
		Continue: func() error {
			c.enc.Raw("+ OK\r\n")
			return c.enc.Flush()
		},
	}
}

// decoderLimits are smaller before login: who has not said yet who they are
// has no long commands to give.
func (c *Conn) decoderLimits() imapwire.Limits {
	l := c.srv.limits
	line, literal, skip := l.Line, l.Literal, l.Skip
	if c.login.account == nil {
		line, literal, skip = min(line, 8<<10), min(literal, 8<<10), min(skip, 1<<20)
	}
	return imapwire.Limits{
		MaxLine: line, MaxLiteral: literal, MaxCommand: line + 4*literal,
		MaxDepth: l.SearchDepth, MaxSkip: skip,
	}
}

// log is the server's log with the connection's number. It is made anew each
// time: most connections log nothing while they live.
func (c *Conn) log() *slog.Logger { return c.srv.log.With("conn", c.id) }

// guard turns a panic into an error, so that it ends one connection only.
func (c *Conn) guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.log().Error("panic; the connection ends", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("imapserver: panic: %v", p)
		}
	}()
	return f()
}

// greet says hello, unless a hook objects.
func (c *Conn) greet() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx := &c.ctx
	_ = c.transport.nc.SetReadDeadline(time.Now().Add(c.maxSilence()))
	if tc, ok := c.transport.nc.(*tls.Conn); ok {
		if err := c.handshake(ctx, tc); err != nil {
			return err
		}
	}
	if hook := c.srv.opts.Hooks.Connected; hook != nil {
		if err := hook(ctx, c); err != nil {
			r := c.replyTo(err)
			c.sendBye(r.code, r.text)
			return err
		}
	}
	c.enc.Raw("* OK [CAPABILITY ")
	c.enc.RawBytes(c.appendCapabilities(nil))
	c.enc.Raw("] " + c.srv.opts.Name + " ready\r\n")
	return c.enc.Flush()
}

// readFailed says why the connection ends, to the client where it can hear it.
// mu is held.
func (c *Conn) readFailed(err error) error {
	if c.ending {
		return io.EOF
	}
	if h := c.leaving.Load(); h != nil {
		return c.hang(h)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.sendBye("", "Autologout; idle for too long")
		return fmt.Errorf("idle for too long: %w", err)
	}
	return err
}

// byePatience is how long a client may pause from the moment that the
// connection is to end, and how long Bye lets a command go on.
const byePatience = 5 * time.Second

// errLeaving wakes the reader up: BYE is to be said.
var errLeaving = errors.New("imapserver: the connection is to end")

// Bye ends the connection: the command that is under way is finished, if that
// takes a few seconds at most; the client is told text with BYE, and the
// transport is closed. Bye does not wait for any of that.
func (c *Conn) Bye(text string) {
	c.leave(&hangUp{"", text})
	time.AfterFunc(byePatience, func() { c.nc.Close() })
}

// leave makes the connection end as soon as no command is under way.
func (c *Conn) leave(h *hangUp) {
	if !c.leaving.CompareAndSwap(nil, h) {
		return
	}
	// The reader looks at leaving when parked, shaking or reading is set, so one
	// of the two sees what the other has done. Half a command is not under way.
	// A client that has stopped in the midst of a message, or does not read what
	// it asked for, is not waited for long.
	now := time.Now()
	_ = c.nc.SetDeadline(now.Add(byePatience))
	if c.parked.Load() || c.shaking.Load() || c.reading.Load() {
		_ = c.nc.SetReadDeadline(now)
	}
}

// handshake does the server's part of TLS.
func (c *Conn) handshake(ctx context.Context, tc *tls.Conn) error {
	_ = tc.SetDeadline(time.Now().Add(c.srv.limits.LoginIdle))
	c.shaking.Store(true)
	defer c.shaking.Store(false)
	if c.leaving.Load() != nil {
		return errLeaving
	}
	if err := tc.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	return tc.SetDeadline(time.Time{})
}

// sendBye writes BYE, once. mu is held.
func (c *Conn) sendBye(code, text string) {
	if c.ending {
		return
	}
	c.ending = true
	c.reply("*", reply{"BYE", code, text})
	_ = c.enc.Flush()
}

// end closes everything that the connection has.
func (c *Conn) end(err error) {
	loggedOut := errors.Is(err, errLogout)
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, errLogout) {
		c.log().Debug("connection ended", "user", c.login.user, "commands", c.counts.commands)
		err = nil
	} else {
		c.log().Info("connection ended", "user", c.login.user, "commands", c.counts.commands, "err", err)
	}
	c.mu.Lock()
	lastWord := loggedOut || c.ending
	c.ending = true
	// What is not the server's own may panic here too, and the rest must be
	// given back all the same.
	_ = c.guard(func() error { c.unselect(context.WithoutCancel(c.srv.ctx)); return nil })
	_ = c.guard(func() error { c.logOff(); return nil })
	_ = c.enc.Flush()
	c.dec.Close()
	c.enc.Release()
	nc := c.transport.nc
	c.mu.Unlock()
	c.trace.end(lastWord)
	if lastWord {
		linger(nc)
	}
	nc.Close()
	c.nc.Close()
	if hook := c.srv.opts.Hooks.Closed; hook != nil {
		_ = c.guard(func() error { hook(c, err); return nil })
	}
}

// linger makes sure that the client gets the last word over TCP: a socket that
// is closed with input that nobody has read takes back what is on its way to the
// client, and a client that still sends a message that is too large, or has
// pipelined commands behind LOGOUT, would never know why it was cut off.
func linger(nc net.Conn) {
	const patience = time.Second
	if dc, ok := nc.(*deflateConn); ok {
		nc = dc.Conn
	}
	if tc, ok := nc.(*tls.Conn); ok {
		_ = tc.CloseWrite() // says that TLS ends
		nc = tc.NetConn()
	}
	half, ok := nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = nc.SetReadDeadline(time.Now().Add(patience))
	_, _ = io.Copy(io.Discard, nc)
}

// logOff gives the account back.
func (c *Conn) logOff() {
	if leave := c.login.leave; leave != nil {
		defer leave()
	}
	if c.login.account != nil {
		if err := c.login.account.Close(); err != nil {
			c.log().Warn("closing the account failed", "user", c.login.user, "err", err)
		}
	}
	c.login = login{}
}

// state is where the connection is in RFC 9051 section 3.
func (c *Conn) state() States {
	switch {
	case c.login.account == nil:
		return NotAuthenticated
	case c.sel == nil:
		return Authenticated
	}
	return Selected
}

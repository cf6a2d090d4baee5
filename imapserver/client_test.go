package imapserver_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/internal/race"
	"github.com/rookery-mail/rookery/memory"
)

// patience is how long a test waits before it says that nothing came: longer than
// a slow machine with much else to do takes, which is minutes for some commands
// when the race detector looks on.
const patience = (1 + race.Factor) * time.Minute

// logBook keeps what a server logs.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logBook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// quiet is a log that nobody reads.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// overMemory is a back end over a model.
func overMemory(t testing.TB, model imapmodel.Model) imapserver.Backend {
	t.Helper()
	backend, err := imapmodel.New(model, imapmodel.Options{State: &imapmodel.MemoryState{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { backend.Close() })
	return backend
}

// newServer makes a server that takes passwords without TLS. It ends with t.
func newServer(t testing.TB, backend imapserver.Backend, opts imapserver.Options) *imapserver.Server {
	t.Helper()
	if opts.Log == nil {
		opts.Log = quiet()
	}
	if opts.TLS == nil {
		opts.InsecureAuth = true
	}
	srv, err := imapserver.New(backend, users, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close() })
	return srv
}

// memoryServer is a server over an empty model.
func memoryServer(t testing.TB, opts imapserver.Options) *imapserver.Server {
	t.Helper()
	return newServer(t, overMemory(t, memory.New()), opts)
}

// pump reads a connection all the time into memory, so that server and client
// do not wait for each other over a pipe.
type pump struct {
	net.Conn // for writing

	mu      sync.Mutex
	arrived *sync.Cond
	buf     []byte
	err     error
}

func newPump(conn net.Conn) *pump {
	p := &pump{Conn: conn}
	p.arrived = sync.NewCond(&p.mu)
	go func() {
		chunk := make([]byte, 16<<10)
		for {
			n, err := conn.Read(chunk)
			p.mu.Lock()
			p.buf = append(p.buf, chunk[:n]...)
			p.err = err
			p.arrived.Broadcast()
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return p
}

// Read waits for something, with patience.
func (p *pump) Read(b []byte) (int, error) {
	late := false
	timer := time.AfterFunc(patience, func() {
		p.mu.Lock()
		late = true
		p.arrived.Broadcast()
		p.mu.Unlock()
	})
	defer timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.buf) == 0 && p.err == nil && !late {
		p.arrived.Wait()
	}
	if len(p.buf) == 0 && p.err == nil {
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(b, p.buf)
	p.buf = p.buf[n:]
	if n == 0 {
		return 0, p.err
	}
	return n, nil
}

// waiting is how many bytes have come that nobody has read.
func (p *pump) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.buf)
}

// client speaks to a server over a pipe.
type client struct {
	t      testing.TB
	pump   *pump
	conn   net.Conn // the pump, or what is above it
	in     *bufio.Reader
	serial int
}

// dial connects without waiting for the greeting.
func dial(t testing.TB, srv *imapserver.Server) *client {
	t.Helper()
	ours, theirs := net.Pipe()
	go srv.ServeConn(context.Background(), theirs)
	return newClient(t, ours)
}

func newClient(t testing.TB, conn net.Conn) *client {
	p := newPump(conn)
	t.Cleanup(func() { conn.Close() })
	return &client{t: t, pump: p, conn: p, in: bufio.NewReader(p)}
}

// startTLS gives STARTTLS and does the handshake.
func (c *client) startTLS() {
	c.t.Helper()
	c.startTLSBehind("s STARTTLS\r\n")
}

// startTLSBehind is startTLS behind something else in one write.
func (c *client) startTLSBehind(text string) {
	c.t.Helper()
	c.send(text)
	c.want("s OK ")
	tc := tls.Client(c.pump, &tls.Config{InsecureSkipVerify: true})
	if err := tc.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.conn, c.in = tc, bufio.NewReader(tc)
}

// readResponse reads a line and the literals in it.
func readResponse(br *bufio.Reader) (string, error) {
	var all []byte
	for {
		line, err := br.ReadBytes('\n')
		all = append(all, line...)
		if err != nil {
			return string(all), err
		}
		line = bytes.TrimSuffix(line, []byte("\r\n"))
		open := bytes.LastIndexByte(line, '{')
		if open < 0 || !bytes.HasSuffix(line, []byte("}")) {
			return string(all[:len(all)-2]), nil
		}
		n, err := strconv.Atoi(string(line[open+1 : len(line)-1]))
		if err != nil {
			return string(all[:len(all)-2]), nil
		}
		start := len(all)
		all = append(all, make([]byte, n)...)
		if _, err := io.ReadFull(br, all[start:]); err != nil {
			return string(all), err
		}
	}
}

// connect dials and reads the greeting.
func connect(t testing.TB, srv *imapserver.Server) *client {
	t.Helper()
	c := dial(t, srv)
	c.want("* OK ")
	return c
}

// login connects and logs in as ann.
func login(t testing.TB, srv *imapserver.Server) *client {
	t.Helper()
	c := connect(t, srv)
	c.ok("LOGIN ann secret")
	return c
}

// selected connects, logs in as ann and selects INBOX.
func selected(t testing.TB, srv *imapserver.Server) *client {
	t.Helper()
	c := login(t, srv)
	c.ok("SELECT INBOX")
	return c
}

// line returns the next line of the server; "" at the end of the connection.
func (c *client) line() string {
	c.t.Helper()
	line, err := readResponse(c.in)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatal("the server says nothing")
	}
	return line
}

// want reads as many lines as there are prefixes, each of which must begin so.
func (c *client) want(prefixes ...string) {
	c.t.Helper()
	for _, p := range prefixes {
		if got := c.line(); !strings.HasPrefix(got, p) {
			c.t.Fatalf("got %.200q, want %q...", got, p)
		}
	}
}

// wantEnd expects the end of the connection.
func (c *client) wantEnd() {
	c.t.Helper()
	if got := c.line(); got != "" {
		c.t.Fatalf("got %.200q, want the end", got)
	}
}

// send writes bytes as they are.
func (c *client) send(text string) {
	c.t.Helper()
	_ = c.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatalf("send %.60q: %v", text, err)
	}
}

// do gives a command and returns the untagged responses and the tagged one,
// without its tag.
func (c *client) do(command string) (untagged []string, tagged string) {
	c.t.Helper()
	c.serial++
	tag := fmt.Sprintf("t%d", c.serial)
	c.send(tag + " " + command + "\r\n")
	return c.reply(tag)
}

// reply reads up to the tagged response.
func (c *client) reply(tag string) (untagged []string, tagged string) {
	c.t.Helper()
	for {
		line := c.line()
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			return untagged, rest
		}
		if line == "" {
			c.t.Fatalf("the connection has ended before %s; untagged: %q", tag, untagged)
		}
		untagged = append(untagged, line)
	}
}

// ok gives a command that must succeed and returns its untagged responses.
func (c *client) ok(command string) []string {
	c.t.Helper()
	return c.gets(command, "OK ")
}

// gets gives a command whose tagged reply must begin as said.
func (c *client) gets(command, prefix string) []string {
	c.t.Helper()
	untagged, tagged := c.do(command)
	if !strings.HasPrefix(tagged, prefix) {
		c.t.Fatalf("%.80s: got %q, want %s", command, tagged, prefix)
	}
	return untagged
}

// idle begins to idle.
func (c *client) idle() {
	c.t.Helper()
	c.send("i IDLE\r\n")
	c.want("+ idling")
}

// until waits for something that another goroutine brings about.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still waiting until %s", what)
		}
	}
}

// hello is a message to append.
const hello = "From: Ann <ann@example.org>\r\nSubject: hello\r\n\r\nHello.\r\n"

// appendTo appends messages with non-synchronising literals.
func (c *client) appendTo(mailbox string, messages ...string) {
	c.t.Helper()
	for _, m := range messages {
		c.ok(fmt.Sprintf("APPEND %s {%d+}\r\n%s", mailbox, len(m), m))
	}
}

// memoryBackend is a back end over an empty model.
func memoryBackend(t testing.TB) imapserver.Backend { return overMemory(t, memory.New()) }

// swallowing is a back end that counts what is uploaded and keeps none of it
// but the first line.
type swallowing struct {
	imapserver.Backend
	got int64
}

func (s *swallowing) Open(ctx context.Context, user string) (imapserver.Account, error) {
	a, err := s.Backend.Open(ctx, user)
	return &swallowingAccount{a, s}, err
}

type swallowingAccount struct {
	imapserver.Account
	s *swallowing
}

func (a *swallowingAccount) Upload(ctx context.Context, _ int64) (imapserver.Upload, error) {
	up, err := a.Account.Upload(ctx, 2)
	if err == nil {
		_, err = up.Write([]byte("x\n"))
	}
	return &swallowingUpload{up, a.s}, err
}

func (a *swallowingAccount) Append(ctx context.Context, name string, msgs []imapserver.AppendMessage) (*imapserver.AppendResult, error) {
	for i := range msgs {
		msgs[i].Upload = msgs[i].Upload.(*swallowingUpload).Upload
	}
	return a.Account.Append(ctx, name, msgs)
}

type swallowingUpload struct {
	imapserver.Upload
	s *swallowing
}

func (u *swallowingUpload) Write(p []byte) (int, error) {
	u.s.got += int64(len(p))
	return len(p), nil
}

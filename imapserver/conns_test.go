package imapserver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imapwire"
	"github.com/rookery-mail/rookery/memory"
)

// gated is a command that waits until it is let through.
type gated struct {
	begun, pass chan struct{}
}

func newGated() gated { return gated{make(chan struct{}, 10), make(chan struct{})} }

func (g gated) extension() *imapserver.Extension {
	return &imapserver.Extension{Name: "X-WAIT", RFC: "-", Commands: []*imapserver.Command{
		command("XWAIT", func(ctx context.Context, c *imapserver.Call) error {
			c.Writer().Raw("* XWAITED\r\n")
			g.begun <- struct{}{}
			<-g.pass
			return nil
		}),
	}}
}

// only is the one connection of a server.
func only(t testing.TB, srv *imapserver.Server) *imapserver.Conn {
	t.Helper()
	all := srv.Connections()
	if len(all) != 1 {
		t.Fatalf("%d connections", len(all))
	}
	return all[0]
}

func TestInfo(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	srv := memoryServer(t, imapserver.Options{TLS: testTLS(t), Clock: func() time.Time { return now }})
	c := connect(t, srv)
	conn := only(t, srv)
	if i := conn.Info(); i.User != "" || i.State != imapserver.NotAuthenticated || i.Secure || i.Started != now || i.ID == 0 {
		t.Errorf("at first: %+v", i)
	}
	c.ok(`ID ("name" "nobody knows")`)
	if id := conn.ClientID(); id["name"] != "nobody knows" {
		t.Errorf("client: %v", id)
	}
	c.startTLS()
	until(t, "the server has TLS", func() bool { return conn.Info().Secure })
	if i := conn.Info(); !i.Secure || i.ClientID != nil {
		t.Errorf("with TLS: %+v", i)
	}
	started := now
	now = now.Add(time.Minute)
	c.ok("LOGIN ann secret")
	c.ok(`ID ("name" "Test" "version" "1")`)
	c.ok("EXAMINE INBOX")
	c.ok("COMPRESS DEFLATE")
	until(t, "compression is on", func() bool { return conn.Info().Compressed && conn.Info().Commands == 6 })
	i := conn.Info()
	if i.User != "ann" || i.State != imapserver.Selected || i.Mailbox != "INBOX" || !i.ReadOnly || !i.Compressed ||
		i.ClientID["name"] != "Test" || i.Started != started || i.LastActive != now || i.Commands != 6 {
		t.Errorf("at last: %+v", i)
	}
	i.ClientID["name"] = "changed"
	if conn.ClientID()["name"] != "Test" || conn.Server() != srv || conn.User() != "ann" {
		t.Error("what Info has returned is the caller's own")
	}
}

func TestPush(t *testing.T) {
	g := newGated()
	srv := memoryServer(t, imapserver.Options{Extensions: []*imapserver.Extension{g.extension()}})
	c := selected(t, srv)
	conn := only(t, srv)
	say := func(text string) { conn.Push(func(w *imapwire.Encoder) { w.Raw("* OK " + text + "\r\n") }) }

	say("while parked")
	c.want("* OK while parked")

	c.idle()
	say("while idle")
	c.want("* OK while idle")
	conn.Alert("text\r\n* with ä line end")
	c.want("* OK [ALERT] text  * with ?? line end")
	c.send("DONE\r\n")
	c.want("i OK ")

	c.send("w XWAIT\r\n")
	<-g.begun
	say("while a command runs, 1")
	say("while a command runs, 2")
	g.pass <- struct{}{}
	c.want("* XWAITED", "* OK while a command runs, 1", "* OK while a command runs, 2", "w OK ")

	// Many at once, in order as each goroutine sends them, none lost.
	var all sync.WaitGroup
	for g := range 10 {
		all.Go(func() {
			for i := range 50 {
				say(fmt.Sprintf("%d %d", g, i))
			}
		})
	}
	last := map[int]int{}
	for range 500 {
		var g, i int
		if line := c.line(); line == "" {
			t.Fatal("the end")
		} else if _, err := fmt.Sscanf(line, "* OK %d %d", &g, &i); err != nil || last[g] != i {
			t.Fatalf("got %q, want number %d (%v)", line, last[g], err)
		}
		last[g]++
	}
	all.Wait()
	c.ok("NOOP")
}

// TestPushIsBounded: what is pushed to a client that is busy does not pile up.
func TestPushIsBounded(t *testing.T) {
	g := newGated()
	srv := memoryServer(t, imapserver.Options{Extensions: []*imapserver.Extension{g.extension()}})
	c := login(t, srv)
	conn := only(t, srv)
	c.send("w XWAIT\r\n")
	<-g.begun
	for range 5000 {
		conn.Push(func(w *imapwire.Encoder) { w.Raw("* OK news\r\n") })
	}
	g.pass <- struct{}{}
	untagged, _ := c.reply("w")
	if n := len(untagged); n != 1001 {
		t.Errorf("%d responses, want XWAITED and 1,000", n)
	}
}

// hidden is a model that does not say when it has changed.
type hidden struct{ *memory.Model }

func (h hidden) Features() imapmodel.Features { return h.Model.Features() &^ imapmodel.FeatureWatch }

func TestPoll(t *testing.T) {
	m := memory.New()
	srv := newServer(t, overMemory(t, hidden{m}), imapserver.Options{})
	c := selected(t, srv)
	conn := only(t, srv)
	c.idle()
	m.Add("ann", "INBOX", hello)
	until(t, "it is told", func() bool {
		conn.Poll()
		return c.pump.waiting() > 0
	})
	c.want("* 1 EXISTS", "* 1 RECENT")
	c.send("DONE\r\n")
	c.want("i OK ")
}

func TestValue(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{})
	connect(t, srv)
	type key struct{}
	conn := only(t, srv)
	if conn.Value(key{}) != nil {
		t.Error("a value from nowhere")
	}
	conn.SetValue(key{}, 5)
	if conn.Value(key{}) != 5 {
		t.Error("the value is lost")
	}
}

func TestBye(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		srv := memoryServer(t, imapserver.Options{})
		c := selected(t, srv)
		c.idle()
		only(t, srv).Bye("because\r\n* OK not")
		c.want("* BYE because  * OK not")
		c.wantEnd()
	})
	t.Run("parked", func(t *testing.T) {
		srv := memoryServer(t, imapserver.Options{})
		c := connect(t, srv)
		only(t, srv).Bye("because")
		c.want("* BYE because")
		c.wantEnd()
	})
	t.Run("command under way", func(t *testing.T) {
		g := newGated()
		srv := memoryServer(t, imapserver.Options{Extensions: []*imapserver.Extension{g.extension()}})
		c := login(t, srv)
		c.send("w XWAIT\r\nx NOOP\r\n")
		<-g.begun
		only(t, srv).Bye("because") // does not wait
		only(t, srv).Bye("once more")
		g.pass <- struct{}{}
		c.want("* XWAITED", "w OK ", "* BYE because") // and x is not run
		c.wantEnd()
	})
	t.Run("from a hook", func(t *testing.T) {
		srv := memoryServer(t, imapserver.Options{Hooks: imapserver.Hooks{
			Authenticated: func(_ context.Context, c *imapserver.Conn) error { c.Bye("not today"); return nil },
		}})
		c := connect(t, srv)
		c.ok("LOGIN ann secret")
		c.want("* BYE not today")
		c.wantEnd()
	})
}

func TestShutdown(t *testing.T) {
	g := newGated()
	srv := memoryServer(t, imapserver.Options{Extensions: []*imapserver.Extension{g.extension()}})
	idle, parked, busy := selected(t, srv), connect(t, srv), login(t, srv)
	idle.idle()
	half := selected(t, srv)
	half.send("h FETCH 1 BODY[") // half a command is not under way
	busy.send("w XWAIT\r\n")
	<-g.begun
	done := make(chan error)
	go func() { done <- srv.Shutdown(context.Background()) }()
	half.want("* BYE ")
	half.wantEnd()
	idle.want("* BYE ")
	idle.wantEnd()
	parked.want("* BYE ")
	parked.wantEnd()
	dial(t, srv).want("* BYE [UNAVAILABLE] ")
	select {
	case err := <-done:
		t.Fatalf("ended (%v) with a command under way", err)
	default:
	}
	g.pass <- struct{}{}
	busy.want("* XWAITED", "w OK ", "* BYE ")
	busy.wantEnd()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(srv.Connections()); n != 0 {
		t.Errorf("%d connections are left", n)
	}
	if err := srv.Shutdown(context.Background()); err != nil {
		t.Errorf("once more: %v", err)
	}
}

// TestShutdownInTime: a command that does not end is cut off with its context.
func TestShutdownInTime(t *testing.T) {
	begun := make(chan struct{})
	wait := &imapserver.Extension{Name: "X-WAIT", RFC: "-", Commands: []*imapserver.Command{
		command("XWAIT", func(ctx context.Context, _ *imapserver.Call) error {
			close(begun)
			<-ctx.Done()
			return ctx.Err()
		}),
	}}
	srv := memoryServer(t, imapserver.Options{Extensions: []*imapserver.Extension{wait}})
	c := login(t, srv)
	c.send("w XWAIT\r\n")
	<-begun
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := srv.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if n := len(srv.Connections()); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

// TestCancelled: when the context of ServeConn ends, so do the commands, and
// the client is told why.
func TestCancelled(t *testing.T) {
	begun := make(chan struct{})
	wait := &imapserver.Extension{Name: "X-WAIT", RFC: "-", Commands: []*imapserver.Command{
		command("XWAIT", func(ctx context.Context, _ *imapserver.Call) error {
			close(begun)
			<-ctx.Done()
			return imap.E("wait", imap.Other, ctx.Err())
		}),
	}}
	var log logBook
	srv := memoryServer(t, imapserver.Options{Extensions: []*imapserver.Extension{wait}, Log: log.logger()})
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	go srv.ServeConn(ctx, theirs)
	c := newClient(t, ours)
	c.want("* OK ")
	c.ok("LOGIN ann secret")
	c.send("w XWAIT\r\n")
	<-begun
	cancel()
	c.want("w NO [UNAVAILABLE] ", "* BYE ")
	c.wantEnd()
	if strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("the operator is alarmed: %s", log.String())
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func TestServe(t *testing.T) {
	for name, stop := range map[string]func(*imapserver.Server, context.CancelFunc, net.Listener){
		"context":  func(_ *imapserver.Server, cancel context.CancelFunc, _ net.Listener) { cancel() },
		"shutdown": func(s *imapserver.Server, _ context.CancelFunc, _ net.Listener) { s.Shutdown(context.Background()) },
		"close":    func(s *imapserver.Server, _ context.CancelFunc, _ net.Listener) { s.Close() },
		"listener": func(_ *imapserver.Server, _ context.CancelFunc, ln net.Listener) { ln.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			srv := memoryServer(t, imapserver.Options{})
			ln := listen(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			done := make(chan error)
			go func() { done <- srv.Serve(ctx, ln) }()
			nc, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			c := newClient(t, nc)
			c.want("* OK ")
			c.ok("LOGIN ann secret")
			if a := only(t, srv).Info().Addr; a != netip.MustParseAddr("127.0.0.1") {
				t.Errorf("address %v", a)
			}
			stop(srv, cancel, ln)
			err = <-done
			switch name {
			case "context":
				if !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
			default:
				if !errors.Is(err, imapserver.ErrServerClosed) {
					t.Errorf("got %v", err)
				}
			}
			switch name {
			case "listener":
				c.ok("NOOP")
			case "close":
				for line := "-"; line != ""; line = c.line() {
				}
			default:
				c.want("* BYE ")
				c.wantEnd()
			}
		})
	}
	srv := memoryServer(t, imapserver.Options{})
	srv.Close()
	if err := srv.Serve(context.Background(), listen(t)); !errors.Is(err, imapserver.ErrServerClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := srv.ServeTLS(context.Background(), listen(t)); err == nil {
		t.Error("ServeTLS without a certificate")
	}
}

// TestTwoServers: servers of one process have nothing in common.
func TestTwoServers(t *testing.T) {
	one := memoryServer(t, imapserver.Options{Name: "One", Limits: imapserver.Limits{Connections: 1}})
	two := memoryServer(t, imapserver.Options{Name: "Two", Limits: imapserver.Limits{Connections: 1}, Extensions: []*imapserver.Extension{everything()}})
	a, b := login(t, one), login(t, two)
	a.appendTo("INBOX", hello)
	a.gets("XECHO hi", "BAD ")
	b.ok("XECHO hi")
	if got := b.ok("STATUS INBOX (MESSAGES)")[0]; got != "* STATUS INBOX (MESSAGES 0)" {
		t.Errorf("got %s", got)
	}
	if got := a.ok("ID NIL")[0]; !strings.Contains(got, `"One"`) {
		t.Errorf("got %s", got)
	}
	one.Close()
	b.ok("NOOP")
}

// brokenModel is a model that panics where it is told to.
type brokenModel struct {
	*memory.Model
	mu    sync.Mutex
	where string
}

func (m *brokenModel) set(where string) {
	m.mu.Lock()
	m.where = where
	m.mu.Unlock()
}

func (m *brokenModel) at(where string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.where == where {
		panic("broken at " + where)
	}
}

func (m *brokenModel) Append(ctx context.Context, user, mailbox string, msg *imapmodel.NewMessage) (string, error) {
	m.at("append")
	return m.Model.Append(ctx, user, mailbox, msg)
}

func (m *brokenModel) LoggedOut(user string) {
	m.at("logged out")
	m.Model.LoggedOut(user)
}

func (m *brokenModel) Unselected(user, mailbox string) {
	m.at("unselected")
	m.Model.Unselected(user, mailbox)
}

// TestPanic: a panic ends its connection, is logged, and harms nobody else.
func TestPanic(t *testing.T) {
	bang := &imapserver.Extension{Name: "X-BANG", RFC: "-", Commands: []*imapserver.Command{
		command("XBANG", func(context.Context, *imapserver.Call) error { panic("bang") }),
		{Name: "XPARSE", States: imapserver.AnyState, Parse: func(*imapserver.Call, *imapwire.Decoder) imapserver.Run { panic("bang") }},
	}}
	hook := ""
	model := &brokenModel{Model: memory.New()}
	var log logBook
	srv := newServer(t, overMemory(t, model), imapserver.Options{
		Extensions: []*imapserver.Extension{bang}, Log: log.logger(),
		Limits: imapserver.Limits{ConnectionsPerUser: 2},
		Hooks: imapserver.Hooks{
			Connected: func(context.Context, *imapserver.Conn) error {
				if hook == "connected" {
					panic(hook)
				}
				return nil
			},
			Closed: func(*imapserver.Conn, error) {
				if hook == "closed" {
					panic(hook)
				}
			},
		},
	})
	other := selected(t, srv)
	other.appendTo("INBOX", hello)
	for name, act := range map[string]func(c *client){
		"command": func(c *client) { c.send("a XBANG\r\n") },
		"parsing": func(c *client) { c.send("a XPARSE\r\n") },
		"model":   func(c *client) { model.set("append"); c.send("a APPEND INBOX {1+}\r\nx\r\n") },
		"push": func(c *client) {
			for _, conn := range srv.Connections() {
				if conn.User() == "ann" && conn.Info().Mailbox == "" {
					conn.Push(func(*imapwire.Encoder) { panic("bang") })
				}
			}
		},
		"end of mailbox": func(c *client) { model.set("unselected"); c.send("a LOGOUT\r\n") },
		"end of account": func(c *client) { model.set("logged out"); c.send("a LOGOUT\r\n") },
		"closed":         func(c *client) { hook = "closed"; c.send("a LOGOUT\r\n") },
		"connected":      func(c *client) { hook = "connected"; dial(t, srv).wantEnd(); c.ok("NOOP"); c.send("a LOGOUT\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			c := login(t, srv)
			c.t = t
			if name != "push" {
				c.ok("SELECT INBOX")
			}
			act(c)
			for line := "-"; line != ""; line = c.line() {
			}
			until(t, "the connection is gone", func() bool { return len(srv.Connections()) == 1 })
			model.set("")
			hook = ""
			other.ok("NOOP")
			other.ok("FETCH 1 BODY.PEEK[]")
		})
	}
	if text := log.String(); !strings.Contains(text, "bang") || !strings.Contains(text, "goroutine") {
		t.Error("the log does not say where it was")
	}
}

// TestHooks: each in its turn, with what is known by then.
func TestHooks(t *testing.T) {
	var mu sync.Mutex
	var told []string
	tell := func(c *imapserver.Conn, format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprintf(format, args...)+" "+c.User())
	}
	srv := memoryServer(t, imapserver.Options{Hooks: imapserver.Hooks{
		Connected:     func(_ context.Context, c *imapserver.Conn) error { tell(c, "connected"); return nil },
		Authenticated: func(_ context.Context, c *imapserver.Conn) error { tell(c, "authenticated"); return nil },
		Selected: func(_ context.Context, c *imapserver.Conn, mailbox string, readOnly bool) error {
			tell(c, "selected %s %v", mailbox, readOnly)
			return nil
		},
		Unselected:   func(_ context.Context, c *imapserver.Conn, mailbox string) { tell(c, "unselected %s", mailbox) },
		CommandBegun: func(_ context.Context, c *imapserver.Conn, name string) error { tell(c, "> %s", name); return nil },
		CommandEnded: func(_ context.Context, c *imapserver.Conn, name string, err error) {
			tell(c, "< %s %v", name, imap.KindOf(err) != imap.Other || err != nil)
		},
		Closed: func(c *imapserver.Conn, err error) { tell(c, "closed %v", err) },
	}})
	c := connect(t, srv)
	c.gets("LOGIN ann wrong", "NO ")
	c.ok("LOGIN ann secret")
	c.ok("EXAMINE INBOX")
	c.gets("uid fetch 1:* (NONSENSE)", "BAD ")
	c.ok("uid fetch 1:* (FLAGS)")
	c.ok("SELECT INBOX")
	c.ok("COMPRESS DEFLATE")
	c.conn.Close()
	until(t, "it is gone", func() bool { return len(srv.Connections()) == 0 })
	want := []string{
		"connected ", "> LOGIN ", "< LOGIN true ", "> LOGIN ", "authenticated ann", "< LOGIN false ann",
		"> EXAMINE ann", "selected INBOX true ann", "< EXAMINE false ann",
		"> UID FETCH ann", "< UID FETCH false ann",
		"> SELECT ann", "unselected INBOX ann", "selected INBOX false ann", "< SELECT false ann",
		"> COMPRESS ann", "< COMPRESS false ann", "unselected INBOX ann", "closed <nil> ann",
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(told, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

// TestHookErrors: an error ends what was about to happen.
func TestHookErrors(t *testing.T) {
	full := &imap.Error{Kind: imap.Limit, Text: "Come back later"}
	t.Run("connected", func(t *testing.T) {
		srv := memoryServer(t, imapserver.Options{Hooks: imapserver.Hooks{Connected: func(context.Context, *imapserver.Conn) error { return full }}})
		c := dial(t, srv)
		c.want("* BYE [LIMIT] Come back later")
		c.wantEnd()
	})
	t.Run("authenticated", func(t *testing.T) {
		srv := memoryServer(t, imapserver.Options{Hooks: imapserver.Hooks{Authenticated: func(context.Context, *imapserver.Conn) error { return full }}, Limits: imapserver.Limits{ConnectionsPerUser: 1}})
		c := connect(t, srv)
		c.gets("LOGIN ann secret", "NO [LIMIT] Come back later")
		c.gets("LOGIN ann secret", "NO [LIMIT] Come back later") // its place was given back
		c.gets("SELECT INBOX", "BAD ")
		if i := only(t, srv).Info(); i.User != "" || i.State != imapserver.NotAuthenticated {
			t.Errorf("got %+v", i)
		}
	})
	t.Run("selected", func(t *testing.T) {
		srv := memoryServer(t, imapserver.Options{Hooks: imapserver.Hooks{Selected: func(context.Context, *imapserver.Conn, string, bool) error { return full }}})
		c := login(t, srv)
		c.gets("SELECT INBOX", "NO [LIMIT] Come back later")
		c.gets("FETCH 1 FLAGS", "BAD ")
	})
	t.Run("command", func(t *testing.T) {
		srv := memoryServer(t, imapserver.Options{Hooks: imapserver.Hooks{CommandBegun: func(_ context.Context, _ *imapserver.Conn, name string) error {
			switch name {
			case "APPEND", "CREATE", "IDLE", "COMPRESS", "AUTHENTICATE", "STARTTLS":
				return full
			}
			return nil
		}}})
		c := connect(t, srv)
		c.gets("STARTTLS", "NO [LIMIT] Come back later")
		c.gets("AUTHENTICATE PLAIN", "NO [LIMIT] Come back later")
		c.gets("AUTHENTICATE PLAIN AGFubgBzZWNyZXQ=", "NO [LIMIT] Come back later")
		c.ok("LOGIN ann secret")
		c.gets("IDLE", "NO [LIMIT] Come back later")
		c.gets("COMPRESS DEFLATE", "NO [LIMIT] Come back later")
		c.gets("CREATE x", "NO [LIMIT] Come back later")
		c.gets("APPEND INBOX {5}", "NO [LIMIT] Come back later")
		c.gets("APPEND INBOX {10+}\r\na LOGOUT\r\n", "NO [LIMIT] Come back later")
		c.ok("NOOP")
	})
}

// TestLastWord: over TCP the client gets what the server has said last, though
// it still sends. (Linux keeps what has arrived even if the server hangs up too
// early; other systems do not.)
func TestLastWord(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{Limits: imapserver.Limits{Skip: 1 << 20}})
	ln := listen(t)
	go srv.Serve(context.Background(), ln)
	for name, test := range map[string]struct{ command, last string }{
		"LOGOUT":  {"a LOGOUT\r\n", "a OK "},
		"TOOBIG":  {"a APPEND INBOX {100000000+}\r\n", "* BYE [TOOBIG] "},
		"TOOBIG2": {"a CREATE {100000000+}\r\n", "* BYE [TOOBIG] "},
	} {
		t.Run(name, func(t *testing.T) {
			nc, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			in := bufio.NewReader(nc)
			in.ReadString('\n')
			io.WriteString(nc, "l LOGIN ann secret\r\n")
			in.ReadString('\n')
			junk := strings.Repeat("b NOOP\r\n", 1<<18)
			io.WriteString(nc, test.command+junk) // as far as the server takes it
			all, _ := io.ReadAll(in)
			lines := strings.Split(strings.TrimSuffix(string(all), "\r\n"), "\r\n")
			last := lines[len(lines)-1]
			if !strings.HasPrefix(last, test.last) {
				t.Errorf("the last word was %q", last)
			}
		})
	}
}

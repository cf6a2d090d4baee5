package imapserver_test

import (
	"context"
	"errors"
	"fmt"
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

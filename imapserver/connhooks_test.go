package imapserver_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imapwire"
	"github.com/rookery-mail/rookery/memory"
)

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

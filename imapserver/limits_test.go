package imapserver_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rookery-mail/rookery/imapserver"
)

func TestLoginCommands(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{Limits: imapserver.Limits{LoginCommands: 3}})
	c := connect(t, srv)
	c.ok("NOOP")
	c.gets("SELECT INBOX", "BAD ")
	c.gets("CAPABILITY", "OK ")
	c.want("* BYE [CLIENTBUG] ")
	c.wantEnd()

	c = connect(t, srv)
	c.ok("NOOP")
	c.ok("NOOP")
	c.ok("LOGIN ann secret") // the third
	for range 10 {
		c.ok("NOOP")
	}
}

func TestBadCommands(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{Limits: imapserver.Limits{BadCommands: 3}})
	c := login(t, srv)
	for range 5 {
		c.gets("NONSENSE", "BAD ")
		c.gets("NOOP now", "BAD ")
		c.ok("NOOP") // they are counted in a row
	}
	c.gets("NONSENSE", "BAD ")
	c.send("\r\n")
	c.want("* BAD ")
	c.gets("SELECT", "BAD ")
	c.want("* BYE [CLIENTBUG] ")
	c.wantEnd()
}

// TestIdleLimits: who says nothing is told so, before login sooner. Here and where
// else limits are short, clocks stand still while anybody works, so that the
// machine is never the slow one.
func TestIdleLimits(t *testing.T) {
	const short, long = 30 * time.Millisecond, time.Hour
	for name, test := range map[string]struct {
		limits imapserver.Limits
		login  bool
		send   string
	}{
		"before login":           {imapserver.Limits{LoginIdle: short, Idle: long, Read: long}, false, ""},
		"after login":            {imapserver.Limits{LoginIdle: long, Idle: short, AllowShortIdle: true, Read: long}, true, ""},
		"in IDLE":                {imapserver.Limits{LoginIdle: long, Idle: short, AllowShortIdle: true, Read: long}, true, "i IDLE\r\n"},
		"half a command":         {imapserver.Limits{LoginIdle: long, Idle: long, Read: short}, true, "a NOO"},
		"half a literal":         {imapserver.Limits{LoginIdle: long, Idle: long, Read: short}, true, "a APPEND INBOX {10+}\r\nabc"},
		"half a literal refused": {imapserver.Limits{LoginIdle: long, Idle: long, Read: short}, true, "a APPEND Nowhere {10+}\r\nabc"},
		"half an answer":         {imapserver.Limits{LoginIdle: long, Idle: long, Read: short}, false, "a AUTHENTICATE PLAIN\r\nabc"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := connect(t, memoryServer(t, imapserver.Options{Limits: test.limits}))
				if test.login {
					c.ok("LOGIN ann secret")
				}
				c.send(test.send)
				line := c.line()
				if strings.HasPrefix(line, "+") {
					line = c.line()
				}
				if !strings.HasPrefix(line, "* BYE ") {
					t.Fatalf("got %q, want BYE", line)
				}
				c.wantEnd()
			})
		})
	}
}

func TestConnectionsInTotal(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{Limits: imapserver.Limits{Connections: 2}})
	a, b := connect(t, srv), connect(t, srv)
	refused := dial(t, srv)
	refused.want("* BYE [LIMIT] ")
	refused.wantEnd()
	a.ok("LOGOUT")
	b.ok("NOOP")
	until(t, "the place is free", func() bool { return len(srv.Connections()) == 1 })
	until(t, "a place is given", func() bool {
		c := dial(t, srv)
		return strings.HasPrefix(c.line(), "* OK ")
	})
}

func TestConnectionsPerUser(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{Limits: imapserver.Limits{ConnectionsPerUser: 2}})
	a := login(t, srv)
	login(t, srv)
	c := connect(t, srv)
	c.gets("LOGIN ann secret", "NO [LIMIT] ")
	c.gets("AUTHENTICATE PLAIN AGFubgBzZWNyZXQ=", "NO [LIMIT] ")
	c.ok("LOGIN bob hidden") // another user
	a.ok("LOGOUT")
	until(t, "the place is free", func() bool { return len(srv.Connections()) == 2 })
	login(t, srv)
}

// addressed is a pipe with an address.
type addressed struct {
	net.Conn
	addr net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.addr }

func dialFrom(t *testing.T, srv *imapserver.Server, addr string) *client {
	t.Helper()
	ours, theirs := net.Pipe()
	from := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 4000))
	go srv.ServeConn(context.Background(), addressed{theirs, from})
	return newClient(t, ours)
}

func TestConnectionsPerAddr(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{Limits: imapserver.Limits{ConnectionsPerAddr: 1}})
	dialFrom(t, srv, "192.0.2.1").want("* OK ")
	dialFrom(t, srv, "192.0.2.1").want("* BYE [LIMIT] ")
	dialFrom(t, srv, "::ffff:192.0.2.1").want("* BYE [LIMIT] ") // the same
	dialFrom(t, srv, "192.0.2.2").want("* OK ")
	dialFrom(t, srv, "2001:db8::1").want("* OK ")
	dialFrom(t, srv, "2001:db8::ffff:2").want("* BYE [LIMIT] ") // the same /64
	dialFrom(t, srv, "2001:db8:0:1::1").want("* OK ")
}

func TestAllowAndDeny(t *testing.T) {
	nets := func(texts ...string) (all []netip.Prefix) {
		for _, s := range texts {
			all = append(all, netip.MustParsePrefix(s))
		}
		return all
	}
	srv := memoryServer(t, imapserver.Options{Allow: nets("192.0.2.0/24", "2001:db8::/32"), Deny: nets("192.0.2.66/32")})
	for addr, want := range map[string]string{
		"192.0.2.1": "* OK ", "192.0.2.66": "* BYE ", "198.51.100.1": "* BYE ",
		"2001:db8::7": "* OK ", "2001:db9::7": "* BYE ", "::ffff:192.0.2.66": "* BYE ",
	} {
		dialFrom(t, srv, addr).want(want)
	}
	srv = memoryServer(t, imapserver.Options{Deny: nets("::/0")})
	dialFrom(t, srv, "192.0.2.1").want("* OK ")
	dialFrom(t, srv, "2001:db8::7").want("* BYE ")
}

// TestSizes: what is too large is refused, and the connection goes on with the
// next command, however the client sends it.
func TestSizes(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{Limits: imapserver.Limits{Line: 1000, Literal: 100, Message: 500, Skip: 5000}})
	c := login(t, srv)
	big, word := strings.Repeat("x", 501), strings.Repeat("w", 101)

	c.gets("APPEND INBOX {501}", "NO [TOOBIG] ") // and "+" never came
	c.gets("APPEND INBOX {501+}\r\n"+big, "NO [TOOBIG] ")
	c.gets("APPEND INBOX {501+}\r\n"+big+" {501+}\r\n"+big, "NO [TOOBIG] ")
	c.gets("APPEND INBOX {4294967296}", "NO [TOOBIG] ")
	c.ok("APPEND INBOX {101+}\r\n" + word) // the bound of arguments is another one
	c.gets("CREATE {101}", "NO [TOOBIG] ")
	c.gets("CREATE {101+}\r\n"+word, "NO [TOOBIG] ")
	c.gets("CREATE "+strings.Repeat("y", 1100), "BAD ")
	c.gets("SEARCH "+strings.Repeat("y", 1100), "BAD ")
	if got := c.ok("LIST \"\" *"); len(got) != 1 {
		t.Errorf("something was made: %q", got)
	}

	c.send("z APPEND INBOX {5001+}\r\n")
	c.want("* BYE [TOOBIG] ")
	c.wantEnd()
}

// TestSkipInPieces: the bound of what is skipped holds for the whole command.
func TestSkipInPieces(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{Limits: imapserver.Limits{Literal: 100, Message: 500, Skip: 2000}})
	c := login(t, srv)
	go func() {
		piece := strings.Repeat("x", 600)
		fmt.Fprintf(c.conn, "a CREATE {600+}\r\n%s", piece)
		for range 10 {
			if _, err := fmt.Fprintf(c.conn, " {600+}\r\n%s", piece); err != nil {
				return
			}
		}
	}()
	c.want("a NO [TOOBIG] ", "* BYE [TOOBIG] ")
	c.wantEnd()
}

func TestMultiAppendLimit(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{Limits: imapserver.Limits{MultiAppend: 2}})
	c := login(t, srv)
	c.ok("APPEND INBOX {1+}\r\na {1+}\r\nb")
	c.gets("APPEND INBOX {1+}\r\na {1+}\r\nb {1+}\r\nc", "NO [LIMIT] ")
	if got := c.ok("STATUS INBOX (MESSAGES)"); got[0] != "* STATUS INBOX (MESSAGES 2)" {
		t.Errorf("got %q", got)
	}
}

func TestSearchLimits(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{Limits: imapserver.Limits{SearchKeys: 10, SearchDepth: 5}})
	c := selected(t, srv)
	c.ok("SEARCH" + strings.Repeat(" SEEN", 10))
	c.gets("SEARCH"+strings.Repeat(" SEEN", 11), "BAD ")
	c.gets("SEARCH ("+strings.Repeat("SEEN ", 10)+"SEEN)", "BAD ")
	c.ok("SEARCH NOT NOT NOT NOT SEEN")
	c.gets("SEARCH"+strings.Repeat(" NOT", 6)+" SEEN", "BAD ")
	c.gets("SEARCH "+strings.Repeat("(", 6)+"SEEN"+strings.Repeat(")", 6), "BAD ")
	c.ok("NOOP")
}

func TestListLimits(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{Limits: imapserver.Limits{ListPatterns: 10}})
	c := login(t, srv)
	list := func(reference string, n int, pattern string) string {
		return "LIST " + reference + " (" + strings.Repeat(pattern+" ", n-1) + pattern + ")"
	}
	c.ok(list(`""`, 10, "%"))
	c.gets(list(`""`, 11, "%"), "NO [LIMIT] Too many patterns in one LIST; the limit is 10")
	c.gets(list(`""`, 20_000, "%"), "NO [LIMIT] ")
	c.ok(list(`""`, 8, strings.Repeat("*a", 512)))
	c.gets(list(`""`, 8, strings.Repeat("*a", 512)+"b"), "NO [LIMIT] The patterns of one LIST are too long; the limit is 8192 octets")
	// The reference counts with each.
	c.gets(list(strings.Repeat("r", 5000), 2, "%"), "NO [LIMIT] ")
	c.gets("LIST {60000+}\r\n"+strings.Repeat("r", 60_000)+" %", "NO [LIMIT] ")
	c.gets(`LSUB "" {60000+}`+"\r\n"+strings.Repeat("*a", 30_000), "NO [LIMIT] ")
	// Said often, answered once.
	if got := c.ok(`LIST "" INBOX RETURN (STATUS (` + strings.Repeat("MESSAGES ", 10_000) + "UNSEEN))"); strings.Count(strings.Join(got, ""), "MESSAGES") != 1 {
		t.Errorf("%.200q", got)
	}
	if got := c.ok("LIST (" + strings.Repeat("SUBSCRIBED ", 10_000) + `SUBSCRIBED RECURSIVEMATCH) "" %`); len(got) > 0 {
		t.Errorf("%.200q", got)
	}
}

// What walks over all mailboxes ends when its time is over.
func TestListEnds(t *testing.T) {
	wait := func(ctx context.Context, _ *imapserver.Conn, name string) error {
		if name == "LIST" || name == "LSUB" {
			<-ctx.Done()
		}
		return nil
	}
	synctest.Test(t, func(t *testing.T) {
		srv := memoryServer(t, imapserver.Options{Hooks: imapserver.Hooks{CommandBegun: wait}, Limits: imapserver.Limits{Command: 10 * time.Millisecond}})
		c := login(t, srv)
		c.ok("SUBSCRIBE INBOX")
		c.gets(`LIST "" %`, "NO [UNAVAILABLE] ")
		c.gets(`LSUB "" %`, "NO [UNAVAILABLE] ")
		c.ok("NOOP")
	})
}

// TestNoLimits: a negative limit is none.
func TestNoLimits(t *testing.T) {
	none := imapserver.Limits{
		Connections: -1, ConnectionsPerUser: -1, ConnectionsPerAddr: -1, LoginCommands: -1, BadCommands: -1,
		LoginIdle: -1, Idle: -1, Read: -1, Write: -1, KeepAlive: -1, Command: -1, Line: -1, Literal: -1,
		Message: -1, Skip: -1, MultiAppend: -1, ListPatterns: -1, SearchKeys: -1, SearchDepth: -1,
	}
	c := connect(t, memoryServer(t, imapserver.Options{Limits: none}))
	for range 100 {
		c.gets("NONSENSE", "BAD ")
	}
	c.ok("LOGIN ann secret")
	c.ok("SELECT INBOX")
	c.appendTo("INBOX", hello)
	c.idle()
	c.send("DONE\r\n")
	c.want("i OK ")
}

// TestCommandLimit: a command that takes too long is given up.
func TestCommandLimit(t *testing.T) {
	slow := &imapserver.Extension{Name: "SLOW", RFC: "-", Commands: []*imapserver.Command{command("SLOW", func(ctx context.Context, _ *imapserver.Call) error {
		<-ctx.Done()
		return ctx.Err()
	})}}
	synctest.Test(t, func(t *testing.T) {
		srv := memoryServer(t, imapserver.Options{Extensions: []*imapserver.Extension{slow}, Limits: imapserver.Limits{Command: 10 * time.Millisecond}})
		c := login(t, srv)
		c.gets("SLOW", "NO [UNAVAILABLE] ")
		c.ok("NOOP")
	})
}

func TestSlowHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := memoryServer(t, imapserver.Options{TLS: testTLS(t), Limits: imapserver.Limits{LoginIdle: 20 * time.Millisecond}})
		c := connect(t, srv)
		c.ok("STARTTLS") // and then nothing
		if _, err := io.WriteString(c.conn, "\x16"); err == nil {
			until(t, "it is given up", func() bool { return len(srv.Connections()) == 0 })
		}
	})
}

package imapserver_test

import (
	"bytes"
	"compress/flate"
	"net"
	"runtime"
	"testing"

	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/memory"
)

// TestRest: a client that comes back after a rest is served as before, over
// every kind of transport.
func TestRest(t *testing.T) {
	for name, prepare := range map[string]func(c *client){
		"plain": func(*client) {},
		"TLS":   (*client).startTLS,
	} {
		t.Run(name, func(t *testing.T) {
			c := restingServer(t)
			prepare(c)
			c.ok("LOGIN ann secret")
			rests(t, c)
		})
	}
	t.Run("deflate", func(t *testing.T) {
		c := restingServer(t)
		c.ok("LOGIN ann secret")
		c.ok("COMPRESS DEFLATE")
		var out bytes.Buffer
		w, err := flate.NewWriter(&out, flate.BestSpeed)
		if err != nil {
			t.Fatal(err)
		}
		c.in.Reset(flate.NewReader(c.pump))
		c.conn = deflating{c.conn, w, &out}
		rests(t, c)
	})
}

func restingServer(t *testing.T) *client {
	m := memory.New()
	m.Add("ann", "INBOX", hello)
	return connect(t, newServer(t, overMemory(t, m), imapserver.Options{TLS: testTLS(t), InsecureAuth: true}))
}

func rests(t *testing.T, c *client) {
	t.Helper()
	c.ok("SELECT INBOX")
	atRest(t)
	c.send("a NOOP\r\nb FETCH 1 (FLAGS)\r\nc SEA")
	c.want("a OK ", "* 1 FETCH ", "b OK ")
	c.send("RCH ALL\r\n")
	c.want("* SEARCH 1", "c OK ")
	for range 2 {
		c.idle()
		atRest(t)
		c.send("DONE\r\nb NOOP\r\n")
		c.want("i OK ", "b OK ")
	}
	c.ok("LOGOUT")
	c.wantEnd()
}

// atRest waits until no goroutine serves a client, but those that wait for one.
func atRest(t *testing.T) {
	t.Helper()
	stacks := make([]byte, 4<<20)
	until(t, "all clients rest", func() bool {
		return !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("(*Conn).shift("))
	})
}

// deflating compresses what is written, and flushes it.
type deflating struct {
	net.Conn
	w   *flate.Writer
	out *bytes.Buffer
}

func (d deflating) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	if err == nil {
		err = d.w.Flush()
	}
	if err == nil {
		_, err = d.out.WriteTo(d.Conn)
	}
	return n, err
}

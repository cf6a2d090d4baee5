package imapserver_test

import (
	"bytes"
	"compress/flate"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/memory"
)

// TestRest: a client that comes back after a rest is served as before, over
// every kind of transport.
func TestRest(t *testing.T) {
	for name, prepare := range map[string]func(c *client){
		"plain":   func(c *client) { c.ok("LOGIN ann secret") },
		"TLS":     func(c *client) { c.startTLS(); c.ok("LOGIN ann secret") },
		"deflate": func(c *client) { c.ok("LOGIN ann secret"); c.startDeflate() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := restingServer(t)
				prepare(c)
				rests(t, c)
			})
		})
	}
}

// startDeflate gives COMPRESS.
func (c *client) startDeflate() {
	c.t.Helper()
	c.ok("COMPRESS DEFLATE")
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestSpeed)
	if err != nil {
		c.t.Fatal(err)
	}
	c.in.Reset(flate.NewReader(c.pump))
	c.conn = deflating{c.conn, w, &out}
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

// atRest lets the client say nothing for a second, and wants no goroutine to serve
// one then, but those that wait for one. What other tests have left is none of its
// business, so only the goroutines of bubbles count.
func atRest(t *testing.T) {
	t.Helper()
	time.Sleep(time.Second)
	synctest.Wait()
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for g := range bytes.SplitSeq(stacks, []byte("\n\n")) {
		if head, frames, _ := bytes.Cut(g, []byte("\n")); bytes.Contains(head, []byte("synctest bubble")) && bytes.Contains(frames, []byte("(*Conn).shift(")) {
			t.Fatalf("a client that rests is served:\n%s", g)
		}
	}
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

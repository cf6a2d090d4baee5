package imapserver

import (
	"context"
	"strings"
	"time"

	"github.com/rookery-mail/rookery/imapwire"
)

// idle is RFC 2177.
func idle() *Extension {
	return &Extension{
		Name: "IDLE", RFC: "2177",
		Capabilities: []Capability{{Name: "IDLE"}},
		Commands:     []*Command{{Name: "IDLE", States: LoggedIn, Stream: true, Parse: parseIdle}},
	}
}

func parseIdle(c *Call, d *imapwire.Decoder) Run {
	d.CRLF()
	return c.idle
}

// idle brings the client news until it says DONE. While it waits nobody holds
// the connection's mu, so whoever has news can write them (Conn.writeNews).
func (c *Call) idle(ctx context.Context) error {
	conn, d := c.Conn, c.Conn.dec
	c.Writer().Raw("+ idling\r\n")
	if conn.sel != nil {
		if err := conn.sel.flush(ctx, conn, flushAll, nil); err != nil {
			return err
		}
	}
	conn.writeQueued()
	// A client may send DONE together with IDLE, and its next commands behind
	// it; then there is nothing to wait for.
	if d.Buffered() == 0 {
		if err := conn.waitIdling(); err != nil {
			return &broken{err}
		}
	}
	d.Begin()
	line := strings.ToUpper(d.Keyword())
	d.CRLF()
	if d.Err() == nil && line != "DONE" {
		return bad("IDLE ends with DONE, not with %s", quoteArg(line))
	}
	return nil
}

// waitIdling parks the connection until the client has sent something.
func (c *Conn) waitIdling() error {
	c.setReadDeadline()
	keepAlive := c.keepAlive()
	defer keepAlive.Stop()
	c.idling.Store(true)
	defer func() {
		c.mu.Lock()
		c.idling.Store(false)
	}()
	return c.park()
}

// keepAlive says OK now and then, so that routers on the way do not forget the
// connection (RFC 9051 section 7.1.1 allows an untagged OK at any time).
func (c *Conn) keepAlive() *time.Timer {
	every := c.srv.limits.KeepAlive
	var t *time.Timer
	t = time.AfterFunc(time.Hour, func() {
		if c.idling.Load() {
			c.Push(func(w *imapwire.Encoder) { w.Raw("* OK Still here\r\n") })
			t.Reset(every)
		}
	})
	t.Reset(every) // it runs after t has been set
	return t
}

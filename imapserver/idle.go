package imapserver

import (
	"context"
	"strings"
	"sync/atomic"
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
	defer c.keepAlive()()
	c.idling.Store(true)
	defer func() {
		c.mu.Lock()
		c.idling.Store(false)
		if c.stopLook != nil {
			c.stopLook()
		}
	}()
	return c.park()
}

// keepAlive says OK now and then, so that routers on the way do not forget the
// connection (RFC 9051 section 7.1.1 allows an untagged OK at any time). stop
// ends that.
func (c *Conn) keepAlive() (stop func()) {
	every := c.srv.limits.KeepAlive
	var stopped atomic.Bool
	var t *time.Timer
	t = time.AfterFunc(time.Hour, func() {
		if stopped.Load() {
			return
		}
		c.Push(func(w *imapwire.Encoder) {
			if !stopped.Load() { // it may have waited for the end of IDLE
				w.Raw("* OK Still here\r\n")
			}
		})
		t.Reset(every)
		if stopped.Load() {
			t.Stop()
		}
	})
	t.Reset(every) // it runs after t has been set
	return func() {
		stopped.Store(true)
		t.Stop()
	}
}

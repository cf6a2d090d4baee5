package imapserver

import (
	"cmp"
	"context"
	"errors"
	"os"
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

// idle begins to bring the client news until it says DONE. While it waits nobody
// holds the connection's mu, so whoever has news can write them
// (Conn.writeNews).
func (c *Call) idle(ctx context.Context) error {
	conn := c.Conn
	c.Writer().Raw("+ idling\r\n")
	if conn.sel != nil {
		if err := conn.sel.flush(ctx, conn, flushAll, nil); err != nil {
			return err
		}
	}
	conn.writeQueued()
	conn.idler, conn.silent = c, time.Now()
	return errIdles
}

// errIdles says that the command has begun to idle: it ends with DONE, and is
// replied to then.
var errIdles = errors.New("imapserver: the client idles")

// idleOn is called when a wait in IDLE has ended: mostly because the client has
// sent something, which must be DONE. Where it has been silent for some time it
// is told OK, so that routers on the way do not forget the connection (RFC 9051
// section 7.1.1 allows an untagged OK at any time). mu is held.
func (c *Conn) idleOn(waited error) error {
	if errors.Is(waited, os.ErrDeadlineExceeded) && c.enc.Err() == nil && !c.ending && !c.mustEnd() {
		c.enc.Raw("* OK Still here\r\n")
		return nil
	}
	call := c.idler
	c.idler = nil
	c.idling.Store(false)
	if c.stopLook != nil {
		c.stopLook()
	}
	err := c.told(&c.ctx, call, func() error {
		if waited != nil || c.leaving.Load() != nil {
			return &broken{cmp.Or(waited, errLeaving)}
		}
		return c.readDone()
	})
	return c.finish(&c.ctx, call, err)
}

// readDone reads the end of IDLE.
func (c *Conn) readDone() error {
	d := c.dec
	d.Begin()
	line := strings.ToUpper(d.Keyword())
	d.CRLF()
	if d.Err() == nil && line != "DONE" {
		return bad("IDLE ends with DONE, not with %s", quoteArg(line))
	}
	return nil
}

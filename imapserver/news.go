package imapserver

import (
	"context"
	"sync"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
	"github.com/rookery-mail/rookery/mailindex"
)

// newsQueue holds what others want to tell a client until it may be told.
type newsQueue struct {
	mu      sync.Mutex
	items   []func(w *imapwire.Encoder)
	mailbox bool // the selected mailbox may have changed
	running bool // a goroutine is delivering
	looking bool // a goroutine waits for the back end to look at the mailbox
}

// maxNews bounds the untagged responses that wait for one client.
const maxNews = 1000

// Push sends untagged responses to the client as soon as the protocol allows
// it: at once while it idles or gives no command, else before the reply to its
// command. write is called once, by another goroutine, and must write whole
// lines; it may be dropped when the connection ends first or when a thousand
// others wait already. Push does not block.
func (c *Conn) Push(write func(w *imapwire.Encoder)) {
	c.news.mu.Lock()
	if len(c.news.items) < maxNews {
		c.news.items = append(c.news.items, write)
	}
	c.news.mu.Unlock()
	c.wakeUp()
}

// Alert sends a text that the client's user must see (RFC 9051 section 7.1).
func (c *Conn) Alert(text string) {
	c.Push(func(w *imapwire.Encoder) {
		w.Raw("* OK [ALERT] ")
		w.Text(cleanText(text))
		w.CRLF()
	})
}

// Poll makes the connection look at its mailbox for changes: at once while the
// client idles, else with its next command. A back end that looks at its data
// now and then only is told to look again (Poller). It does not block.
func (c *Conn) Poll() {
	if p := c.poller.Load(); p != nil {
		(*p).Poll()
	}
	c.wakeMailbox()
}

// wakeMailbox is what a mailbox calls when it has something new.
func (c *Conn) wakeMailbox() {
	c.news.mu.Lock()
	c.news.mailbox = true
	c.news.mu.Unlock()
	c.wakeUp()
}

// wakeUp delivers what waits, if the client is waiting for it.
func (c *Conn) wakeUp() {
	if c.parked.Load() {
		c.deliverNews()
	}
}

// deliverNews starts a goroutine that writes what waits, unless one runs or
// nothing waits. The goroutine is short-lived: an idle connection has none.
func (c *Conn) deliverNews() {
	c.news.mu.Lock()
	start := !c.news.running && (len(c.news.items) > 0 || c.news.wantsMailbox(c))
	c.news.running = c.news.running || start
	c.news.mu.Unlock()
	if start {
		go func() {
			if err := c.guard(c.writeNews); err != nil {
				c.nc.Close()
			}
		}()
	}
}

// wantsMailbox reports whether the mailbox is to be looked at now.
func (n *newsQueue) wantsMailbox(c *Conn) bool { return n.mailbox && !n.looking && c.idling.Load() }

// setLooking notes that the delivering goroutine looks at the mailbox, or has:
// meanwhile another one may bring what does not come from there.
func (n *newsQueue) setLooking(on bool) {
	n.mu.Lock()
	n.looking, n.running = on, !on
	n.mu.Unlock()
}

// writeNews writes what waits until nothing does.
func (c *Conn) writeNews() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		c.news.mu.Lock()
		poll := c.news.wantsMailbox(c)
		if len(c.news.items) == 0 && !poll || c.ending {
			c.news.running = false
			c.news.mu.Unlock()
			return nil
		}
		if poll {
			c.news.mailbox = false
		}
		c.news.mu.Unlock()
		c.writeQueued()
		if poll && c.sel != nil {
			if err := c.enc.Flush(); err != nil { // the look may take its time
				return err
			}
			if err := c.pollIdle(); err != nil {
				return err
			}
		}
		if err := c.enc.Flush(); err != nil {
			return err
		}
		c.enc.Release()
	}
}

// pollIdle tells an idling client what is new in its mailbox. mu is held, but
// not while the back end is asked: the client may end IDLE meanwhile.
func (c *Conn) pollIdle() error {
	ctx, cancel := context.WithTimeout(c.srv.ctx, c.srv.limits.Command)
	defer cancel()
	sel, before := c.sel, c.sel.latest
	c.stopLook = cancel
	latest, err := c.snapshotUnlocked(ctx, sel)
	c.stopLook = nil
	switch {
	case !c.idling.Load() || c.ending:
		return nil // what follows IDLE looks for itself
	case c.sel != sel || sel.latest != before:
		// It has idled, done something else, and idles again: what was found may
		// be older than what it knows.
		c.wakeMailbox()
		return nil
	case err == nil:
		err = sel.show(ctx, c, latest, flushAll, nil)
	}
	switch {
	case imap.KindOf(err) == imap.NotFound:
		return c.hang(&hangUp{"", "The selected mailbox has been deleted"})
	case err != nil:
		c.log().Warn("looking at the mailbox failed", "mailbox", sel.name, "err", err)
	}
	return nil
}

// snapshotUnlocked takes a snapshot without holding mu meanwhile.
func (c *Conn) snapshotUnlocked(ctx context.Context, sel *selection) (*mailindex.Snapshot, error) {
	c.news.setLooking(true)
	c.mu.Unlock()
	defer func() { // also where the back end panics
		c.mu.Lock()
		c.news.setLooking(false)
	}()
	return sel.box.Snapshot(ctx)
}

// writeQueued writes the responses that were pushed. mu is held.
func (c *Conn) writeQueued() {
	c.news.mu.Lock()
	items := c.news.items
	c.news.items = nil
	c.news.mu.Unlock()
	for _, write := range items {
		write(c.enc)
	}
}

package imapserver_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/memory"
)

// lazy is a back end whose snapshots stay as they are until somebody polls, and
// may be held up.
type lazy struct {
	imapserver.Backend
	polls atomic.Int64

	noClaims atomic.Bool // ClaimRecent fails

	mu      sync.Mutex
	held    chan struct{} // where not nil: Snapshot waits until it is closed
	waiting chan struct{} // gets something when it does
	broken  bool          // Snapshot panics when it has waited
}

func (l *lazy) Open(ctx context.Context, user string) (imapserver.Account, error) {
	a, err := l.Backend.Open(ctx, user)
	return lazyAccount{a, l}, err
}

type lazyAccount struct {
	imapserver.Account
	l *lazy
}

func (a lazyAccount) Mailbox(ctx context.Context, name string) (imapserver.Mailbox, error) {
	box, err := a.Account.Mailbox(ctx, name)
	if err != nil {
		return nil, err
	}
	return &lazyMailbox{Mailbox: box, l: a.l}, nil
}

type lazyMailbox struct {
	imapserver.Mailbox
	l *lazy

	mu   sync.Mutex
	last *mailindex.Snapshot
}

func (b *lazyMailbox) Watch(func()) func() { return func() {} }

func (b *lazyMailbox) Poll() {
	b.l.polls.Add(1)
	b.mu.Lock()
	b.last = nil
	b.mu.Unlock()
}

func (b *lazyMailbox) Snapshot(ctx context.Context) (*mailindex.Snapshot, error) {
	b.l.mu.Lock()
	held, broken := b.l.held, b.l.broken
	b.l.mu.Unlock()
	if held != nil {
		b.l.waiting <- struct{}{}
		select {
		case <-held:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if broken {
			panic("broken")
		}
	}
	b.mu.Lock()
	last := b.last
	b.mu.Unlock()
	if last != nil {
		return last, nil
	}
	s, err := b.Mailbox.Snapshot(ctx)
	b.mu.Lock()
	b.last = s
	b.mu.Unlock()
	return s, err
}

func (b *lazyMailbox) ClaimRecent(ctx context.Context) (first, last imap.UID, err error) {
	if b.l.noClaims.Load() {
		return 0, 0, imap.E("claim recent", imap.Unavailable, nil)
	}
	return b.Mailbox.ClaimRecent(ctx)
}

// hold makes snapshots wait from now on, until release is called.
func (l *lazy) hold(broken bool) (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := make(chan struct{})
	l.held, l.broken = held, broken
	return func() {
		l.mu.Lock()
		l.held = nil
		l.mu.Unlock()
		close(held)
	}
}

func lazyServer(t *testing.T) (*lazy, *memory.Model, *imapserver.Server, *logBook) {
	m := memory.New()
	l := &lazy{Backend: overMemory(t, m), waiting: make(chan struct{}, 100)}
	var log logBook
	return l, m, newServer(t, l, imapserver.Options{Log: log.logger()}), &log
}

// TestPollLooksAgain: Conn.Poll reaches a mailbox that looks now and then only.
func TestPollLooksAgain(t *testing.T) {
	l, m, srv, _ := lazyServer(t)
	c := selected(t, srv)
	conn := only(t, srv)
	m.Add("ann", "INBOX", hello)
	if got := c.ok("NOOP"); len(got) > 0 {
		t.Fatalf("the mailbox is not lazy: %q", got)
	}
	conn.Poll()
	if got := c.ok("NOOP"); len(got) == 0 || got[0] != "* 1 EXISTS" {
		t.Errorf("after Poll: %q", got)
	}
	c.idle()
	m.Add("ann", "INBOX", hello)
	conn.Poll()
	c.want("* 2 EXISTS", "* 2 RECENT")
	c.send("DONE\r\n")
	c.want("i OK ")
	c.ok("UNSELECT")
	before := l.polls.Load()
	conn.Poll()
	if l.polls.Load() != before {
		t.Error("a mailbox that is not selected is polled")
	}
	// From any goroutine, while the selection changes.
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 1000 {
			conn.Poll()
		}
	}()
	for range 50 {
		c.ok("SELECT INBOX")
		c.ok("UNSELECT")
	}
	<-done
}

// TestNoClaim: where \Recent cannot be claimed, all other news reach an idling client.
func TestNoClaim(t *testing.T) {
	l, m, srv, log := lazyServer(t)
	m.Add("ann", "INBOX", hello)
	c := selected(t, srv)
	conn := only(t, srv)
	c.idle()
	other := selected(t, srv)
	l.noClaims.Store(true)
	other.ok(`STORE 1 +FLAGS (\Flagged)`)
	m.Add("ann", "INBOX", hello)
	conn.Poll()
	c.want("* 2 EXISTS", "* 1 RECENT", "* 1 FETCH (FLAGS (\\Recent \\Flagged")
	until(t, "it is logged", func() bool { return strings.Contains(log.String(), "looking at the mailbox failed") })
}

// TestSlowLook: while the back end takes its time to look at a mailbox, an
// idling client can end IDLE, be told other things, and go.
func TestSlowLook(t *testing.T) {
	t.Run("done", func(t *testing.T) {
		l, m, srv, log := lazyServer(t)
		c := selected(t, srv)
		conn := only(t, srv)
		m.Add("ann", "INBOX", hello)
		c.idle()
		release := l.hold(false)
		conn.Alert("first")
		c.want("* OK [ALERT] first")
		conn.Poll()
		<-l.waiting
		conn.Alert("second")
		conn.Poll()
		c.want("* OK [ALERT] second")
		c.send("DONE\r\n")
		<-l.waiting // DONE has been read, and looks for itself
		release()
		untagged, _ := c.reply("i")
		if got := strings.Join(untagged, "|"); got != "* 1 EXISTS|* 1 RECENT" {
			t.Errorf("got %s", got)
		}
		if strings.Contains(log.String(), "level=WARN") {
			t.Errorf("a look that nobody waits for is logged: %s", log)
		}
	})
	t.Run("gone", func(t *testing.T) {
		l, _, srv, _ := lazyServer(t)
		c := selected(t, srv)
		c.idle()
		defer l.hold(false)()
		only(t, srv).Poll()
		<-l.waiting
		c.conn.Close()
		until(t, "it is gone", func() bool { return len(srv.Connections()) == 0 })
	})
	t.Run("panic", func(t *testing.T) {
		l, _, srv, log := lazyServer(t)
		c := selected(t, srv)
		c.idle()
		release := l.hold(true)
		only(t, srv).Poll()
		<-l.waiting
		release()
		c.wantEnd()
		until(t, "it is gone", func() bool { return len(srv.Connections()) == 0 })
		if !strings.Contains(log.String(), "broken") {
			t.Error("the panic is not logged")
		}
	})
}

var _ imapserver.Poller = (*lazyMailbox)(nil)

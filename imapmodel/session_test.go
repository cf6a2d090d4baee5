package imapmodel_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imaptest"
	"github.com/rookery-mail/rookery/memory"
)

// talk is a client that waits for what it is told.
type talk struct {
	t     *testing.T
	conn  net.Conn
	lines *bufio.Reader
}

// dial connects a client to a server over m.
func dial(t *testing.T, m imapmodel.Model, opts imapmodel.Options) (*talk, *restartable) {
	t.Helper()
	opts.Log = quiet()
	r := &restartable{t: t, model: m, opts: opts}
	if err := r.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.server.Close(); r.backend.Close() })
	conn, err := r.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &talk{t, conn, bufio.NewReader(conn)}
	c.until("* OK")
	c.say("a LOGIN ann secret", "a OK")
	return c, r
}

func (c *talk) say(line, answer string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, line+"\r\n"); err != nil {
		c.t.Fatal(err)
	}
	c.until(answer)
}

// until reads up to a line with the given beginning.
func (c *talk) until(prefix string) {
	c.t.Helper()
	var said []string
	for {
		line, err := c.lines.ReadString('\n')
		if err != nil {
			c.t.Fatalf("waiting for %q: %v after %q", prefix, err, said)
		}
		if strings.HasPrefix(line, prefix) {
			return
		}
		said = append(said, line)
	}
}

// Who idles in a mailbox that goes, and who asks next, hears BYE.
func TestByeToWhoIsInAMailboxThatGoes(t *testing.T) {
	for name, features := range map[string]imapmodel.Features{
		"watching": allFeatures, "polled": allFeatures &^ imapmodel.FeatureWatch,
	} {
		for _, idle := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				m := &shifting{Model: memory.New(), features: features}
				m.AddMailbox("ann", imapmodel.Mailbox{Name: "Tickets"})
				c, r := dial(t, m, imapmodel.Options{PollInterval: time.Hour})
				c.say("b SELECT Tickets", "b OK")
				gone := "Tickets"
				if idle {
					c.say("c IDLE", "+")
				}
				m.without.Store(&gone)
				r.backend.Changed("ann", "")
				if idle {
					c.until("* BYE")
				} else {
					c.say("c NOOP", "* BYE")
				}
			})
		}
	}
}

// Conn.Poll tells a client that idles what an interval would have kept from it.
func TestConnPoll(t *testing.T) {
	m := &counting{Model: memory.New(), features: allFeatures &^ imapmodel.FeatureWatch}
	m.AddMailbox("ann", imapmodel.Mailbox{Name: "INBOX"})
	c, r := dial(t, m, imapmodel.Options{PollInterval: time.Hour})
	c.say("b SELECT INBOX", "b OK")
	poll := func() {
		m.Add("ann", "INBOX", text("one"))
		for _, conn := range r.server.Connections() {
			conn.Poll()
		}
	}
	poll()
	c.say("c NOOP", "* 1 EXISTS")
	c.until("c OK")
	c.say("d IDLE", "+")
	poll()
	c.until("* 2 EXISTS")
}

// special has mailboxes that are for something, and lets nobody create any.
type special struct{ *memory.Model }

func (special) Features() imapmodel.Features { return imapmodel.FeatureSpecialUse }

func (special) Mailboxes(context.Context, string) ([]imapmodel.Mailbox, error) {
	return []imapmodel.Mailbox{{Name: "INBOX"}, {Name: "Out", SpecialUse: []imap.MailboxAttr{imap.AttrSent}}}, nil
}

func TestSpecialUseWithoutCreating(t *testing.T) {
	b, err := imapmodel.New(special{memory.New()}, imapmodel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if f := b.Features(); !f.Has(imapserver.FeatureSpecialUse) || f.Has(imapserver.FeatureMailboxes) {
		t.Errorf("features %b", f)
	}
	tt := target(0, false)
	tt.New = func(t testing.TB) *imaptest.Server {
		r := &restartable{t: t, model: special{memory.New()}, opts: imapmodel.Options{Log: quiet()}}
		if err := r.start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.server.Close(); r.backend.Close() })
		return &imaptest.Server{Dial: r.dial, Users: []imaptest.User{{Name: "ann", Password: "secret"}}}
	}
	tt.Transcripts = fstest.MapFS{"special-use.txtar": {Data: []byte(`rfc: 6154
needs: SPECIAL-USE

a C: LIST (SPECIAL-USE) "" *
a S: * LIST (\Sent ...) "/" Out
a S: OK
a C: CREATE More
a S: NO [CANNOT] $_
`)}}
	imaptest.Run(t, tt)
}

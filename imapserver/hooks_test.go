package imapserver_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imapwire"
)

// diary is what hooks have been told, in order.
type diary struct {
	mu   sync.Mutex
	told []string
}

func (d *diary) tell(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told = append(d.told, fmt.Sprintf(format, args...))
}

// take returns what has been told since it was called last.
func (d *diary) take() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := strings.Join(d.told, "|")
	d.told = nil
	return all
}

// TestHookSelected: it refuses before the client is shown anything and before
// \Recent is taken; Unselected is told of what Selected has allowed only.
func TestHookSelected(t *testing.T) {
	var d diary
	refuse := true
	thenFails := &imapserver.Extension{Name: "X-THEN", RFC: "-", SelectParams: []*imapserver.SelectParam{{
		Name: "XFAIL", Parse: func(_ *imapserver.Call, _ *imapwire.Decoder, opts *imapserver.SelectOptions) {
			opts.Then = append(opts.Then, func(context.Context, *imapserver.Call) error { return imap.No("", "then") })
		}}}}
	srv := memoryServer(t, imapserver.Options{Extensions: []*imapserver.Extension{thenFails}, Hooks: imapserver.Hooks{
		Selected: func(_ context.Context, c *imapserver.Conn, mailbox string, readOnly bool) error {
			d.tell("selected %s %v", mailbox, readOnly)
			if refuse {
				return imap.No("LIMIT", "Come back later")
			}
			return nil
		},
		Unselected: func(_ context.Context, _ *imapserver.Conn, mailbox string) { d.tell("unselected %s", mailbox) },
	}})
	c := login(t, srv)
	c.appendTo("INBOX", hello)
	if got := c.gets("SELECT INBOX", "NO [LIMIT] Come back later"); len(got) > 0 {
		t.Errorf("a refused client is shown %q", got)
	}
	c.gets("SELECT Nowhere", "NO ")
	if got := d.take(); got != "selected INBOX false" {
		t.Errorf("refused: %s", got)
	}
	refuse = false
	if got := strings.Join(c.ok("SELECT INBOX"), "|"); !strings.Contains(got, "* 1 RECENT") {
		t.Errorf("the refused SELECT took \\Recent: %s", got)
	}
	for _, step := range []struct{ command, tagged, want string }{
		{"NOOP", "OK ", "selected INBOX false"},
		{"EXAMINE INBOX", "OK ", "unselected INBOX|selected INBOX true"},
		{"SELECT INBOX", "OK ", "unselected INBOX|selected INBOX false"},
		{"SELECT Nowhere", "NO ", "unselected INBOX"},
		{"SELECT INBOX (XFAIL)", "NO then", "selected INBOX false|unselected INBOX"},
		{"SELECT INBOX", "OK ", "selected INBOX false"},
		{"CLOSE", "OK ", "unselected INBOX"},
		{"LOGOUT", "OK ", ""},
	} {
		if untagged, tagged := c.do(step.command); !strings.HasPrefix(tagged, step.tagged) {
			t.Errorf("%s: %q, %s", step.command, untagged, tagged)
		}
		if got := d.take(); got != step.want {
			t.Errorf("%s: got %s, want %s", step.command, got, step.want)
		}
	}
}

// TestHookCommands: each command that was begun is ended, even where it panics.
func TestHookCommands(t *testing.T) {
	var d diary
	bang := &imapserver.Extension{Name: "X-BANG", RFC: "-", Commands: []*imapserver.Command{
		command("XBANG", func(context.Context, *imapserver.Call) error { panic("bang") }),
		command("XNEVER", func(context.Context, *imapserver.Call) error { d.tell("run"); return nil }),
	}}
	srv := memoryServer(t, imapserver.Options{Extensions: []*imapserver.Extension{bang}, Hooks: imapserver.Hooks{
		CommandBegun: func(_ context.Context, _ *imapserver.Conn, name string) error {
			d.tell("> %s", name)
			if name == "XNEVER" {
				return imap.No("", "Never")
			}
			return nil
		},
		CommandEnded: func(_ context.Context, _ *imapserver.Conn, name string, err error) { d.tell("< %s %v", name, err) },
	}})
	c := connect(t, srv)
	c.gets("XNEVER", "NO Never")
	if got := d.take(); got != "> XNEVER" {
		t.Errorf("refused: %s", got)
	}
	c.send("a XBANG\r\n")
	c.wantEnd()
	if got := d.take(); got != "> XBANG|< XBANG imapserver: the command panicked" {
		t.Errorf("panic: %s", got)
	}
}

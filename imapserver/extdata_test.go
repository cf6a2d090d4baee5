package imapserver_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imapwire"
)

type traced struct{}

// lookUp stands for data of the model: it is found by user, mailbox and UID.
func lookUp(ctx context.Context, c *imapserver.Conn, mailbox string, uid imap.UID) (string, error) {
	if imapserver.ConnFrom(ctx) != c {
		return "", errors.New("a context of another connection")
	}
	if uid == 3 {
		return "", imap.No("UNAVAILABLE", "The notes are not there")
	}
	return fmt.Sprintf("%s/%s/%d", c.User(), mailbox, uid), nil
}

// notes is an extension that has data of its own for each message.
func notes() *imapserver.Extension {
	note := func(*imapserver.Call, *imapwire.Decoder, *imapserver.FetchOptions) (*imapserver.FetchAtt, error) {
		var found string
		return &imapserver.FetchAtt{
			Check: func(m *imapserver.FetchMessage) (err error) {
				found, err = lookUp(m.Context(), m.Conn(), m.MailboxName(), m.Row.UID)
				return err
			},
			Write: func(w *imapwire.Encoder, _ *imapserver.FetchMessage) error {
				w.Raw("XNOTE ")
				w.String(found)
				return nil
			},
		}, nil
	}
	key := func(need imapserver.Need) func(*imapserver.Call, *imapwire.Decoder) imapserver.Matcher {
		return func(_ *imapserver.Call, d *imapwire.Decoder) imapserver.Matcher {
			d.SP()
			want := d.Astring()
			match := func(m *imapserver.SearchMessage) bool {
				got, err := lookUp(m.Context(), m.Conn(), m.MailboxName(), m.Row.UID)
				if err != nil {
					m.Fail(err)
				}
				return got == want
			}
			if need == 0 {
				return imapserver.Matcher{Row: match}
			}
			return imapserver.Matcher{Need: need, Match: func(m *imapserver.SearchMessage, _ *imapserver.Message) bool { return match(m) }}
		}
	}
	return &imapserver.Extension{
		Name: "X-NOTES", RFC: "-",
		FetchItems: []*imapserver.FetchItem{{Name: "XNOTE", Parse: note}},
		SearchKeys: []*imapserver.SearchKey{{Name: "XNOTE", Parse: key(0)}, {Name: "XDEEP", Parse: key(imapserver.NeedDigest)}},
		StatusItems: []*imapserver.StatusItem{{Name: "XNOTES", Write: func(w *imapwire.Encoder, m *imapserver.StatusMailbox) error {
			note, err := lookUp(m.Context(), m.Conn(), m.MailboxName(), imap.UID(m.Messages))
			w.String(note)
			return err
		}}},
		StoreMods: []*imapserver.StoreModifier{{Name: "XTRACE", Parse: func(_ *imapserver.Call, _ *imapwire.Decoder, opts *imapserver.StoreOptions) {
			opts.Before = append(opts.Before, func(_ context.Context, c *imapserver.Call, req *imapserver.StoreRequest) error {
				if req.UIDs.Contains(3) {
					return imap.No("", "Not that one")
				}
				c.Conn.SetValue(traced{}, "before "+req.UIDs.String())
				return nil
			})
			opts.After = append(opts.After, func(_ context.Context, c *imapserver.Call, req *imapserver.StoreRequest, res *imapserver.StoreResult) error {
				c.Conn.SetValue(traced{}, fmt.Sprintf("%v, after %v %v", c.Conn.Value(traced{}), req.UIDs, res.ModSeq > 0))
				return nil
			})
		}}},
		Commands: []*imapserver.Command{{Name: "XSIZES", States: imapserver.LoggedIn, UID: true, Args: "SP sequence-set", Parse: parseSizes}},
	}
}

// parseSizes is a command that works with messages: it tells their sizes.
func parseSizes(c *imapserver.Call, d *imapwire.Decoder) imapserver.Run {
	d.SP()
	set, saved := d.NumSet()
	return func(ctx context.Context) error {
		uids, err := c.Resolve(set, saved)
		if err != nil {
			return err
		}
		var sizes []string
		view := c.View()
		for uid := range uids.All() {
			pos, _ := view.Find(uid)
			sizes = append(sizes, fmt.Sprintf("%d:%d", pos+1, view.Row(pos).Size))
		}
		latest, err := c.Mailbox().Snapshot(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(rawWriter{c.Writer()}, "* XSIZES %s %v %d %s\r\n", c.MailboxName(), c.ReadOnly(), latest.Len(), strings.Join(sizes, " "))
		return nil
	}
}

// TestExtensionData: an extension reaches its own data of a message, and its
// commands work with messages as those of the protocol do.
func TestExtensionData(t *testing.T) {
	none := &imapserver.Extension{Name: "X-NONE", RFC: "-", Commands: []*imapserver.Command{
		command("XNONE", func(_ context.Context, c *imapserver.Call) error {
			if c.Mailbox() != nil || c.MailboxName() != "" || c.ReadOnly() || c.View() != nil {
				return errors.New("a mailbox where none is selected")
			}
			return nil
		})}}
	srv := memoryServer(t, imapserver.Options{Extensions: []*imapserver.Extension{notes(), none}})
	c := login(t, srv)
	c.ok("XNONE")
	c.appendTo("INBOX", hello, hello)
	for _, step := range []struct{ command, untagged, tagged string }{
		{"XSIZES 1", "", "BAD XSIZES needs a selected mailbox"},
		{"STATUS INBOX (XNOTES MESSAGES)", `* STATUS INBOX (XNOTES "ann/INBOX/2" MESSAGES 2)`, "OK "},
		{"EXAMINE INBOX", "...", "OK "},
		{"XSIZES 1:*", "* XSIZES INBOX true 2 1:55 2:55", "OK "},
		{"SELECT INBOX", "...", "OK "},
		{"FETCH 1:2 (XNOTE)", `* 1 FETCH (XNOTE "ann/INBOX/1")|* 2 FETCH (XNOTE "ann/INBOX/2")`, "OK "},
		{"FETCH 1 (XNOTE BODY.PEEK[]<0.1>)", "* 1 FETCH (XNOTE \"ann/INBOX/1\" BODY[]<0> {1}\r\nF)", "OK "},
		{"SEARCH XNOTE ann/INBOX/2", "* SEARCH 2", "OK "},
		{"SEARCH XDEEP ann/INBOX/1", "* SEARCH 1", "OK "},
		{"XSIZES 2", "* XSIZES INBOX false 2 2:55", "OK "},
		{"XSIZES 3", "", "BAD There is no message 3"},
		{"UID XSIZES 2:9", "* XSIZES INBOX false 2 2:55", "OK "},
		{"SEARCH RETURN (SAVE) 1", "", "OK "},
		{"XSIZES $", "* XSIZES INBOX false 2 1:55", "OK "},
	} {
		untagged, tagged := c.do(step.command)
		if got := strings.Join(untagged, "|"); step.untagged != "..." && got != step.untagged || !strings.HasPrefix(tagged, step.tagged) {
			t.Errorf("%s:\n got %s, %s\nwant %s, %s", step.command, got, tagged, step.untagged, step.tagged)
		}
	}
	conn := only(t, srv)
	c.ok(`STORE 1:2 (XTRACE) +FLAGS (\Seen)`)
	if got := conn.Value(traced{}); got != "before 1:2, after 1:2 true" {
		t.Errorf("STORE: %v", got)
	}
	// What cannot be looked up.
	c.appendTo("INBOX", hello)
	c.ok("NOOP")
	for command, want := range map[string]string{
		"FETCH 2:3 (XNOTE)":                  "* 2 FETCH (XNOTE \"ann/INBOX/2\")|NO [UNAVAILABLE] The notes are not there",
		"FETCH 2:3 (XNOTE BODY.PEEK[]<0.1>)": "* 2 FETCH (XNOTE \"ann/INBOX/2\" BODY[]<0> {1}\r\nF)|NO [UNAVAILABLE] The notes are not there",
		"SEARCH XNOTE x":                     "NO [UNAVAILABLE] The notes are not there",
		"SEARCH XDEEP x":                     "NO [UNAVAILABLE] The notes are not there",
		"STATUS INBOX (MESSAGES XNOTES)":     "NO [UNAVAILABLE] The notes are not there",
		`STORE 3 (XTRACE) +FLAGS (\Seen)`:    "NO Not that one",
	} {
		untagged, tagged := c.do(command)
		if got := strings.Join(append(untagged, tagged), "|"); got != want {
			t.Errorf("%s:\n got %s\nwant %s", command, got, want)
		}
	}
	if got := c.ok("FETCH 3 FLAGS"); len(got) != 1 || strings.Contains(got[0], "Seen") {
		t.Errorf("a refused STORE has changed something: %q", got)
	}
}

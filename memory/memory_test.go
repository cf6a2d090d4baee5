package memory_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/memory"
)

func hello(subject string) string { return "Subject: " + subject + "\r\n\r\nHello\r\n" }

// serve puts a model behind the adapter, and returns an account and a function
// that shows a mailbox as "UID flags subject" lines.
func serve(t *testing.T, m imapmodel.Model) (imapserver.Account, func(mailbox string) []string) {
	t.Helper()
	b, err := imapmodel.New(m, imapmodel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	acct, err := b.Open(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { acct.Close(); b.Close() })
	return acct, func(mailbox string) []string {
		t.Helper()
		list, err := m.Messages(t.Context(), "ann", mailbox)
		if err != nil {
			t.Fatal(err)
		}
		mb := open(t, acct, mailbox)
		snap, err := mb.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		lines := []string{}
		for i, row := range snap.Rows() {
			r, err := m.Open(t.Context(), "ann", mailbox, list[i].Key)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(r)
			subject, _, _ := strings.Cut(string(text), "\r\n")
			lines = append(lines, fmt.Sprintf("%d %s %s", row.UID, snap.Flags(row.Flags).Wire(), strings.TrimPrefix(subject, "Subject: ")))
		}
		return lines
	}
}

func open(t *testing.T, acct imapserver.Account, mailbox string) imapserver.Mailbox {
	t.Helper()
	mb, err := acct.Mailbox(t.Context(), mailbox)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mb.Close() })
	return mb
}

func appendTo(t *testing.T, acct imapserver.Account, mailbox string, texts ...string) error {
	t.Helper()
	var msgs []imapserver.AppendMessage
	for _, text := range texts {
		up, err := acct.Upload(t.Context(), int64(len(text)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(up, text); err != nil {
			t.Fatal(err)
		}
		msgs = append(msgs, imapserver.AppendMessage{Upload: up})
	}
	_, err := acct.Append(t.Context(), mailbox, msgs)
	return err
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// picky overrides Append.
type picky struct{ *memory.Model }

func (p picky) Append(ctx context.Context, user, mailbox string, msg *imapmodel.NewMessage) (string, error) {
	text, err := io.ReadAll(msg.Text)
	if err != nil {
		return "", err
	}
	if strings.Contains(string(text), "spam") {
		return "", imap.No("", "No spam here")
	}
	msg.Text = strings.NewReader(strings.ToUpper(string(text)))
	return p.Model.Append(ctx, user, mailbox, msg)
}

func TestOverrideAppend(t *testing.T) {
	m := picky{memory.New()}
	acct, show := serve(t, m)
	if err := appendTo(t, acct, "INBOX", hello("one"), hello("spam")); err == nil || !strings.Contains(err.Error(), "No spam here") {
		t.Errorf("append of spam: %v", err)
	}
	if err := appendTo(t, acct, "INBOX", hello("two"), hello("three")); err != nil {
		t.Fatal(err)
	}
	want(t, show("INBOX"), "1 () SUBJECT: TWO", "2 () SUBJECT: THREE")
	// COPY and MOVE come in the same way.
	m.Add("ann", "Other", hello("spam"))
	m.Add("ann", "Other", hello("ham"))
	other := open(t, acct, "Other")
	if _, err := other.Copy(t.Context(), imap.UIDSetOf(1), "INBOX", true); err == nil {
		t.Error("MOVE goes around Append")
	}
	if _, err := other.Copy(t.Context(), imap.UIDSetOf(2), "INBOX", false); err != nil {
		t.Error(err)
	}
	want(t, show("INBOX"), "1 () SUBJECT: TWO", "2 () SUBJECT: THREE", "3 () SUBJECT: HAM")
}

// starred overrides SetFlags: what is flagged is seen as well.
type starred struct{ *memory.Model }

func (s starred) SetFlags(ctx context.Context, user, mailbox string, keys []string, add, remove []imap.Flag) error {
	if imapmodel.HasFlag(add, imap.FlagFlagged) {
		add = append(add, imap.FlagSeen)
	}
	return s.Model.SetFlags(ctx, user, mailbox, keys, add, remove)
}

func TestOverrideSetFlags(t *testing.T) {
	m := starred{memory.New()}
	m.Add("ann", "INBOX", hello("one"))
	acct, show := serve(t, m)
	mb := open(t, acct, "INBOX")
	_, err := mb.Store(t.Context(), &imapserver.StoreRequest{UIDs: imap.UIDSetOf(1), Op: imapserver.FlagsAdd, Flags: []imap.Flag{imap.FlagFlagged}})
	if err != nil {
		t.Fatal(err)
	}
	want(t, show("INBOX"), `1 (\Seen \Flagged) one`)
}

// archive overrides Remove: what is expunged goes to another mailbox.
type archive struct{ *memory.Model }

func (a archive) Remove(ctx context.Context, user, mailbox string, keys []string) error {
	if mailbox == "Archive" {
		return imap.No("", "The archive is for ever")
	}
	_, err := a.Move(ctx, user, mailbox, keys, "Archive")
	return err
}

func TestOverrideRemove(t *testing.T) {
	m := archive{memory.New(imapmodel.Mailbox{Name: "INBOX"}, imapmodel.Mailbox{Name: "Archive"})}
	m.Add("ann", "INBOX", hello("one"), imap.FlagDeleted)
	m.Add("ann", "INBOX", hello("two"))
	acct, show := serve(t, m)
	mb := open(t, acct, "INBOX")
	if err := mb.Expunge(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	want(t, show("INBOX"), "2 () two")
	want(t, show("Archive"), `1 (\Deleted) one`)
	if err := open(t, acct, "Archive").Expunge(t.Context(), nil); err == nil {
		t.Error("the archive was expunged")
	}
}

// clock overrides Messages, Mailboxes and Open: a mailbox for each hour, which
// grows.
type clock struct {
	*memory.Model
	hours, ticks int
}

func (c *clock) Mailboxes(ctx context.Context, user string) ([]imapmodel.Mailbox, error) {
	list, err := c.Model.Mailboxes(ctx, user)
	for h := range c.hours {
		list = append(list, imapmodel.Mailbox{Name: fmt.Sprintf("Hours/%02d", h)})
	}
	return list, err
}

func (c *clock) Messages(ctx context.Context, user, mailbox string) ([]imapmodel.Message, error) {
	if !strings.HasPrefix(mailbox, "Hours/") {
		return c.Model.Messages(ctx, user, mailbox)
	}
	var list []imapmodel.Message
	for i := range c.ticks {
		list = append(list, imapmodel.Message{Key: fmt.Sprint("tick", i)})
	}
	return list, nil
}

func (c *clock) Open(ctx context.Context, user, mailbox, key string) (io.ReadCloser, error) {
	if !strings.HasPrefix(mailbox, "Hours/") {
		return c.Model.Open(ctx, user, mailbox, key)
	}
	return imapmodel.OpenBytes([]byte(hello(key))), nil
}

func TestOverridePollAndChildren(t *testing.T) {
	c := &clock{Model: memory.New(), hours: 1, ticks: 2}
	acct, show := serve(t, c)
	want(t, show("Hours/00"), "1 () tick0", "2 () tick1")
	woken := 0
	defer open(t, acct, "Hours/00").Watch(func() { woken++ })()
	c.hours, c.ticks = 2, 3
	c.Changed("ann", "")
	if woken == 0 {
		t.Error("nobody was told")
	}
	want(t, show("Hours/00"), "1 () tick0", "2 () tick1", "3 () tick2")
	boxes, err := acct.Mailboxes(t.Context())
	if err != nil || len(boxes) != 3 || boxes[1].Name != "Hours/01" && boxes[2].Name != "Hours/01" {
		t.Errorf("mailboxes %+v, %v", boxes, err)
	}
	c.hours = 1
	c.Changed("ann", "")
	if _, err := acct.Mailbox(t.Context(), "Hours/01"); !errors.Is(err, imap.NotFound) {
		t.Errorf("a mailbox that has gone: %v", err)
	}
}

// quiet overrides Features: it hides what the embedded model can do.
type quiet struct{ *memory.Model }

func (quiet) Features() imapmodel.Features { return imapmodel.FeatureWatch }

func TestOverrideFeatures(t *testing.T) {
	m := quiet{memory.New()}
	m.Add("ann", "INBOX", hello("one"))
	acct, _ := serve(t, m)
	if !open(t, acct, "INBOX").ReadOnly() {
		t.Error("flags can be changed")
	}
	if _, err := acct.Upload(t.Context(), 5); !errors.Is(err, imap.Cannot) {
		t.Errorf("append: %v", err)
	}
}

func TestAtomically(t *testing.T) {
	m := memory.New(imapmodel.Mailbox{Name: "INBOX"}, imapmodel.Mailbox{Name: "Other"})
	k1 := m.Add("ann", "INBOX", hello("one"), "a")
	k2 := m.Add("ann", "INBOX", hello("two"), "b")
	k3 := m.Add("ann", "INBOX", hello("three"), "c")
	_, show := serve(t, m)
	before := show("INBOX")
	no := errors.New("no")
	err := m.Atomically(t.Context(), "ann", func(ctx context.Context) error {
		_, err := m.Append(ctx, "ann", "Other", &imapmodel.NewMessage{Text: strings.NewReader(hello("four")), Date: time.Now()})
		return errors.Join(
			err,
			m.SetFlags(ctx, "ann", "INBOX", []string{k1, k3}, []imap.Flag{imap.FlagSeen}, []imap.Flag{"a"}),
			m.Remove(ctx, "ann", "INBOX", []string{k1, k2}),
			m.SetFlags(ctx, "ann", "INBOX", []string{k3}, []imap.Flag{"d"}, nil),
			m.Atomically(ctx, "ann", func(ctx context.Context) error { return m.Remove(ctx, "ann", "INBOX", []string{k3}) }),
			no,
		)
	})
	if !errors.Is(err, no) {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff(before, show("INBOX")); diff != "" {
		t.Errorf("not undone:\n%s", diff)
	}
	if list, _ := m.Messages(t.Context(), "ann", "Other"); len(list) != 0 {
		t.Errorf("%d messages stay", len(list))
	}
}

func TestNativeCopyAndMove(t *testing.T) {
	m := memory.New(imapmodel.Mailbox{Name: "INBOX"}, imapmodel.Mailbox{Name: "Other"})
	k1 := m.Add("ann", "INBOX", hello("one"), imap.FlagSeen)
	if _, err := m.Copy(t.Context(), "ann", "INBOX", []string{k1, "none"}, "Other"); !errors.Is(err, imap.ExpungeIssued) {
		t.Errorf("copy of what is not there: %v", err)
	}
	for _, f := range []func() ([]string, error){
		func() ([]string, error) { return m.Copy(t.Context(), "ann", "INBOX", []string{k1}, "Other") },
		func() ([]string, error) { return m.Move(t.Context(), "ann", "INBOX", []string{k1}, "Other") },
	} {
		if keys, err := f(); err != nil || len(keys) != 1 {
			t.Errorf("keys %v, %v", keys, err)
		}
	}
	_, show := serve(t, m)
	want(t, show("INBOX"), []string{}...)
	want(t, show("Other"), `1 (\Seen) one`, `2 (\Seen) one`)
}

// Each user has mailboxes of their own.
func TestUsers(t *testing.T) {
	m := memory.New()
	m.Add("bob", "INBOX", hello("for bob"))
	_, show := serve(t, m)
	if got := show("INBOX"); len(got) != 0 {
		t.Errorf("ann sees %v", got)
	}
	list, err := m.Mailboxes(t.Context(), "carol")
	if err != nil || !slices.ContainsFunc(list, func(b imapmodel.Mailbox) bool { return b.Name == "INBOX" }) {
		t.Errorf("a new user has %+v, %v", list, err)
	}
}

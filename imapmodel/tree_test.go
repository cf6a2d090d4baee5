package imapmodel_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/memory"
)

func (e *env) names() string {
	e.t.Helper()
	boxes, err := e.acct.Mailboxes(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	var names []string
	for _, b := range boxes {
		name := b.Name
		if b.NoSelect {
			name += "(noselect)"
		}
		if b.Missing {
			name += "(missing)"
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

func (e *env) wantNames(want string) {
	e.t.Helper()
	if diff := cmp.Diff(want, e.names()); diff != "" {
		e.t.Errorf("mailboxes (-want +got):\n%s", diff)
	}
}

func (e *env) create(name string) {
	e.t.Helper()
	if _, err := e.acct.Create(e.t.Context(), name, imapserver.CreateOptions{}); err != nil {
		e.t.Fatal(err)
	}
}

func TestMailboxes(t *testing.T) {
	e := newEnv(t, memory.New(), imapmodel.Options{State: &imapmodel.MemoryState{}})
	defer e.close()
	e.create("a/b/c")
	e.wantNames("INBOX a a/b a/b/c")
	if _, err := e.acct.Create(t.Context(), "a/b", imapserver.CreateOptions{}); !errors.Is(err, imap.Exists) {
		t.Errorf("create what exists: %v", err)
	}
	first := e.status("a/b")
	e.append("a/b", text("one"))
	if err := e.acct.Delete(t.Context(), "a/b"); err != nil {
		t.Fatal(err)
	}
	e.wantNames("INBOX a a/b/c")
	if _, err := e.acct.Status(t.Context(), "a/b"); !errors.Is(err, imap.NotFound) {
		t.Errorf("status of a deleted mailbox: %v", err)
	}
	if err := e.acct.Delete(t.Context(), "a/b"); !errors.Is(err, imap.HasChildren) {
		t.Errorf("delete of a parent that is no mailbox: %v", err)
	}
	e.create("a/b")
	again := e.status("a/b")
	if again.UIDValidity <= first.UIDValidity || again.ID == first.ID || again.Messages != 0 {
		t.Errorf("made again: %+v, before: %+v", again, first)
	}
	for name, want := range map[string]imap.Kind{"none": imap.NotFound, "INBOX": imap.Cannot} {
		if err := e.acct.Delete(t.Context(), name); !errors.Is(err, want) {
			t.Errorf("delete %s: %v, want %v", name, err, want)
		}
	}
}

func TestRename(t *testing.T) {
	e := newEnv(t, memory.New(), imapmodel.Options{State: &imapmodel.MemoryState{}})
	defer e.close()
	e.create("a/b")
	e.append("a/b", text("one"))
	before := e.status("a/b")
	mb := e.open("a/b")
	defer mb.Close()
	if err := e.acct.Rename(t.Context(), "a", "x/y"); err != nil {
		t.Fatal(err)
	}
	e.wantNames("INBOX x x/y x/y/b")
	if diff := cmp.Diff(before, e.status("x/y/b")); diff != "" {
		t.Errorf("the renamed mailbox differs:\n%s", diff)
	}
	// A session goes on in the renamed mailbox.
	e.append("x/y/b", text("two"))
	e.wantRows(mb, "1 ()", "2 ()")
	if _, err := e.body(mb, e.snap(mb).Row(0)); err != nil {
		t.Error(err)
	}
	// A name that was used before gets a greater UIDVALIDITY.
	e.create("a/b")
	if st := e.status("a/b"); st.UIDValidity <= before.UIDValidity {
		t.Errorf("UIDVALIDITY %d after %d", st.UIDValidity, before.UIDValidity)
	}
	last := e.status("a/b").UIDValidity
	if err := errors.Join(e.acct.Delete(t.Context(), "a/b"), e.acct.Rename(t.Context(), "x/y/b", "a/b")); err != nil {
		t.Fatal(err)
	}
	if st := e.status("a/b"); st.UIDValidity <= last || st.Messages != 2 {
		t.Errorf("status %+v, want a UIDVALIDITY above %d and 2 messages", st, last)
	}
	for _, tt := range []struct {
		from, to string
		want     imap.Kind
	}{{"none", "new", imap.NotFound}, {"x", "a", imap.Exists}, {"x", "x/z", imap.Cannot}} {
		if err := e.acct.Rename(t.Context(), tt.from, tt.to); !errors.Is(err, tt.want) {
			t.Errorf("rename %s to %s: %v, want %v", tt.from, tt.to, err, tt.want)
		}
	}
}

func TestRenameInbox(t *testing.T) {
	e := newEnv(t, memory.New(), imapmodel.Options{})
	defer e.close()
	e.create("INBOX/child")
	e.append("INBOX", text("one"), imap.FlagSeen)
	if err := e.acct.Rename(t.Context(), "INBOX", "old/inbox"); err != nil {
		t.Fatal(err)
	}
	e.wantNames("INBOX INBOX/child old old/inbox")
	if n := e.status("INBOX").Messages; n != 0 {
		t.Errorf("INBOX still has %d messages", n)
	}
	mb := e.open("old/inbox")
	defer mb.Close()
	e.wantRows(mb, `1 (\Seen)`)
}

func TestMailboxesThatShift(t *testing.T) {
	m := memory.New()
	m.Add("ann", "feed", text("one"))
	e := newEnv(t, m, imapmodel.Options{})
	defer e.close()
	mb := e.open("feed")
	defer mb.Close()
	before := e.snap(mb).UIDValidity()
	if err := m.DeleteMailbox(t.Context(), "ann", "feed"); err != nil {
		t.Fatal(err)
	}
	if _, err := mb.Snapshot(t.Context()); !errors.Is(err, imap.NotFound) {
		t.Errorf("snapshot of a mailbox that has gone: %v", err)
	}
	e.wantNames("INBOX")
	m.Add("ann", "feed", text("two"))
	e.wantNames("INBOX feed")
	if st := e.status("feed"); st.UIDValidity <= before || st.Messages != 1 {
		t.Errorf("the mailbox that came back: %+v, before %d", st, before)
	}
	if _, err := mb.Snapshot(t.Context()); !errors.Is(err, imap.NotFound) {
		t.Errorf("a session of the old mailbox goes on in the new one: %v", err)
	}
}

func TestSubscriptions(t *testing.T) {
	state := &imapmodel.MemoryState{}
	models := map[string]struct {
		model imapmodel.Model
		opts  imapmodel.Options
	}{
		"by the model":     {memory.New(), imapmodel.Options{}},
		"by the framework": {&counting{Model: memory.New(), features: allFeatures &^ imapmodel.FeatureSubscribe}, imapmodel.Options{KeepSubscriptions: true, State: state}},
	}
	for name, tt := range models {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, tt.model, tt.opts)
			for _, name := range []string{"gone", "INBOX", "gone"} {
				if err := e.acct.Subscribe(t.Context(), name, true); err != nil {
					t.Fatal(err)
				}
			}
			e.wantNames("INBOX gone(missing)")
			e.close()
			e = newEnv(t, tt.model, tt.opts)
			defer e.close()
			e.wantNames("INBOX gone(missing)")
			if err := e.acct.Subscribe(t.Context(), "gone", false); err != nil {
				t.Fatal(err)
			}
			e.wantNames("INBOX")
			if boxes, _ := e.acct.Mailboxes(t.Context()); !boxes[0].Subscribed {
				t.Error("INBOX is not subscribed to any more")
			}
		})
	}
}

func TestSpellingOfTheModel(t *testing.T) {
	const decomposed = "Cafe\u0301"
	m := memory.New()
	m.Add("ann", decomposed, text("one"))
	e := newEnv(t, m, imapmodel.Options{})
	defer e.close()
	e.wantNames("Caf\u00e9 INBOX")
	e.append("Caf\u00e9", text("two"))
	mb := e.open("Caf\u00e9")
	defer mb.Close()
	e.wantRows(mb, "1 ()", "2 ()")
	if err := e.acct.Rename(t.Context(), "Caf\u00e9", "Tea"); err != nil {
		t.Fatal(err)
	}
	e.wantRows(mb, "1 ()", "2 ()")
}

// hooks counts who is there.
type hooks struct {
	*memory.Model
	users, boxes int
	refuse       error
}

func (h *hooks) LoggedIn(context.Context, string) error {
	if h.refuse == nil {
		h.users++
	}
	return h.refuse
}
func (h *hooks) LoggedOut(string) { h.users-- }
func (h *hooks) Selected(context.Context, string, string) error {
	if h.refuse == nil {
		h.boxes++
	}
	return h.refuse
}
func (h *hooks) Unselected(string, string) { h.boxes-- }

func TestHooks(t *testing.T) {
	h := &hooks{Model: memory.New()}
	e := newEnv(t, h, imapmodel.Options{})
	mb := e.open("INBOX")
	if h.users != 1 || h.boxes != 1 {
		t.Errorf("%d users, %d mailboxes, want 1 and 1", h.users, h.boxes)
	}
	h.refuse = imap.No("", "Not now")
	if _, err := e.acct.Mailbox(t.Context(), "INBOX"); !errors.Is(err, h.refuse) {
		t.Errorf("select: %v, want the refusal", err)
	}
	if _, err := e.b.Open(t.Context(), "bob"); !errors.Is(err, h.refuse) {
		t.Errorf("login: %v, want the refusal", err)
	}
	mb.Close()
	mb.Close()
	e.close()
	if h.users != 0 || h.boxes != 0 {
		t.Errorf("%d users, %d mailboxes, want none", h.users, h.boxes)
	}
}

func TestUIDValidityWithoutState(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	clock := func() time.Time { return now }
	m := memory.New()
	var last imap.UIDValidity
	for range 3 {
		e := newEnv(t, m, imapmodel.Options{Clock: clock})
		v := e.status("INBOX").UIDValidity
		if v <= last {
			t.Errorf("UIDVALIDITY %d after %d", v, last)
		}
		last = v
		if e.b.Features().Has(imapserver.FeatureObjectID) {
			t.Error("object identifiers are announced, but would not outlive a restart")
		}
		e.close()
		now = now.Add(time.Second)
	}
}

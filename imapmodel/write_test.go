package imapmodel_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/memory"
)

func TestStore(t *testing.T) {
	m := memory.New()
	m.Add("ann", "INBOX", text("one"), "old")
	m.Add("ann", "INBOX", text("two"), imap.FlagSeen)
	m.Add("ann", "INBOX", text("three"))
	e := newEnv(t, m, imapmodel.Options{})
	defer e.close()
	mb := e.open("INBOX")
	defer mb.Close()
	before := e.snap(mb).HighestModSeq()

	res := e.store(mb, imapserver.FlagsAdd, uids(1, 2, 9), `\seen`, "new", imap.FlagRecent)
	e.wantRows(mb, `1 (\Seen old new)`, `2 (\Seen new)`, "3 ()")
	if res.ModSeq <= before || res.ModSeq != e.snap(mb).ModSeq(0) || res.Missing.String() != "9" || !res.Modified.IsEmpty() {
		t.Errorf("result %+v", res)
	}
	if res := e.store(mb, imapserver.FlagsAdd, uids(1, 2), imap.FlagSeen); res.ModSeq != 0 {
		t.Errorf("a STORE that changes nothing has MODSEQ %d", res.ModSeq)
	}
	e.store(mb, imapserver.FlagsRemove, uids(1, 3), "OLD", imap.FlagSeen)
	e.wantRows(mb, "1 (new)", `2 (\Seen new)`, "3 ()")
	e.store(mb, imapserver.FlagsReplace, imap.UIDSetOfRange(1, 4_000_000_000), imap.FlagDraft)
	e.wantRows(mb, `1 (\Draft)`, `2 (\Draft)`, `3 (\Draft)`)

	since := e.snap(mb).HighestModSeq()
	e.store(mb, imapserver.FlagsAdd, uids(2), imap.FlagFlagged)
	res, err := mb.Store(t.Context(), &imapserver.StoreRequest{
		UIDs: uids(1, 2), Op: imapserver.FlagsReplace, Flags: nil, UnchangedSince: since, HasUnchangedSince: true,
	})
	if err != nil || res.Modified.String() != "2" {
		t.Errorf("UNCHANGEDSINCE: %+v, %v", res, err)
	}
	e.wantRows(mb, "1 ()", `2 (\Flagged \Draft)`, `3 (\Draft)`)
}

func TestFlagsThatTheMailboxAllows(t *testing.T) {
	m := memory.New(imapmodel.Mailbox{Name: "INBOX", Flags: []imap.Flag{imap.FlagSeen, "todo"}})
	m.Add("ann", "INBOX", text("one"), "fixed")
	e := newEnv(t, m, imapmodel.Options{})
	defer e.close()
	mb := e.open("INBOX")
	defer mb.Close()
	e.store(mb, imapserver.FlagsReplace, uids(1), imap.FlagSeen, imap.FlagFlagged, "todo", "other")
	e.wantRows(mb, `1 (\Seen fixed todo)`)
	if flags, keywords := mb.PermanentFlags(); len(flags) != 2 || keywords {
		t.Errorf("permanent flags %v, %v", flags, keywords)
	}
}

func TestFlagsKeptForTheModel(t *testing.T) {
	state := &imapmodel.MemoryState{}
	opts := imapmodel.Options{KeepFlags: true, State: state}
	e := newEnv(t, readOnly{}, opts)
	mb := e.open("INBOX")
	e.store(mb, imapserver.FlagsAdd, uids(2), imap.FlagSeen, "kw")
	e.wantRows(mb, "1 ()", `2 (\Seen kw)`)
	if flags, _ := mb.PermanentFlags(); imapmodel.HasFlag(flags, imap.FlagDeleted) {
		t.Error(`\Deleted is allowed although nothing can be removed`)
	}
	mb.Close()
	e.close()
	e = newEnv(t, readOnly{}, opts)
	defer e.close()
	mb = e.open("INBOX")
	defer mb.Close()
	e.wantRows(mb, "1 ()", `2 (\Seen kw)`)
}

func TestAppend(t *testing.T) {
	e := newEnv(t, memory.New(), imapmodel.Options{})
	defer e.close()
	mb := e.open("INBOX")
	defer mb.Close()
	big := text("big") + strings.Repeat("0123456789abcde\r\n", 40_000)
	res := e.append("INBOX", big, imap.FlagSeen, `\SEEN`, imap.FlagRecent)
	if len(res.UIDs) != 1 || res.UIDs[0] != 1 || res.UIDValidity != e.snap(mb).UIDValidity() {
		t.Errorf("result %+v", res)
	}
	e.wantRows(mb, `1 (\Seen)`)
	if got, err := e.body(mb, e.snap(mb).Row(0)); got != big || err != nil {
		t.Errorf("%d bytes came back of %d (%v)", len(got), len(big), err)
	}
	many, err := e.tryAppend("INBOX", nil, text("a"), text("b"))
	if err != nil || len(many.UIDs) != 2 || many.UIDs[0] != 2 || many.UIDs[1] != 3 {
		t.Errorf("result %+v, %v", many, err)
	}
}

// limited refuses the third message.
type limited struct {
	*memory.Model
	left     int
	features imapmodel.Features
}

func (l *limited) Features() imapmodel.Features { return l.features }

func (l *limited) Append(ctx context.Context, user, mailbox string, msg *imapmodel.NewMessage) (string, error) {
	if l.left--; l.left < 0 {
		return "", imap.E("append", imap.OverQuota, nil)
	}
	return l.Model.Append(ctx, user, mailbox, msg)
}

func TestAllOrNone(t *testing.T) {
	for name, features := range map[string]imapmodel.Features{
		"atomic":    imapmodel.FeatureAppend | imapmodel.FeatureAtomic | imapmodel.FeatureRemove,
		"by remove": imapmodel.FeatureAppend | imapmodel.FeatureRemove,
	} {
		t.Run(name, func(t *testing.T) {
			m := &limited{Model: memory.New(), left: 2, features: features}
			for _, s := range []string{"one", "two", "three"} {
				m.Add("ann", "INBOX", text(s))
			}
			m.AddMailbox("ann", imapmodel.Mailbox{Name: "Other"})
			e := newEnv(t, m, imapmodel.Options{})
			defer e.close()
			mb := e.open("INBOX")
			defer mb.Close()
			if _, err := mb.Copy(t.Context(), uids(1, 2, 3), "Other", false); !errors.Is(err, imap.OverQuota) {
				t.Errorf("copy: %v", err)
			}
			if n := e.status("Other").Messages; n != 0 {
				t.Errorf("%d messages of a failed COPY stay", n)
			}
			m.left = 2
			if _, err := mb.Copy(t.Context(), uids(1, 2, 3), "Other", true); !errors.Is(err, imap.OverQuota) {
				t.Errorf("move: %v", err)
			}
			e.wantRows(mb, "1 ()", "2 ()", "3 ()")
			if n := e.status("Other").Messages; n != 0 {
				t.Errorf("%d messages of a failed MOVE stay", n)
			}
			m.left = 2
			_, err := e.tryAppend("Other", nil, "a", "b", "c")
			if want := imap.OverQuota; features.Has(imapmodel.FeatureAtomic) && !errors.Is(err, want) {
				t.Errorf("append: %v, want %v", err, want)
			} else if !features.Has(imapmodel.FeatureAtomic) && !errors.Is(err, imap.Cannot) {
				t.Errorf("append of several: %v, want Cannot", err)
			}
			if n := e.status("Other").Messages; n != 0 {
				t.Errorf("%d messages of a failed APPEND stay", n)
			}
		})
	}
}

func TestCopyAndMove(t *testing.T) {
	for name, features := range map[string]imapmodel.Features{
		"native":       allFeatures,
		"by appending": allFeatures &^ (imapmodel.FeatureCopy | imapmodel.FeatureMove),
		"step by step": allFeatures &^ (imapmodel.FeatureCopy | imapmodel.FeatureMove | imapmodel.FeatureAtomic),
		"no watch":     allFeatures &^ imapmodel.FeatureWatch,
	} {
		t.Run(name, func(t *testing.T) {
			m := &counting{Model: memory.New(), features: features}
			for _, s := range []string{"one", "two", "three"} {
				m.Add("ann", "INBOX", text(s), imap.FlagFlagged)
			}
			m.Add("ann", "Other", text("there before"))
			e := newEnv(t, m, imapmodel.Options{State: &imapmodel.MemoryState{}})
			defer e.close()
			mb, other := e.open("INBOX"), e.open("Other")
			defer mb.Close()
			defer other.Close()
			emailID := e.ids(mb, 0)

			res, err := mb.Copy(t.Context(), uids(1, 2, 7), "Other", false)
			if err != nil {
				t.Fatal(err)
			}
			checkCopy(t, res, e.snap(other), []imap.UID{1, 2}, []imap.UID{2, 3})
			e.wantRows(other, "1 ()", `2 (\Flagged)`, `3 (\Flagged)`)
			if got := e.ids(other, 1); got != emailID {
				t.Errorf("the copy has the identifiers %s, the original %s", got, emailID)
			}

			res, err = mb.Copy(t.Context(), uids(1, 3), "Other", true)
			if err != nil {
				t.Fatal(err)
			}
			checkCopy(t, res, e.snap(other), []imap.UID{1, 3}, []imap.UID{4, 5})
			e.wantRows(mb, `2 (\Flagged)`)
			if got := e.ids(other, 3); got != emailID {
				t.Errorf("the moved message has the identifiers %s, before %s", got, emailID)
			}

			// A second MOVE of the same messages does no harm.
			res, err = mb.Copy(t.Context(), uids(1, 3), "Other", true)
			if err != nil || len(res.Source) != 0 {
				t.Errorf("second MOVE: %+v, %v", res, err)
			}
			if n := e.snap(other).Len(); n != 5 {
				t.Errorf("%d messages after the second MOVE", n)
			}

			// Within one mailbox.
			res, err = mb.Copy(t.Context(), uids(2), "INBOX", true)
			if err != nil || len(res.Dest) != 1 || res.Dest[0] != 4 {
				t.Errorf("MOVE within a mailbox: %+v, %v", res, err)
			}
			e.wantRows(mb, `4 (\Flagged)`)

			if _, err := mb.Copy(t.Context(), uids(4), "Nowhere", false); !errors.Is(err, imap.NotFound) {
				t.Errorf("copy to no mailbox: %v", err)
			}
		})
	}
}

func checkCopy(t *testing.T, res *imapserver.CopyResult, dest *mailindex.Snapshot, from, to []imap.UID) {
	t.Helper()
	if res.UIDValidity != dest.UIDValidity() || !equal(res.Source, from) || !equal(res.Dest, to) {
		t.Errorf("result %+v, want %v to %v", res, from, to)
	}
}

func equal(a, b []imap.UID) bool {
	x, y := imap.UIDSetOf(a...), imap.UIDSetOf(b...)
	return len(a) == len(b) && x.Equal(y)
}

func (e *env) ids(mb imapserver.Mailbox, i int) string {
	e.t.Helper()
	var ids string
	err := mb.Fetch(e.t.Context(), []mailindex.Row{e.snap(mb).Row(i)}, imapserver.NeedIDs, func(_ int, m *imapserver.Message) error {
		ids = string(m.EmailID + " " + m.ThreadID)
		if !m.EmailID.Valid() || !m.ThreadID.Valid() {
			e.t.Errorf("identifiers %q, %q", m.EmailID, m.ThreadID)
		}
		return m.Err
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return ids
}

func TestExpungeAndGhosts(t *testing.T) {
	m := memory.New()
	for _, s := range []string{"one", "two", "three"} {
		m.Add("ann", "INBOX", text(s), imap.FlagDeleted)
	}
	e := newEnv(t, m, imapmodel.Options{})
	defer e.close()
	a, b := e.open("INBOX"), e.open("INBOX")
	defer a.Close()
	defer b.Close()
	view := e.snap(b)
	set := uids(1, 2)
	if err := a.Expunge(t.Context(), &set); err != nil {
		t.Fatal(err)
	}
	e.wantRows(a, `3 (\Deleted)`)
	if err := a.Expunge(t.Context(), &set); err != nil {
		t.Errorf("second EXPUNGE: %v", err)
	}
	// b has not been told: it reads and copies what is gone.
	if got, err := e.body(b, view.Row(0)); got != text("one") || err != nil {
		t.Errorf("expunged message: %q, %v", got, err)
	}
	m.AddMailbox("ann", imapmodel.Mailbox{Name: "Kept"})
	if res, err := b.Copy(t.Context(), uids(1, 3), "Kept", false); err != nil || len(res.Dest) != 2 {
		t.Errorf("copy of an expunged message: %+v, %v", res, err)
	}
	if res := e.store(b, imapserver.FlagsAdd, uids(1, 3), imap.FlagSeen); res.Missing.String() != "1" {
		t.Errorf("store to an expunged message: %+v", res)
	}
	a.Release(e.snap(a).HighestModSeq())
	b.Release(e.snap(b).HighestModSeq())
	if _, err := e.body(b, view.Row(0)); !errors.Is(err, imap.ExpungeIssued) {
		t.Errorf("a released message: %v", err)
	}
	if err := a.Expunge(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	e.wantRows(a)
}

func TestGhostsAreBounded(t *testing.T) {
	m := memory.New()
	m.Add("ann", "INBOX", text("one"), imap.FlagDeleted)
	m.Add("ann", "INBOX", text("two"), imap.FlagDeleted)
	e := newEnv(t, m, imapmodel.Options{GhostBytes: int64(len(text("one"))) + 5, CacheBytes: 1})
	defer e.close()
	a, b := e.open("INBOX"), e.open("INBOX")
	defer a.Close()
	defer b.Close()
	view := e.snap(b)
	if err := a.Expunge(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got, err := e.body(b, view.Row(0)); got != text("one") || err != nil {
		t.Errorf("the first: %q, %v", got, err)
	}
	if _, err := e.body(b, view.Row(1)); !errors.Is(err, imap.ExpungeIssued) {
		t.Errorf("the second: %v, want ExpungeIssued", err)
	}
}

func TestRecent(t *testing.T) {
	state := &imapmodel.MemoryState{}
	m := memory.New()
	m.Add("ann", "INBOX", text("one"))
	m.Add("ann", "INBOX", text("two"))
	e := newEnv(t, m, imapmodel.Options{State: state})
	claim := func(first, last imap.UID) {
		t.Helper()
		mb := e.open("INBOX")
		defer mb.Close()
		f, l, err := mb.ClaimRecent(t.Context())
		if err != nil || f > l != (first > last) || first <= last && (f != first || l != last) {
			t.Errorf("claimed %d to %d (%v), want %d to %d", f, l, err, first, last)
		}
	}
	if st := e.status("INBOX"); st.Recent != 2 || st.Unseen != 2 || st.Messages != 2 {
		t.Errorf("status %+v", st)
	}
	claim(1, 2)
	claim(1, 0)
	m.Add("ann", "INBOX", text("three"))
	e.close()
	e = newEnv(t, m, imapmodel.Options{State: state})
	defer e.close()
	claim(3, 3)
	claim(1, 0)
}

func TestMessageLargerThanAllowed(t *testing.T) {
	m := memory.New()
	m.Add("ann", "INBOX", text("one")+strings.Repeat("x", 1000))
	e := newEnv(t, m, imapmodel.Options{MaxMessage: 500})
	defer e.close()
	mb := e.open("INBOX")
	defer mb.Close()
	if _, err := e.body(mb, e.snap(mb).Row(0)); !errors.Is(err, imap.TooBig) {
		t.Errorf("got %v, want TooBig", err)
	}
}

// failing gives a message whose text breaks off.
type failing struct{ *memory.Model }

func (failing) Open(context.Context, string, string, string) (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader("Subject: x\r\n"), errReader{})), nil
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("broken off") }

func TestOneBadMessage(t *testing.T) {
	m := failing{memory.New()}
	m.Add("ann", "INBOX", text("one"))
	e := newEnv(t, m, imapmodel.Options{})
	defer e.close()
	mb := e.open("INBOX")
	defer mb.Close()
	if _, err := e.body(mb, e.snap(mb).Row(0)); err == nil || !strings.Contains(err.Error(), "broken off") {
		t.Errorf("got %v, want the cause", err)
	}
}

package imapmodel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/memory"
)

func text(subject string) string {
	return "Subject: " + subject + "\r\nMessage-ID: <" + subject + "@example.org>\r\n\r\nHello from " + subject + "\r\n"
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// counting counts how often a model is listed, and can be told what to declare.
type counting struct {
	*memory.Model
	lists    atomic.Int64
	features imapmodel.Features
}

func (c *counting) Features() imapmodel.Features {
	if c.features != 0 {
		return c.features
	}
	return c.Model.Features()
}

func (c *counting) Messages(ctx context.Context, user, mailbox string) ([]imapmodel.Message, error) {
	c.lists.Add(1)
	return c.Model.Messages(ctx, user, mailbox)
}

const allFeatures = imapmodel.FeatureAppend | imapmodel.FeatureFlags | imapmodel.FeatureRemove |
	imapmodel.FeatureMailboxes | imapmodel.FeatureSubscribe | imapmodel.FeatureAtomic |
	imapmodel.FeatureCopy | imapmodel.FeatureMove | imapmodel.FeatureWatch | imapmodel.FeatureBinary

// env is a back end, and one connection of the user "ann".
type env struct {
	t    testing.TB
	b    *imapmodel.Backend
	acct imapserver.Account
}

func newEnv(t testing.TB, m imapmodel.Model, opts imapmodel.Options) *env {
	t.Helper()
	if opts.Log == nil {
		opts.Log = quiet()
	}
	b, err := imapmodel.New(m, opts)
	if err != nil {
		t.Fatal(err)
	}
	e := &env{t: t, b: b}
	e.acct = e.login()
	return e
}

func (e *env) login() imapserver.Account {
	e.t.Helper()
	acct, err := e.b.Open(e.t.Context(), "ann")
	if err != nil {
		e.t.Fatal(err)
	}
	return acct
}

func (e *env) close() {
	e.t.Helper()
	if err := errors.Join(e.acct.Close(), e.b.Close()); err != nil {
		e.t.Fatal(err)
	}
}

func (e *env) open(name string) imapserver.Mailbox {
	e.t.Helper()
	mb, err := e.acct.Mailbox(e.t.Context(), name)
	if err != nil {
		e.t.Fatal(err)
	}
	return mb
}

func (e *env) snap(mb imapserver.Mailbox) *mailindex.Snapshot {
	e.t.Helper()
	s, err := mb.Snapshot(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	return s
}

func (e *env) status(name string) *imapserver.Status {
	e.t.Helper()
	st, err := e.acct.Status(e.t.Context(), name)
	if err != nil {
		e.t.Fatal(err)
	}
	return st
}

func (e *env) append(name, body string, flags ...imap.Flag) *imapserver.AppendResult {
	e.t.Helper()
	res, err := e.tryAppend(name, flags, body)
	if err != nil {
		e.t.Fatal(err)
	}
	return res
}

func (e *env) tryAppend(name string, flags []imap.Flag, bodies ...string) (*imapserver.AppendResult, error) {
	e.t.Helper()
	var msgs []imapserver.AppendMessage
	for _, body := range bodies {
		up, err := e.acct.Upload(e.t.Context(), int64(len(body)))
		if err != nil {
			return nil, err
		}
		if _, err := io.WriteString(up, body); err != nil {
			e.t.Fatal(err)
		}
		msgs = append(msgs, imapserver.AppendMessage{Upload: up, Flags: flags})
	}
	return e.acct.Append(e.t.Context(), name, msgs)
}

func (e *env) store(mb imapserver.Mailbox, op imapserver.FlagOp, uids imap.UIDSet, flags ...imap.Flag) *imapserver.StoreResult {
	e.t.Helper()
	res, err := mb.Store(e.t.Context(), &imapserver.StoreRequest{UIDs: uids, Op: op, Flags: flags})
	if err != nil {
		e.t.Fatal(err)
	}
	return res
}

// show returns a mailbox as lines "UID flags".
func show(s *mailindex.Snapshot) []string {
	lines := []string{}
	for _, row := range s.Rows() {
		lines = append(lines, fmt.Sprintf("%d %s", row.UID, s.Flags(row.Flags).Wire()))
	}
	return lines
}

func (e *env) wantRows(mb imapserver.Mailbox, want ...string) {
	e.t.Helper()
	if want == nil {
		want = []string{}
	}
	if diff := cmp.Diff(want, show(e.snap(mb))); diff != "" {
		e.t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// body reads a message; "" and the error where it cannot be read.
func (e *env) body(mb imapserver.Mailbox, row mailindex.Row) (string, error) {
	e.t.Helper()
	var out string
	var failed error
	err := mb.Fetch(e.t.Context(), []mailindex.Row{row}, imapserver.NeedBody|imapserver.NeedDigest|imapserver.NeedHeader|imapserver.NeedText, func(_ int, m *imapserver.Message) error {
		if failed = m.Err; failed != nil {
			return nil
		}
		data, err := io.ReadAll(io.NewSectionReader(m.Body, 0, m.Digest.Size))
		out = string(data)
		return err
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return out, failed
}

func uids(list ...imap.UID) imap.UIDSet { return imap.UIDSetOf(list...) }

// readOnly implements only what every model must.
type readOnly struct{ features imapmodel.Features }

func (m readOnly) Features() imapmodel.Features { return m.features }
func (readOnly) Mailboxes(context.Context, string) ([]imapmodel.Mailbox, error) {
	return []imapmodel.Mailbox{{Name: "inbox"}, {Name: "bad//name"}, {Name: "Inbox"}}, nil
}
func (readOnly) Messages(context.Context, string, string) ([]imapmodel.Message, error) {
	return []imapmodel.Message{{Key: "a"}, {Key: "b", Size: int64(len(text("b")))}, {Key: "a"}}, nil
}
func (readOnly) Open(_ context.Context, _, mailbox, key string) (io.ReadCloser, error) {
	if mailbox != "inbox" {
		return nil, errors.New("not as the model spells it: " + mailbox)
	}
	return imapmodel.OpenBytes([]byte(text(key))), nil
}

func TestNewRefusesWhatIsNotThere(t *testing.T) {
	tests := []struct {
		features imapmodel.Features
		want     string
	}{
		{imapmodel.FeatureAppend, "FeatureAppend, but has no method Append"},
		{imapmodel.FeatureFlags, "FeatureFlags, but has no method SetFlags"},
		{imapmodel.FeatureRemove, "FeatureRemove, but has no method Remove"},
		{imapmodel.FeatureMailboxes, "CreateMailbox"},
		{imapmodel.FeatureSubscribe, "Subscribe"},
		{imapmodel.FeatureAtomic, "Atomically"},
		{imapmodel.FeatureCopy, "no method Copy"},
		{imapmodel.FeatureMove, "no method Move"},
		{imapmodel.FeatureWatch, "no method Watch"},
		{imapmodel.FeatureSelect, "Selected"},
		{imapmodel.FeatureUser, "LoggedIn"},
		{imapmodel.FeatureSearch, "no method Search"},
		{1 << 31, "unknown features"},
	}
	for _, tt := range tests {
		_, err := imapmodel.New(readOnly{tt.features}, imapmodel.Options{})
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "readOnly") {
			t.Errorf("features %#x: error %v, want one with %q and the model's type", tt.features, err, tt.want)
		}
	}
	if _, err := imapmodel.New(nil, imapmodel.Options{}); err == nil {
		t.Error("New(nil) succeeded")
	}
}

func TestSmallestModel(t *testing.T) {
	e := newEnv(t, readOnly{}, imapmodel.Options{})
	defer e.close()
	boxes, err := e.acct.Mailboxes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(boxes) != 1 || boxes[0].Name != "INBOX" || !boxes[0].Subscribed {
		t.Errorf("mailboxes %+v, want one subscribed INBOX", boxes)
	}
	mb := e.open("INBOX")
	defer mb.Close()
	e.wantRows(mb, "1 ()", "2 ()")
	if !mb.ReadOnly() {
		t.Error("a model without optional methods is not read-only")
	}
	for _, row := range e.snap(mb).Rows() {
		if row.Size != uint32(len(text("a"))) {
			t.Errorf("size %d, want %d", row.Size, len(text("a")))
		}
	}
	if got, err := e.body(mb, e.snap(mb).Row(1)); got != text("b") || err != nil {
		t.Errorf("body %q, %v", got, err)
	}
	for what, err := range map[string]error{
		"store": func() error {
			_, err := mb.Store(t.Context(), &imapserver.StoreRequest{UIDs: uids(1), Flags: []imap.Flag{imap.FlagSeen}})
			return err
		}(),
		"expunge": mb.Expunge(t.Context(), nil),
		"upload":  func() error { _, err := e.acct.Upload(t.Context(), 1); return err }(),
		"create":  func() error { _, err := e.acct.Create(t.Context(), "x", imapserver.CreateOptions{}); return err }(),
		"copy":    func() error { _, err := mb.Copy(t.Context(), uids(1), "INBOX", false); return err }(),
	} {
		if !errors.Is(err, imap.Cannot) {
			t.Errorf("%s: %v, want kind Cannot", what, err)
		}
	}
}

func TestChangesBehindTheBack(t *testing.T) {
	m := memory.New()
	k1 := m.Add("ann", "INBOX", text("one"))
	k2 := m.Add("ann", "INBOX", text("two"), imap.FlagSeen)
	e := newEnv(t, m, imapmodel.Options{})
	defer e.close()
	mb := e.open("INBOX")
	defer mb.Close()
	e.wantRows(mb, "1 ()", `2 (\Seen)`)
	start := e.snap(mb).HighestModSeq()

	if err := m.SetFlags(t.Context(), "ann", "INBOX", []string{k1}, []imap.Flag{imap.FlagFlagged, "kw"}, nil); err != nil {
		t.Fatal(err)
	}
	e.wantRows(mb, `1 (\Flagged kw)`, `2 (\Seen)`)
	flagged := e.snap(mb)
	if flagged.ModSeq(0) <= start || flagged.ModSeq(1) > start {
		t.Errorf("mod-sequences %d, %d after %d", flagged.ModSeq(0), flagged.ModSeq(1), start)
	}

	m.Replace("ann", "INBOX", k2, text("two again"))
	e.wantRows(mb, `1 (\Flagged kw)`, `3 (\Seen)`)
	if got, _ := e.body(mb, e.snap(mb).Row(1)); got != text("two again") {
		t.Errorf("body %q", got)
	}
	if _, err := e.body(mb, flagged.Row(1)); !errors.Is(err, imap.ExpungeIssued) {
		t.Errorf("reading the replaced message: %v, want ExpungeIssued", err)
	}

	if err := m.Remove(t.Context(), "ann", "INBOX", []string{k1}); err != nil {
		t.Fatal(err)
	}
	m.Add("ann", "INBOX", text("three"))
	e.wantRows(mb, `3 (\Seen)`, "4 ()")
	for since, want := range map[imap.ModSeq]string{start: "1:2", flagged.HighestModSeq(): "1:2", e.snap(mb).HighestModSeq(): ""} {
		got, complete, err := mb.Expunged(t.Context(), since)
		if err != nil || !complete || got.String() != want {
			t.Errorf("expunged since %d: %s, %v, %v; want %s", since, got, complete, err, want)
		}
	}
}

func TestNothingIsListedWithoutNeed(t *testing.T) {
	m := &counting{Model: memory.New()}
	m.Add("ann", "INBOX", text("one"))
	e := newEnv(t, m, imapmodel.Options{})
	defer e.close()
	mb := e.open("INBOX")
	defer mb.Close()
	first := e.snap(mb)
	lists := m.lists.Load()
	for range 10 {
		if e.snap(mb) != first {
			t.Fatal("another snapshot although nothing has changed")
		}
	}
	if n := m.lists.Load(); n != lists {
		t.Errorf("the model was listed %d times more", n-lists)
	}
	m.Add("ann", "INBOX", text("two"))
	e.wantRows(mb, "1 ()", "2 ()")
	if n := m.lists.Load(); n != lists+1 {
		t.Errorf("the model was listed %d times for one change", n-lists)
	}
}

func TestPollInterval(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	m := &counting{Model: memory.New(), features: allFeatures &^ imapmodel.FeatureWatch}
	m.AddMailbox("ann", imapmodel.Mailbox{Name: "INBOX"})
	e := newEnv(t, m, imapmodel.Options{PollInterval: time.Minute, Clock: func() time.Time { return now }})
	defer e.close()
	mb := e.open("INBOX")
	defer mb.Close()
	m.Add("ann", "INBOX", text("one"))
	e.wantRows(mb)
	e.b.Changed("ann", "inbox") // pushed: seen before its time
	e.wantRows(mb, "1 ()")
	m.Add("ann", "INBOX", text("two"))
	now = now.Add(time.Minute)
	e.wantRows(mb, "1 ()", "2 ()")
	e.append("INBOX", text("three")) // own changes are seen at once
	e.wantRows(mb, "1 ()", "2 ()", "3 ()")
}

func TestWatch(t *testing.T) {
	m := memory.New()
	e := newEnv(t, m, imapmodel.Options{})
	defer e.close()
	mb := e.open("INBOX")
	defer mb.Close()
	woken := make(chan struct{}, 100)
	stop := mb.Watch(func() { woken <- struct{}{} })
	m.Add("ann", "INBOX", text("one"))
	<-woken
	e.wantRows(mb, "1 ()")
	stop()
	for len(woken) > 0 {
		<-woken
	}
	m.Add("ann", "INBOX", text("two"))
	if len(woken) > 0 {
		t.Error("woken after stop")
	}
}

func TestIdlePolling(t *testing.T) {
	m := &counting{Model: memory.New(), features: allFeatures &^ imapmodel.FeatureWatch}
	e := newEnv(t, m, imapmodel.Options{IdleInterval: time.Millisecond})
	defer e.close()
	mb := e.open("INBOX")
	defer mb.Close()
	woken := make(chan struct{}, 1)
	stop := mb.Watch(func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	})
	defer stop()
	m.Add("ann", "INBOX", text("one"))
	<-woken
}

func TestErrorsOfTheModel(t *testing.T) {
	m := &refusing{Model: memory.New()}
	e := newEnv(t, m, imapmodel.Options{})
	defer e.close()
	m.err = imap.No("OVERQUOTA", "Enough is enough")
	_, err := e.tryAppend("INBOX", nil, text("x"))
	var known *imap.Error
	if !errors.As(err, &known) || known.Text != "Enough is enough" || known.ResponseCode() != "OVERQUOTA" {
		t.Errorf("got %v, want the model's own words", err)
	}
	m.err = errors.New("the disk is on fire")
	_, err = e.tryAppend("INBOX", nil, text("x"))
	if imap.KindOf(err) != imap.Other || !errors.Is(err, m.err) {
		t.Errorf("got %v of kind %d, want the cause without a kind", err, imap.KindOf(err))
	}
	if _, err := e.tryAppend("Nowhere", nil, text("x")); !errors.Is(err, imap.NotFound) {
		t.Errorf("append to no mailbox: %v", err)
	}
}

type refusing struct {
	*memory.Model
	err error
}

func (r *refusing) Append(context.Context, string, string, *imapmodel.NewMessage) (string, error) {
	return "", r.err
}

func TestAModelThatStumbles(t *testing.T) {
	m := &stumbling{Model: memory.New()}
	m.Add("ann", "INBOX", text("one"))
	now := time.Unix(1_800_000_000, 0)
	e := newEnv(t, m, imapmodel.Options{Clock: func() time.Time { return now }})
	defer e.close()
	mb := e.open("INBOX")
	defer mb.Close()
	m.err.Store(true)
	m.Add("ann", "INBOX", text("two"))
	e.wantRows(mb, "1 ()") // as it was
	m.err.Store(false)
	now = now.Add(time.Second)
	e.wantRows(mb, "1 ()", "2 ()")
}

type stumbling struct {
	*memory.Model
	err atomic.Bool
}

func (s *stumbling) Messages(ctx context.Context, user, mailbox string) ([]imapmodel.Message, error) {
	if s.err.Load() {
		return nil, errors.New("try later")
	}
	return s.Model.Messages(ctx, user, mailbox)
}

func TestModelsOwnUIDs(t *testing.T) {
	m := &numbered{readOnly: readOnly{}, list: []imapmodel.Message{{Key: "b", UID: 20, Size: 1}, {Key: "a", UID: 10, Size: 1}, {Key: "x", Size: 1}}}
	e := newEnv(t, m, imapmodel.Options{})
	defer e.close()
	mb := e.open("INBOX")
	defer mb.Close()
	e.wantRows(mb, "10 ()", "20 ()", "21 ()")
	if v := e.snap(mb).UIDValidity(); v != 77 {
		t.Errorf("UIDVALIDITY %d, want the model's 77", v)
	}
	if e.snap(mb).HighestModSeq() < 1_000_000 {
		t.Error("mod-sequences begin anew although the UIDs outlive a restart")
	}
	// One that breaks the rule gets another UID, and keeps it.
	m.list = append(m.list, imapmodel.Message{Key: "late", UID: 15, Size: 1})
	e.wantRows(mb, "10 ()", "20 ()", "21 ()", "22 ()")
	e.wantRows(mb, "10 ()", "20 ()", "21 ()", "22 ()")
	m.list = slices.Delete(m.list, 0, 1)
	e.wantRows(mb, "10 ()", "21 ()", "22 ()")
}

type numbered struct {
	readOnly
	list []imapmodel.Message
}

func (m *numbered) Mailboxes(context.Context, string) ([]imapmodel.Mailbox, error) {
	return []imapmodel.Mailbox{{Name: "INBOX", UIDValidity: 77}}, nil
}

func (m *numbered) Messages(context.Context, string, string) ([]imapmodel.Message, error) {
	return m.list, nil
}

package imapmodel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imaptest"
	"github.com/rookery-mail/rookery/memory"
)

// shifting lists what it is told to, and counts how often it is asked.
type shifting struct {
	*memory.Model
	features imapmodel.Features
	without  atomic.Pointer[string] // a mailbox that is not listed
	fail     atomic.Bool            // lists and messages cannot be had
	asked    atomic.Int64           // for the list of mailboxes
	listed   atomic.Int64           // how often messages were
	opened   atomic.Int64
	unsized  bool
}

func (s *shifting) Features() imapmodel.Features { return s.features }

func (s *shifting) Mailboxes(ctx context.Context, user string) ([]imapmodel.Mailbox, error) {
	s.asked.Add(1)
	if s.fail.Load() {
		return nil, errors.New("try later")
	}
	list, err := s.Model.Mailboxes(ctx, user)
	if name := s.without.Load(); name != nil {
		list = slices.DeleteFunc(list, func(m imapmodel.Mailbox) bool { return m.Name == *name })
	}
	return list, err
}

func (s *shifting) Messages(ctx context.Context, user, mailbox string) ([]imapmodel.Message, error) {
	s.listed.Add(1)
	if s.fail.Load() {
		return nil, errors.New("try later")
	}
	list, err := s.Model.Messages(ctx, user, mailbox)
	for i := range list {
		if s.unsized {
			list[i].Size = 0
		}
	}
	return list, err
}

func (s *shifting) Open(ctx context.Context, user, mailbox, key string) (io.ReadCloser, error) {
	s.opened.Add(1)
	if s.fail.Load() {
		return nil, errors.New("try later")
	}
	return s.Model.Open(ctx, user, mailbox, key)
}

// A session in a mailbox that has gone is told, whether the model watches or
// is looked at.
func TestSessionOfAMailboxThatIsGone(t *testing.T) {
	for name, features := range map[string]imapmodel.Features{
		"watching": allFeatures, "polled": allFeatures &^ imapmodel.FeatureWatch,
	} {
		t.Run(name, func(t *testing.T) {
			m := &shifting{Model: memory.New(), features: features}
			m.AddMailbox("ann", imapmodel.Mailbox{Name: "Tickets"})
			e := newEnv(t, m, imapmodel.Options{})
			defer e.close()
			mb := e.open("Tickets")
			defer mb.Close()
			e.snap(mb)
			gone := "Tickets"
			m.without.Store(&gone)
			woken := make(chan struct{}, 10)
			defer mb.Watch(func() { woken <- struct{}{} })()
			e.b.Changed("ann", "")
			<-woken
			if _, err := mb.Snapshot(t.Context()); !errors.Is(err, imap.NotFound) {
				t.Errorf("got %v, want NotFound", err)
			}
		})
	}
}

// Who has seen that a mailbox is gone tells the others.
func TestIdleInAMailboxThatIsGone(t *testing.T) {
	m := &shifting{Model: memory.New(), features: allFeatures &^ imapmodel.FeatureWatch}
	m.AddMailbox("ann", imapmodel.Mailbox{Name: "Tickets"})
	e := newEnv(t, m, imapmodel.Options{IdleInterval: time.Millisecond})
	defer e.close()
	mb := e.open("Tickets")
	defer mb.Close()
	woken := make(chan struct{}, 1)
	defer mb.Watch(func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	})()
	gone := "Tickets"
	m.without.Store(&gone)
	<-woken
	if _, err := mb.Snapshot(t.Context()); !errors.Is(err, imap.NotFound) {
		t.Errorf("got %v, want NotFound", err)
	}
}

func TestPollLooksWhateverTheInterval(t *testing.T) {
	m := &counting{Model: memory.New(), features: allFeatures &^ imapmodel.FeatureWatch}
	m.AddMailbox("ann", imapmodel.Mailbox{Name: "INBOX"})
	e := newEnv(t, m, imapmodel.Options{PollInterval: time.Hour})
	defer e.close()
	mb := e.open("INBOX")
	defer mb.Close()
	e.snap(mb)
	m.Add("ann", "INBOX", text("one"))
	e.wantRows(mb)
	mb.(imapserver.Poller).Poll()
	e.wantRows(mb, "1 ()")
}

// A model that fails is asked less and less often, until somebody knows that
// it has changed.
func TestAFailingModelIsNotHammered(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	m := &shifting{Model: memory.New(), features: allFeatures &^ imapmodel.FeatureWatch}
	m.Add("ann", "INBOX", text("one"))
	e := newEnv(t, m, imapmodel.Options{Clock: func() time.Time { return now }})
	defer e.close()
	mb := e.open("INBOX")
	defer mb.Close()
	e.wantRows(mb, "1 ()")
	m.fail.Store(true)
	m.Add("ann", "INBOX", text("two"))
	lists, asked := m.listed.Load(), m.asked.Load()
	for range 100 {
		e.wantRows(mb, "1 ()")
	}
	if n := m.listed.Load() - lists; n != 1 {
		t.Errorf("the messages of a model that fails were listed %d times at once", n)
	}
	if n := m.asked.Load() - asked; n != 1 {
		t.Errorf("the mailboxes of a model that fails were listed %d times at once", n)
	}
	lists = m.listed.Load()
	for range 600 { // seconds
		now = now.Add(time.Second)
		e.wantRows(mb, "1 ()")
	}
	if n := m.listed.Load() - lists; n < 10 || n > 20 {
		t.Errorf("a model that fails was asked %d times in ten minutes", n)
	}
	m.fail.Store(false)
	e.wantRows(mb, "1 ()") // not yet time
	e.b.Changed("ann", "INBOX")
	e.wantRows(mb, "1 ()", "2 ()")
}

// Of a message that cannot be measured nothing is seen, and it is not read at
// each look.
func TestAMessageThatCannotBeMeasured(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	m := &oneBad{&shifting{Model: memory.New(), features: allFeatures &^ imapmodel.FeatureWatch, unsized: true}, atomic.Bool{}}
	m.bad.Store(true)
	m.Add("ann", "INBOX", text("bad"))
	m.Add("ann", "INBOX", text("good"))
	e := newEnv(t, m, imapmodel.Options{Clock: func() time.Time { return now }})
	defer e.close()
	mb := e.open("INBOX")
	defer mb.Close()
	for range 100 {
		e.wantRows(mb, "1 ()")
	}
	if n := m.opened.Load(); n != 2 {
		t.Errorf("messages were read %d times, want 2", n)
	}
	m.bad.Store(false)
	now = now.Add(time.Minute)
	e.wantRows(mb, "1 ()", "2 ()")
}

type oneBad struct {
	*shifting
	bad atomic.Bool
}

func (o *oneBad) Open(ctx context.Context, user, mailbox, key string) (io.ReadCloser, error) {
	r, err := o.shifting.Open(ctx, user, mailbox, key)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	if o.bad.Load() && strings.Contains(string(data), "bad") {
		return nil, errors.New("try later")
	}
	return imapmodel.OpenBytes(data), err
}

// A message that is too large is read once, not at each look or FETCH.
func TestALargeMessageIsReadOnce(t *testing.T) {
	for _, unsized := range []bool{false, true} {
		m := &shifting{Model: memory.New(), features: allFeatures &^ imapmodel.FeatureWatch, unsized: unsized}
		m.Add("ann", "INBOX", text("one")+strings.Repeat("x", 1000))
		e := newEnv(t, m, imapmodel.Options{MaxMessage: 500})
		mb := e.open("INBOX")
		for range 10 {
			for _, row := range e.snap(mb).Rows() {
				if _, err := e.body(mb, row); !errors.Is(err, imap.TooBig) {
					t.Errorf("got %v, want TooBig", err)
				}
			}
		}
		if n := m.opened.Load(); n != 1 {
			t.Errorf("unsized %v: read %d times, want once", unsized, n)
		}
		mb.Close()
		e.close()
	}
}

// missingFiles says what is missing as the file system does.
type missingFiles struct{ *memory.Model }

func (missingFiles) Open(_ context.Context, _, _, key string) (io.ReadCloser, error) {
	return nil, fmt.Errorf("read %s: %w", key, fs.ErrNotExist)
}

func TestAFileThatDoesNotExist(t *testing.T) {
	m := missingFiles{memory.New()}
	m.Add("ann", "INBOX", text("one"))
	e := newEnv(t, m, imapmodel.Options{})
	defer e.close()
	mb := e.open("INBOX")
	defer mb.Close()
	if _, err := e.body(mb, e.snap(mb).Row(0)); !errors.Is(err, imap.ExpungeIssued) {
		t.Errorf("got %v, want ExpungeIssued", err)
	}
}

func TestSeparators(t *testing.T) {
	for _, sep := range "*%\"\\\x01\x7fé " {
		if _, err := imapmodel.New(memory.New(), imapmodel.Options{Separator: sep}); err == nil {
			t.Errorf("separator %q is taken", sep)
		}
	}
	for _, sep := range "/.|-^" {
		if _, err := imapmodel.New(memory.New(), imapmodel.Options{Separator: sep}); err != nil {
			t.Errorf("separator %q: %v", sep, err)
		}
	}
}

func TestKey(t *testing.T) {
	m := memory.New()
	m.Add("ann", "INBOX", text("one"))
	e := newEnv(t, m, imapmodel.Options{})
	defer e.close()
	if _, ok := e.b.Key("ann", "INBOX", 1); ok {
		t.Error("a key of a mailbox that nobody has looked at")
	}
	mb, other := e.open("INBOX"), e.open("INBOX")
	defer mb.Close()
	defer other.Close()
	listed, err := m.Messages(t.Context(), "ann", "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		if key, ok := e.b.Key("ann", "inbox", 1); !ok || key != listed[0].Key {
			t.Errorf("got %q, %v, want %q", key, ok, listed[0].Key)
		}
	}
	check()
	e.store(mb, imapserver.FlagsAdd, uids(1), imap.FlagDeleted)
	if err := mb.Expunge(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	check() // the other session may still ask for it
	for _, wrong := range []struct {
		user, mailbox string
		uid           imap.UID
	}{{"bob", "INBOX", 1}, {"ann", "Other", 1}, {"ann", "INBOX", 2}} {
		if key, ok := e.b.Key(wrong.user, wrong.mailbox, wrong.uid); ok {
			t.Errorf("%+v has key %q", wrong, key)
		}
	}
}

// A model that is looked at in each command is looked at once in each, and
// once more where the command changes it.
func TestLooksOfACommand(t *testing.T) {
	m := &shifting{Model: memory.New(), features: allFeatures &^ imapmodel.FeatureWatch}
	m.Add("ann", "INBOX", text("one"))
	var looks int64
	tt := imaptest.Target{
		New: func(t testing.TB) *imaptest.Server {
			r := &restartable{t: t, model: m, opts: imapmodel.Options{Log: quiet()}}
			if err := r.start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { r.server.Close(); r.backend.Close() })
			return &imaptest.Server{
				Dial: func(ctx context.Context) (net.Conn, error) {
					return r.dial(ctx)
				},
				Users:   []imaptest.User{{Name: "ann", Password: "secret"}},
				Restart: func(context.Context) error { looks = m.listed.Swap(0); return r.start() },
			}
		},
		Transcripts: fstest.MapFS{"looks.txtar": {Data: []byte(`rfc: 9051

restart
a C: SELECT INBOX
a S: ...
a S: OK $_
a C: FETCH 1 BODY[TEXT]
a S: ...
a S: OK
a C: NOOP
a S: OK
restart
a C: NOOP
a S: OK
`)}},
	}
	t.Run("transcript", func(t *testing.T) { imaptest.Run(t, tt) })
	if looks != 4 {
		t.Errorf("SELECT, FETCH of a body and NOOP listed the model %d times, want 1, 2 and 1", looks)
	}
}

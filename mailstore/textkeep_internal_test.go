package mailstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/message"
)

// newTextBox returns a deriveBench with the derivers of a store, and a time that texts wait.
func newTextBox(t *testing.T, opts Options) *deriveBench {
	b := newDeriveBench(t, textKeeper{})
	b.close()
	b.openWith(opts)
	return b
}

func (b *deriveBench) openWith(opts Options) {
	b.t.Helper()
	opts.Logger = slog.New(slog.DiscardHandler)
	var err error
	if b.store, err = Open(b.t.Context(), b.kv, b.blobs, opts); err != nil {
		b.t.Fatal(err)
	}
	if b.a, err = b.store.Account(b.t.Context(), "ann"); err != nil {
		b.t.Fatal(err)
	}
}

// textRecords returns how many messages have a text.
func (b *deriveBench) textRecords() (n int) {
	b.t.Helper()
	err := b.store.kv.View(b.t.Context(), b.a.num, func(r driver.Reader) error {
		n = 0
		return scanPrefix(r, []byte{keyText}, func(_, value []byte) error {
			if t := currentText(value); t == nil || t.Version != message.Version {
				return fmt.Errorf("a text of no use: %x", value)
			}
			n++
			return nil
		})
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// finds fails where a search for a word in the subject, or in the text, does not
// find as many messages as it should.
func (b *deriveBench) finds(where message.Where, word string, want int) {
	b.t.Helper()
	m, err := b.a.Mailbox(b.t.Context(), imap.Inbox)
	if err != nil {
		b.t.Fatal(err)
	}
	defer m.Close()
	snap, err := m.Snapshot(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	answers := make([]Answer, snap.Len())
	for i := range answers {
		answers[i] = AnswerOpen
	}
	term := &Term{Text: &message.Key{Where: where, Name: "Subject", Needle: message.Fold(nil, word)}}
	if err := m.Search(b.t.Context(), snap, term, answers); err != nil {
		b.t.Fatal(err)
	}
	got := 0
	for _, a := range answers {
		if a == AnswerOpen {
			b.t.Fatal("a message was left open")
		}
		if a == AnswerYes {
			got++
		}
	}
	if got != want {
		b.t.Fatalf("%q is found %d times, want %d", word, got, want)
	}
}

func (b *deriveBench) sound() {
	b.t.Helper()
	defects, err := b.store.Check(b.t.Context())
	if err != nil || len(defects) > 0 {
		b.t.Fatalf("check: %v, %v", defects, err)
	}
}

// TestTextsWait: what a delivery does not make is found by searches, missed by no
// check, and made when the store has time, after a restart too.
func TestTextsWait(t *testing.T) {
	b := newTextBox(t, Options{DeriveDelay: time.Hour})
	for i := range 100 {
		b.appendText(fmt.Sprintf("Subject: even%d\r\n\r\nthe body has word%d\r\n", i%2, i%4))
	}
	if n := b.textRecords(); n != 0 {
		t.Fatalf("%d messages have a text", n)
	}
	look := func() {
		t.Helper()
		b.finds(message.InHeader, "EVEN1", 50)
		b.finds(message.InBody, "word3", 25)
		b.finds(message.InText, "even0", 50)
		b.finds(message.InText, "nowhere", 0)
		b.sound()
	}
	look()
	b.close()
	b.openWith(Options{DeriveDelay: 1, TextBatch: 10})
	b.settle()
	if n := b.textRecords(); n != 100 || b.a.textsUpTo() != 100 {
		t.Fatalf("%d messages have a text, up to %d", n, b.a.textsUpTo())
	}
	look()
	b.a.RebuildIndex()
	b.settle()
	if n := b.textRecords(); n != 100 || b.a.textsUpTo() != 100 {
		t.Fatalf("built anew: %d messages have a text, up to %d", n, b.a.textsUpTo())
	}
	look()
}

// TestTextsDoNotWaitForLong: many that wait are made though nothing rests, and where
// the background cannot keep up each delivery makes its own.
func TestTextsDoNotWaitForLong(t *testing.T) {
	b := newTextBox(t, Options{DeriveDelay: time.Hour, TextLag: 5})
	b.a.mu.Lock()
	b.a.deriving.running = true // the background does nothing
	b.a.mu.Unlock()
	b.append(0, 4)
	b.a.mu.Lock()
	hold := b.a.release()
	b.a.mu.Unlock()
	if hold < time.Minute {
		t.Fatalf("4 messages wait for %v", hold)
	}
	b.append(4, 5)
	b.a.mu.Lock()
	hold, reach := b.a.release(), b.a.reach(0)
	b.a.mu.Unlock()
	if hold != 0 || reach != 5 {
		t.Fatalf("5 messages wait for %v, and texts are made up to %d", hold, reach)
	}
	b.append(5, 21)
	before := b.textRecords()
	b.append(21, 23)
	if n := b.textRecords(); before != 0 || n != 2 {
		t.Fatalf("%d messages have a text, and had %d", n, before)
	}
	b.finds(message.InHeader, "22", 1)
	b.sound()

	for b.a.textsUpTo() < 23 {
		b.a.mu.Lock()
		b.a.deriving.released = b.a.deriving.last
		b.a.mu.Unlock()
		if err := b.a.deriveStep(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	b.append(23, 24) // it keeps up again
	if n := b.textRecords(); n != 23 {
		t.Fatalf("%d messages have a text", n)
	}
	b.finds(message.InHeader, "23", 1)
	b.sound()
}

// TestTextsOfGoneMessages: a text that was being made does not come back when its
// message has gone meanwhile.
func TestTextsOfGoneMessages(t *testing.T) {
	b := newTextBox(t, Options{DeriveDelay: time.Hour})
	b.append(0, 10)
	step, err := textKeeper{}.derive(t.Context(), b.a.account, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	m, err := b.a.Mailbox(t.Context(), imap.Inbox)
	if err != nil {
		t.Fatal(err)
	}
	all := imap.UIDSet{}
	all.AddRange(1, 5)
	if _, err := m.Store(t.Context(), &StoreRequest{UIDs: all, Op: FlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}); err != nil {
		t.Fatal(err)
	}
	if err := m.Expunge(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	for reaping := true; reaping; time.Sleep(time.Millisecond) {
		b.a.mu.Lock()
		reaping = b.a.reaping
		b.a.mu.Unlock()
	}
	if err := b.a.submit(context.Background(), &op{run: step.run}); err != nil {
		t.Fatal(err)
	}
	if n := b.textRecords(); n != 5 || step.upTo != 10 {
		t.Fatalf("%d texts up to message %d", n, step.upTo)
	}
}

// TestTextsOfOlderStores: where each message had its text from the start, the keeper
// of texts begins where the index has come to.
func TestTextsOfOlderStores(t *testing.T) {
	b := newTextBox(t, Options{DeriveDelay: 1, TextBatch: 4})
	for i := range 10 {
		b.append(i, i+1)
		b.settle()
	}
	b.close()
	err := b.kv.Update(t.Context(), b.a.num, func(tx driver.Txn) error { return tx.Delete(markKey(textKeeper{})) })
	if err != nil {
		t.Fatal(err)
	}
	b.openWith(Options{DeriveDelay: time.Hour})
	if up := b.a.textsUpTo(); up != 8 {
		t.Errorf("texts count up to %d", up)
	}
	b.sound()
	b.close()
	b.openWith(Options{DeriveDelay: 1})
	b.settle()
	if up := b.a.textsUpTo(); up != 10 {
		t.Errorf("texts count up to %d", up)
	}
}

// TestTextOfADamagedMessage: a message that cannot be read holds up no other.
func TestTextOfADamagedMessage(t *testing.T) {
	b := newTextBox(t, Options{DeriveDelay: time.Hour})
	b.append(0, 3)
	var ref driver.Ref
	err := b.store.kv.View(t.Context(), b.a.num, func(r driver.Reader) error {
		data, _, err := r.Get(numKey(keyMessage, 2))
		rec, _ := decodeMessage(data)
		ref = rec.ref
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b.close()
	if err := b.blobs.Delete(t.Context(), b.a.num, []driver.Ref{ref}); err != nil {
		t.Fatal(err)
	}
	b.openWith(Options{DeriveDelay: 1})
	b.settle()
	if n := b.textRecords(); n != 2 || b.a.textsUpTo() != 3 {
		t.Fatalf("%d texts, up to %d", n, b.a.textsUpTo())
	}
	m, err := b.a.Mailbox(t.Context(), imap.Inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	snap, err := m.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	var rows []mailindex.Row
	for _, row := range snap.Rows() {
		rows = append(rows, row)
	}
	err = m.Fetch(t.Context(), rows, NeedText, func(_ int, msg *Message) error {
		if msg.Err != nil {
			texts = append(texts, imap.KindOf(msg.Err).Code())
			return nil
		}
		texts = append(texts, strings.TrimSpace(string(msg.Text.Header)))
		return nil
	})
	if got := fmt.Sprint(texts, err); got != "[SUBJECT: 0 "+imap.Corruption.Code()+" SUBJECT: 2] <nil>" {
		t.Error(got)
	}
}

// failingBlobs are blobs of which some cannot be opened.
type failingBlobs struct {
	driver.Blobs
	mu   sync.Mutex
	fail map[driver.Ref]error
}

func (f *failingBlobs) Open(ctx context.Context, a driver.Account, ref driver.Ref) (driver.Blob, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fail[ref]; err != nil {
		return nil, imap.E("open", imap.Unavailable, err)
	}
	return f.Blobs.Open(ctx, a, ref)
}

func (f *failingBlobs) set(ref driver.Ref, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail[ref] = err
}

// newFailingBox returns a deriveBench whose derivers run only when the test calls
// them, with n messages.
func newFailingBox(t *testing.T, n int) (*deriveBench, *failingBlobs) {
	b := newTextBox(t, Options{DeriveDelay: time.Hour, TextBatch: 1, ColumnRows: 8})
	b.close()
	f := &failingBlobs{Blobs: b.blobs, fail: make(map[driver.Ref]error)}
	b.blobs = f
	b.openWith(Options{DeriveDelay: time.Hour, TextBatch: 1, ColumnRows: 8})
	b.a.mu.Lock()
	b.a.deriving.running = true
	b.a.mu.Unlock()
	b.append(0, n)
	b.a.mu.Lock()
	b.a.deriving.released = b.a.deriving.last
	b.a.mu.Unlock()
	return b, f
}

func (b *deriveBench) refOf(msg uint64) driver.Ref {
	b.t.Helper()
	rec, err := b.a.readMessageRec(b.t.Context(), msg)
	if err != nil {
		b.t.Fatal(err)
	}
	return rec.ref
}

// TestTextAfterAFailure: a message that cannot be read for a moment gets its text
// later, whatever the failure was.
func TestTextAfterAFailure(t *testing.T) {
	for _, failure := range []error{syscall.EIO, syscall.EMFILE, errors.New("something else")} {
		b, f := newFailingBox(t, 4)
		f.set(b.refOf(2), failure)
		if err := b.a.deriveStep(t.Context(), 0); err != nil || b.a.textsUpTo() != 1 {
			t.Errorf("%v: texts are made up to message %d, and then %v", failure, b.a.textsUpTo(), err)
		}
		for range textTries {
			if err := b.a.deriveStep(t.Context(), 0); !errors.Is(err, failure) || b.a.textsUpTo() != 1 {
				t.Errorf("%v: texts are made up to message %d, and then %v", failure, b.a.textsUpTo(), err)
			}
		}
		b.sound()
		f.set(b.refOf(2), nil)
		b.finds(message.InHeader, "1", 1)
		if err := b.a.deriveStep(t.Context(), 0); err != nil {
			t.Errorf("%v: %v", failure, err)
		}
		if n := b.textRecords(); n != 4 || b.a.textsUpTo() != 4 {
			t.Errorf("%v: %d texts up to message %d", failure, n, b.a.textsUpTo())
		}
		b.sound()
	}
}

// TestTextOfAnUnreadableMessage: a message that is in a part of the disk that cannot
// be read holds up the others for a while only; a search reads it, once it can be
// read, and it has a text from then on. A disk of which nothing can be said holds
// up all.
func TestTextOfAnUnreadableMessage(t *testing.T) {
	b, f := newFailingBox(t, 4)
	ref := b.refOf(2)
	f.set(ref, syscall.EMFILE)
	for range 2 * textTries {
		_ = b.a.deriveStep(t.Context(), 0)
	}
	if up := b.a.textsUpTo(); up != 1 {
		t.Fatalf("texts are made up to message %d", up)
	}
	f.set(ref, syscall.EIO)
	for i := range 3 {
		if err := b.a.deriveStep(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	if up := [...]uint64{b.a.derivedUpTo(0), b.a.derivedUpTo(1), b.a.derivedUpTo(2)}; up != [...]uint64{4, 4, 4} {
		t.Fatalf("derived up to messages %v", up)
	}
	b.sound()
	f.set(ref, nil)
	m, err := b.a.Mailbox(t.Context(), imap.Inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	snap, err := m.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	answers := make([]Answer, snap.Len())
	for i := range answers {
		answers[i] = AnswerOpen
	}
	if err := m.Search(t.Context(), snap, &Term{Text: &message.Key{Where: message.InBody, Needle: []byte("1")}}, answers); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(answers), fmt.Sprint([]Answer{AnswerNo, AnswerOpen, AnswerNo, AnswerNo}); got != want {
		t.Fatalf("answers are %s, want %s", got, want)
	}
	err = m.Fetch(t.Context(), []mailindex.Row{snap.Row(1)}, NeedText, func(_ int, msg *Message) error {
		if msg.Err != nil || !strings.Contains(string(msg.Text.Body), "1") {
			t.Errorf("the text is %v, %v", msg.Text, msg.Err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.a.submit(t.Context(), &op{run: func(*opTx) error { return nil }}); err != nil { // behind what was posted
		t.Fatal(err)
	}
	if n := b.textRecords(); n != 4 {
		t.Errorf("%d messages have a text", n)
	}
	b.finds(message.InBody, "1", 1)
	b.sound()
}

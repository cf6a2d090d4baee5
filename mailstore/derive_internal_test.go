package mailstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/memkv"
)

// sizer is a deriver that writes down the sizes of messages, a few in a record.
type sizer struct {
	step    int
	v       uint64
	tidied  int
	block   bool // derive waits for its context
	started chan struct{}

	mu   sync.Mutex
	fail int // so many steps fail
}

const sizerKey = 'Z'

func (*sizer) what() string        { return "sizes" }
func (*sizer) id() byte            { return 'z' }
func (s *sizer) version() uint64   { return s.v }
func (*sizer) prefixes() [][]byte  { return [][]byte{{sizerKey}} }
func (s *sizer) due(n uint64) bool { return n >= uint64(s.step) }

func (s *sizer) derive(ctx context.Context, a *account, mark, last uint64) (*derivation, error) {
	if s.block {
		close(s.started)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail > 0 {
		s.fail--
		return nil, errors.New("out of order")
	}
	msgs, upTo, err := a.messagesAbove(ctx, mark, last, s.step)
	if err != nil {
		return nil, err
	}
	var list []uint64
	err = a.eachMessage(ctx, msgs, NeedDigest, func(num uint64, m *Message) error {
		if m.Err == nil {
			list = append(list, num, uint64(m.Digest.Size))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &derivation{upTo: upTo, weight: 100, run: func(t *opTx) error {
		t.set(numKey(sizerKey, upTo), appendUints(nil, list...))
		return nil
	}}, nil
}

func (s *sizer) tidy(_ context.Context, _ *account, next, mark uint64) (*derivation, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tidied++
	if next == 0 {
		return nil, mark, nil
	}
	return nil, 0, nil
}

// deriveBench is a store with one deriver, which may be closed and opened.
type deriveBench struct {
	t     testing.TB
	kv    driver.KV
	blobs driver.Blobs
	store *Store
	a     *Account
}

func newDeriveBench(t testing.TB, d deriver) *deriveBench {
	b := &deriveBench{t: t, kv: memkv.NewKV(memkv.RunTwice()), blobs: memkv.NewBlobs()}
	b.open(d)
	t.Cleanup(b.close)
	return b
}

func (b *deriveBench) open(d deriver) {
	b.t.Helper()
	store, err := Open(b.t.Context(), b.kv, b.blobs, Options{DeriveDelay: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.t.Fatal(err)
	}
	store.derivers = []deriver{d}
	b.store = store
	if b.a, err = store.Account(b.t.Context(), "ann"); err != nil {
		b.t.Fatal(err)
	}
}

func (b *deriveBench) close() {
	if err := b.store.Close(context.Background()); err != nil {
		b.t.Error(err)
	}
}

func (b *deriveBench) append(from, to int) {
	b.t.Helper()
	for i := from; i < to; i++ {
		b.appendText(fmt.Sprintf("Subject: %d\r\n\r\n%*d\r\n", i, i%50, i))
	}
}

func (b *deriveBench) appendText(text string) {
	b.t.Helper()
	u, err := b.a.Upload(b.t.Context(), int64(len(text)))
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := io.WriteString(u, text); err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.a.Append(b.t.Context(), imap.Inbox, []AppendItem{{Upload: u}}); err != nil {
		b.t.Fatal(err)
	}
}

// settle waits until the loop has nothing to do.
func (b *deriveBench) settle() {
	b.t.Helper()
	for {
		b.a.mu.Lock()
		running := b.a.deriving.running
		b.a.mu.Unlock()
		if !running {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// derived returns the numbers of the messages that the sizer has written down.
func (b *deriveBench) derived() (msgs []uint64) {
	b.t.Helper()
	err := b.store.kv.View(b.t.Context(), b.a.num, func(r driver.Reader) error {
		return scanPrefix(r, []byte{sizerKey}, func(_, value []byte) error {
			d := decoder{data: value}
			for len(d.data) > 0 {
				msgs = append(msgs, d.uint())
				d.uint()
			}
			return nil
		})
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return msgs
}

func (b *deriveBench) expect(want int) {
	b.t.Helper()
	b.settle()
	got := b.derived()
	if len(got) != want || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != want {
		b.t.Fatalf("derived are %v, want %d", got, want)
	}
}

func TestDeriveInSteps(t *testing.T) {
	b := newDeriveBench(t, &sizer{step: 4})
	b.append(0, 3)
	b.expect(0)
	b.append(3, 30)
	b.expect(28)
	if mark := b.a.derivedUpTo(0); mark != 28 {
		t.Errorf("the mark is %d", mark)
	}

	// Another run goes on behind the mark.
	b.close()
	b.open(&sizer{step: 2})
	b.expect(30)

	// Another version begins anew.
	b.close()
	b.open(&sizer{step: 7, v: 2})
	b.expect(28)
}

func TestDeriveWithADamagedMark(t *testing.T) {
	b := newDeriveBench(t, &sizer{step: 4, v: 1})
	b.append(0, 8)
	b.expect(8)
	for _, mark := range []string{"", "\x00", "\x80"} {
		b.close()
		err := b.kv.Update(t.Context(), b.a.num, func(tx driver.Txn) error { return tx.Set([]byte{keyDerived, 'z'}, []byte(mark)) })
		if err != nil {
			t.Fatal(err)
		}
		b.open(&sizer{step: 3, v: 1})
		b.expect(6)
	}
}

func TestDeriveAfterGaps(t *testing.T) {
	b := newDeriveBench(t, &sizer{step: 4})
	b.append(0, 6)
	b.settle()
	if err := b.store.MarkRestored(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.expect(6)
	b.append(6, 16)
	b.expect(14)
}

func TestDeriveTriesAgain(t *testing.T) {
	d := &sizer{step: 4, fail: 1}
	b := newDeriveBench(t, d)
	b.append(0, 8)
	b.expect(8)
}

func TestDeriveTidies(t *testing.T) {
	d := &sizer{step: 4}
	b := newDeriveBench(t, d)
	b.append(0, 8)
	b.expect(8)
	b.a.gone(tidyAfter)
	b.settle()
	if d.tidied != 2 {
		t.Errorf("tidied %d times", d.tidied)
	}
}

// gatedSizer is a sizer whose steps wait, from some moment on, until they may go
// on.
type gatedSizer struct {
	sizer
	gate    chan struct{} // what is received here lets a step go on; nil lets all
	waiting chan struct{} // told that a step waits
	derived int
}

func (g *gatedSizer) wait() {
	if g.gate != nil {
		g.waiting <- struct{}{}
		<-g.gate
	}
}

func (g *gatedSizer) derive(ctx context.Context, a *account, mark, last uint64) (*derivation, error) {
	g.wait()
	g.derived++
	return g.sizer.derive(ctx, a, mark, last)
}

func (g *gatedSizer) tidy(ctx context.Context, a *account, next, mark uint64) (*derivation, uint64, error) {
	g.wait()
	return g.sizer.tidy(ctx, a, next, mark)
}

// TestReloadBesideAStep: when an account is read anew while a step runs, what was
// noted meanwhile stays: that messages have gone, and that what was derived is
// damaged.
func TestReloadBesideAStep(t *testing.T) {
	reload := func(b *deriveBench) {
		if err := b.a.submit(t.Context(), &op{alone: b.a.reload}); err != nil {
			t.Fatal(err)
		}
	}
	d := &gatedSizer{sizer: sizer{step: 4}, gate: make(chan struct{}), waiting: make(chan struct{})}
	b := newDeriveBench(t, d)
	b.append(0, 4)
	<-d.waiting
	b.a.deriveAnew(0, errDamaged)
	reload(b)
	d.gate <- struct{}{}
	<-d.waiting // all of it is built anew
	d.gate <- struct{}{}
	b.expect(4)
	if d.derived != 2 {
		t.Errorf("derived %d times", d.derived)
	}

	b.a.gone(tidyAfter)
	<-d.waiting
	reload(b)
	b.a.gone(5)
	d.gate <- struct{}{}
	<-d.waiting // the second half
	reload(b)
	d.gate <- struct{}{}
	b.settle()
	b.a.mu.Lock()
	defer b.a.mu.Unlock()
	if gone := b.a.deriving.all[0].gone; d.tidied != 2 || gone != 5 {
		t.Errorf("tidied %d times, %d messages have gone since", d.tidied, gone)
	}
}

func TestDeriveEndsWithTheStore(t *testing.T) {
	d := &sizer{step: 1, block: true, started: make(chan struct{})}
	b := newDeriveBench(t, d)
	b.append(0, 1)
	<-d.started
	b.close() // hangs where the loop does not end
}

func TestDeriveLeavesAStoreAsItIs(t *testing.T) {
	b := newDeriveBench(t, &sizer{step: 100})
	b.append(0, 8)
	b.close()
	store, err := Open(t.Context(), b.kv, b.blobs, Options{DeriveDelay: 1, Logger: slog.New(slog.DiscardHandler), AsItIs: true})
	if err != nil {
		t.Fatal(err)
	}
	store.derivers = []deriver{&sizer{step: 1}}
	b.store = store
	if b.a, err = store.Account(t.Context(), "ann"); err != nil {
		t.Fatal(err)
	}
	b.expect(0)
}

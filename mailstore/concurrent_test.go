package mailstore_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/memkv"
)

// counting counts commits.
type counting struct {
	driver.KV
	updates atomic.Int64
	hold    chan struct{} // where set, a commit waits until it is closed
}

func (c *counting) Update(ctx context.Context, a driver.Account, fn func(driver.Txn) error) error {
	if a != 0 {
		c.updates.Add(1)
		if c.hold != nil {
			<-c.hold
		}
	}
	return c.KV.Update(ctx, a, fn)
}

// Changes that wait on one account share a commit, one that fails spoils no
// other, and readers wait for nobody.
func TestGroupCommit(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	kv := &counting{KV: b.kv}
	b.kv = kv
	b.restart(t)
	a := b.account(t, "ann")
	for i := range 20 {
		appendMail(t, a, imap.Inbox, mail(fmt.Sprint("m", i)))
	}
	m := open(t, a, imap.Inbox)
	defer m.Close()
	before := snapshot(t, m)
	kv.hold = make(chan struct{})
	start := kv.updates.Load()
	var wg sync.WaitGroup
	errs := make([]error, 20)
	change := func(i int) {
		wg.Go(func() {
			if i%4 == 3 {
				errs[i] = a.Delete(ctx, "nowhere")
				return
			}
			_, errs[i] = m.Store(ctx, &mailstore.StoreRequest{UIDs: imap.UIDSetOf(imap.UID(i + 1)), Op: mailstore.FlagsAdd, Flags: []imap.Flag{imap.FlagSeen}})
		})
	}
	// The first is held while it is committed, until all others wait.
	change(0)
	eventually(t, "the first commit", func() bool { return kv.updates.Load() == start+1 })
	for i := range errs[1:] {
		change(i + 1)
	}
	eventually(t, "that all others wait", func() bool { return mailstore.Queued(a) >= len(errs)-1 })
	if snapshot(t, m) != before {
		t.Error("a change is shown before it is committed")
	}
	close(kv.hold)
	wg.Wait()
	for i, err := range errs {
		if i%4 == 3 {
			kindIs(t, err, imap.NotFound)
		} else if err != nil {
			t.Error(err)
		}
	}
	if s := snapshot(t, m); s.Unseen() != 5 {
		t.Errorf("%d unseen, want 5", s.Unseen())
	}
	// One more may be the store's own.
	if n := kv.updates.Load() - start; n > 3 {
		t.Errorf("%d changes took %d commits, want 2", len(errs), n)
	}
}

// An op whose caller has gone before it began is not done.
func TestCancelledWhileQueued(t *testing.T) {
	b := newBench(t, mailstore.Options{})
	kv := &counting{KV: b.kv}
	b.kv = kv
	b.restart(t)
	a := b.account(t, "ann")
	start := kv.updates.Load()
	kv.hold = make(chan struct{})
	done := make(chan error)
	go func() { done <- a.Subscribe(ctx, "one", true) }()
	eventually(t, "the first commit", func() bool { return kv.updates.Load() == start+1 })
	c, cancel := context.WithCancel(ctx)
	cancel()
	if err := a.Subscribe(c, "two", true); err == nil {
		t.Error("no error from a cancelled call")
	}
	close(kv.hold)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got, want := names(a), "INBOX one(missing)+"; got != want {
		t.Errorf("mailboxes are %q, want %q", got, want)
	}
}

// Many sessions do everything at once; each sees UIDs and mod-sequences ascend
// and can read whatever its view shows.
func TestConcurrentSessions(t *testing.T) {
	b := &bench{kv: memkv.NewKV(), blobs: memkv.NewBlobs(), opts: quiet(mailstore.Options{TxnRows: 5, IndexMemory: 1})}
	b.open(t)
	defer func() { b.store.Close(ctx) }()
	a := b.account(t, "ann")
	if _, err := a.Create(ctx, "other", nil); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var made atomic.Int64
	for seed := range uint64(8) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, 1))
			for range 6 {
				session(t, a, r, &made)
			}
		})
	}
	wg.Wait()
	check(t, b.store)
	b.restart(t)
	a = b.account(t, "ann")
	for _, box := range []string{imap.Inbox, "other"} {
		m := open(t, a, box)
		for i, body := range bodies(t, m, allRows(snapshot(t, m))) {
			if !strings.HasPrefix(body, "Message-ID") {
				t.Errorf("%s, message %d: %q", box, i, body)
			}
		}
		m.Close()
	}
	check(t, b.store)
}

func session(t *testing.T, a *mailstore.Account, r *rand.Rand, made *atomic.Int64) {
	boxes := []string{imap.Inbox, "other"}
	m, err := a.Mailbox(ctx, boxes[r.IntN(2)])
	if err != nil {
		t.Error(err)
		return
	}
	defer m.Close()
	stop := m.Watch(func() {})
	defer stop()
	view, err := m.Snapshot(ctx)
	if err != nil {
		t.Error(err)
		return
	}
	for range 12 {
		var uids imap.UIDSet
		for range 6 {
			uids.Add(imap.UID(1 + r.IntN(int(view.UIDNext()))))
		}
		var err error
		switch r.IntN(7) {
		case 0, 1:
			u, uerr := a.Upload(ctx, -1)
			if uerr != nil {
				t.Error(uerr)
				return
			}
			_, _ = io.WriteString(u, mail(fmt.Sprint("c", made.Add(1))))
			_, err = a.Append(ctx, boxes[r.IntN(2)], []mailstore.AppendItem{{Upload: u}})
		case 2:
			_, err = m.Store(ctx, &mailstore.StoreRequest{UIDs: uids, Op: mailstore.FlagOp(r.IntN(3)), Flags: []imap.Flag{imap.FlagDeleted, "kw"}})
		case 3:
			err = m.Expunge(ctx, &uids)
		case 4:
			_, err = m.Copy(ctx, uids, boxes[r.IntN(2)])
		case 5:
			_, err = m.Move(ctx, uids, boxes[r.IntN(2)])
		case 6:
			_, _, err = m.ClaimRecent(ctx)
		}
		if err != nil {
			t.Error(err)
			return
		}
		latest, err := m.Snapshot(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		if latest.UIDNext() < view.UIDNext() || latest.HighestModSeq() < view.HighestModSeq() {
			t.Error("UIDNEXT or HIGHESTMODSEQ went back")
		}
		shown := mailindex.WithGhosts(view, latest)
		rows := allRows(shown)
		if !slices.IsSortedFunc(rows, func(a, b mailindex.Row) int { return int(a.UID) - int(b.UID) }) {
			t.Error("UIDs do not ascend")
		}
		err = m.Fetch(ctx, rows, mailstore.NeedHeader|mailstore.NeedDigest, func(i int, msg *mailstore.Message) error {
			if msg.Err != nil {
				t.Errorf("UID %d: %v", rows[i].UID, msg.Err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		view = shown
		if r.IntN(3) == 0 {
			view = latest
			m.Release(latest.HighestModSeq())
		}
	}
}

package imapserver_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imapstore"
	"github.com/rookery-mail/rookery/imaptest"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// TestRandomFaults is the random multi-session test on the store, on a disk
// that fails and heals; what Restart means is a power cut that takes whatever
// was not synced.
func TestRandomFaults(t *testing.T) {
	o := imaptest.RandomOptions{Restarts: true, Faults: true}
	if os.Getenv("ROOKERY_FULL") != "" {
		o.Runs, o.Steps = 150, 150
	}
	imaptest.Random(t, frailTarget(), o)
}

// frailTarget is the embedded store on a file system that loses power and fails.
func frailTarget() imaptest.Target {
	return imaptest.Target{New: func(t testing.TB) *imaptest.Server {
		s := &frailServer{t: t, fs: crashfs.New()}
		s.open()
		t.Cleanup(func() { s.stop() })
		return &imaptest.Server{
			Dial: func(ctx context.Context) (net.Conn, error) {
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.dial(ctx)
			},
			Users: []imaptest.User{{Name: "ann", Password: "secret"}, {Name: "bob", Password: "hidden"}},
			Restart: func(context.Context) error {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.cuts++
				after := s.fs.Clones()[s.cuts%2].FS // nothing of what was not synced, or half
				s.stop()
				s.fs = after
				s.open()
				return nil
			},
			Fail: s.fail,
		}
	}}
}

type frailServer struct {
	t    testing.TB
	fs   *crashfs.FS
	cuts int

	mu    sync.Mutex
	kv    *pebblekv.KV
	store *mailstore.Store
	dial  func(context.Context) (net.Conn, error)
	stop  func()
}

func (s *frailServer) open() {
	s.t.Helper()
	kv, err := pebblekv.Open("kv", pebblekv.Options{FS: s.fs, Logger: quiet(), MemTableBytes: 64 << 10})
	if err != nil {
		s.t.Fatal(err)
	}
	blobs, err := bloblog.Open("blobs", bloblog.Options{FS: s.fs, Logger: quiet(), SegmentBytes: 2000})
	if err != nil {
		s.t.Fatal(err)
	}
	store, err := mailstore.Open(context.Background(), kv, blobs, mailstore.Options{Logger: quiet(), TxnRows: 5, PageRows: 5, FoldRows: 3})
	if err != nil {
		s.t.Fatal(err)
	}
	dial, stop := start(s.t, imapstore.New(store), imapserver.Options{Log: quiet(), InsecureAuth: true})
	s.kv, s.store, s.dial = kv, store, dial
	s.stop = func() {
		stop()
		defects, err := store.Check(context.Background())
		for _, d := range defects {
			s.t.Errorf("check: %s", d)
		}
		if err := errors.Join(err, store.Close(context.Background()), kv.Close(), blobs.Close()); err != nil {
			s.t.Error(err)
		}
	}
}

// fail makes the disk fail at an operation that comes soon, for a while.
func (s *frailServer) fail(n uint32) (heal func(context.Context) error) {
	match := []func(errorfs.Op) bool{crashfs.Changes, crashfs.Syncs, crashfs.Changes, func(op errorfs.Op) bool {
		return op.Kind.ReadOrWrite() == errorfs.OpIsRead && op.Kind != errorfs.OpGetDiskUsage
	}}[n%4]
	err := []error{syscall.EIO, syscall.ENOSPC, syscall.EMFILE}[n>>2%3]
	s.fs.Fail(crashfs.Nth(1+int(n>>4%8), 1<<(n>>8%12), err, match))
	return func(ctx context.Context) error {
		s.fs.Fail(nil)
		a, err := s.store.Lookup(ctx, "ann")
		for range 5 {
			if err := s.kv.Reopen(); err != nil {
				return err
			}
			if err == nil {
				// What changes nothing fails all the same, until the account
				// has been read again.
				if err = a.Delete(ctx, "no such mailbox"); imap.KindOf(err) == imap.NotFound {
					return nil
				}
			}
			a, err = s.store.Lookup(ctx, "ann")
		}
		return fmt.Errorf("the store is not healed: %w", err)
	}
}

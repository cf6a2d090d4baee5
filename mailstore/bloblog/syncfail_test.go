package bloblog_test

import (
	"context"
	"errors"
	"path"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// TestSealFailsBesideSync: the operating system tells of what it could not write
// once. Where sealing a segment hears of it while a Sync goes on, the Sync must
// not say that all is well.
func TestSealFailsBesideSync(t *testing.T) {
	ctx := context.Background()
	fs := crashfs.New()
	s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true, SegmentBytes: 1000})
	defer s.Close()
	_, w, err := write(s, 1, text(1, 5000)) // fills the segment
	must(t, err)
	synced := make(chan error, 1)
	var once sync.Once
	fs.Fail(func(op errorfs.Op) (err error) {
		if op.Kind == errorfs.OpFileSync && path.Base(op.Path) == "00000001.log" {
			once.Do(func() {
				before := s.Stats().Syncs
				go func() { synced <- s.Sync(ctx) }()
				for s.Stats().Syncs == before { // it knows now what it has to sync
					runtime.Gosched()
				}
				err = syscall.EIO
			})
		}
		return err
	})
	if err := s.Tidy(ctx); !errors.Is(err, imap.Unavailable) {
		t.Errorf("sealing on a bad disk gave %v", err)
	}
	if err := <-synced; !errors.Is(err, imap.Unavailable) {
		t.Errorf("acknowledged although a sync of the segment had failed: %v", err)
	}
	if err := s.Sync(ctx); !errors.Is(err, imap.Unavailable) {
		t.Errorf("while a lost blob has a writer, Sync gave %v", err)
	}
	w.Release()
	must(t, s.Sync(ctx))
	wantBytes(t, s, mustKeep(t, s, 1, text(2, 5000)), text(2, 5000))
}

// TestSyncFailsBesideSeal: a segment that a Sync gives up while it is being
// sealed does not become a sealed one, which would be believed unread.
func TestSyncFailsBesideSeal(t *testing.T) {
	ctx := context.Background()
	fs := crashfs.New()
	opts := bloblog.Options{FS: fs, Manual: true, SegmentBytes: 1000}
	s := open(t, "blobs", opts)
	_, w, err := write(s, 1, text(1, 5000))
	must(t, err)
	tidied, sealing := make(chan error, 1), make(chan struct{})
	var once, begun sync.Once
	fs.Fail(func(op errorfs.Op) (err error) {
		switch {
		case path.Base(op.Path) != "00000001.log":
		case op.Kind == errorfs.OpFileWriteAt: // the index
			begun.Do(func() { close(sealing) })
		case op.Kind == errorfs.OpFileSyncData:
			once.Do(func() {
				go func() { tidied <- s.Tidy(ctx) }()
				<-sealing
				err = syscall.EIO
			})
		}
		return err
	})
	if err := s.Sync(ctx); !errors.Is(err, imap.Unavailable) {
		t.Errorf("a failed sync gave %v", err)
	}
	if err := <-tidied; !errors.Is(err, imap.Unavailable) {
		t.Errorf("sealing what was given up gave %v", err)
	}
	names, err := fs.List("blobs")
	must(t, err)
	for _, name := range names {
		if path.Ext(name) == ".seg" {
			t.Errorf("%s is sealed although it was given up", name)
		}
	}
	w.Release()
	must(t, s.Sync(ctx))
	fs.Fail(nil)
	must(t, s.Close())
	must(t, open(t, "blobs", opts).Close())
}

// TestFreeKeepsThePin: a Writer that has let go of its memory is told of a loss
// still, and keeps its blob from being swept away, until it is released.
func TestFreeKeepsThePin(t *testing.T) {
	ctx := context.Background()
	for _, n := range []int{5000, 400_000} {
		fs := crashfs.New()
		s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true, SegmentBytes: 1000})
		ref, w, err := write(s, 1, text(1, n))
		must(t, err)
		w.(interface{ Free() }).Free()
		w.(interface{ Free() }).Free()
		if _, err := w.ReadAt(make([]byte, 1), 0); err == nil {
			t.Errorf("%d bytes: what was freed can be read", n)
		}
		must(t, s.Sweep(ctx, 1, func(driver.Ref) bool { return false }))
		wantBytes(t, s, ref, text(1, n))
		fs.Fail(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpFileSync {
				return syscall.EIO
			}
			return nil
		})
		if err := s.Tidy(ctx); !errors.Is(err, imap.Unavailable) {
			t.Errorf("%d bytes: sealing on a bad disk gave %v", n, err)
		}
		fs.Fail(nil)
		for range 2 {
			if err := s.Sync(ctx); !errors.Is(err, imap.Unavailable) {
				t.Errorf("%d bytes: while a lost blob is pinned, Sync gave %v", n, err)
			}
		}
		w.Release()
		w.Release()
		must(t, s.Sync(ctx))
		must(t, s.Sweep(ctx, 1, func(driver.Ref) bool { return false }))
		if _, err := readAll(s, 1, ref); !errors.Is(err, imap.NotFound) {
			t.Errorf("%d bytes: what nobody names gave %v", n, err)
		}
		must(t, s.Close())
	}
}

// TestSyncPanics: where a sync ends in a panic, those that follow do not wait for
// it, and nobody takes for durable what it has not come to.
func TestSyncPanics(t *testing.T) {
	ctx := context.Background()
	fs := crashfs.New()
	s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
	defer s.Close()
	_, short, err := write(s, 1, []byte("short"))
	must(t, err)
	_, long, err := write(s, 1, text(2, 400_000))
	must(t, err)
	fs.Fail(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSyncData {
			panic("no sync")
		}
		return nil
	})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = s.Sync(ctx)
	}()
	fs.Fail(nil)
	for _, w := range []driver.Writer{short, long} {
		if err := s.Sync(ctx); !errors.Is(err, imap.Unavailable) {
			t.Errorf("before what was not synced is given up, Sync gave %v", err)
		}
		w.Release()
	}
	must(t, s.Sync(ctx))
	wantBytes(t, s, mustKeep(t, s, 1, []byte("after")), []byte("after"))
}

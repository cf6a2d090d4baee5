package pebblekv_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/driver/drivertest"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// TestFaultAtEveryOperation fails one operation after the other, once or for
// good, and heals the disk. What was acknowledged is there after Reopen, and
// after a restart.
func TestFaultAtEveryOperation(t *testing.T) {
	step := 3
	switch {
	case os.Getenv("ROOKERY_FULL") != "":
		step = 1
	case testing.Short():
		step = 20
	}
	for _, times := range []int{1, 2, 1 << 30} {
		for n, last := 1, false; !last; n += step {
			t.Run(fmt.Sprintf("n=%d,times=%d", n, times), func(t *testing.T) {
				last = faultAt(t, n, times)
			})
			if t.Failed() {
				return
			}
		}
	}
}

// faultAt reports whether the work was done before the n-th operation.
func faultAt(t *testing.T, n, times int) (last bool) {
	fs := crashfs.New()
	opts := pebblekv.Options{FS: fs, Logger: quiet(), MemTableBytes: 64 << 10} // rotates its log often
	kv, err := pebblekv.Open("kv", opts)
	if err != nil {
		t.Fatal(err)
	}
	begun := fs.Ops()
	fs.Fail(crashfs.Nth(n, times, syscall.ENOSPC, crashfs.Changes))
	acked := uint64(0)
	for i := uint64(1); i <= 60; i++ {
		err := setBoth(kv, 1, i)
		if err == nil {
			acked = i
		} else if !errors.Is(err, imap.Unavailable) {
			t.Errorf("update %d gave %v", i, err)
		}
	}
	last = fs.Ops()-begun < n
	fs.Fail(nil)
	got, err := reopened(t, kv, func() (uint64, error) { return readBoth(kv, 1) })
	if err != nil || got < acked {
		t.Errorf("%d was acknowledged, %d is there: %v", acked, got, err)
	}
	if _, err := reopened(t, kv, func() (uint64, error) { return 99, setBoth(kv, 1, 99) }); err != nil {
		t.Errorf("the store does not go on: %v", err)
	}
	if err := kv.Close(); err != nil {
		t.Error(err)
	}
	if kv, err = pebblekv.Open("kv", opts); err != nil {
		t.Fatal(err)
	}
	if got, err := readBoth(kv, 1); err != nil || got != 99 {
		t.Errorf("after a restart %d is there, want 99: %v", got, err)
	}
	if err := kv.Close(); err != nil {
		t.Error(err)
	}
	return last
}

// reopened does something on a healed disk. A flush that has failed before may
// say so only now, behind a Reopen: Keep then opens the store again.
func reopened(t *testing.T, kv *pebblekv.KV, do func() (uint64, error)) (got uint64, err error) {
	t.Helper()
	for range 3 {
		if err := kv.Reopen(); err != nil {
			t.Fatal(err)
		}
		if got, err = do(); !errors.Is(err, imap.Unavailable) {
			break
		}
	}
	return got, err
}

// TestFaultsByFile lets the writes of one sort of file fail from some moment
// on, while commits come from a goroutine that must never hang: then the store
// fails, Keep opens it again when the disk is healed, and watchers are woken.
func TestFaultsByFile(t *testing.T) {
	for _, pattern := range []string{"*.sst", "MANIFEST-*", "*.log"} {
		t.Run(pattern, func(t *testing.T) {
			fs := crashfs.New()
			kv, err := pebblekv.Open("kv", pebblekv.Options{FS: fs, Logger: quiet(), MemTableBytes: 64 << 10})
			if err != nil {
				t.Fatal(err)
			}
			defer kv.Close()
			woken := make(chan struct{}, 100)
			defer kv.Watch(1, func() { woken <- struct{}{} })()
			failed := kv.Failed()
			var openings atomic.Int32
			fs.Fail(func(op errorfs.Op) error {
				if op.Kind == errorfs.OpMkdirAll {
					openings.Add(1)
				}
				if match, err := path.Match(pattern, path.Base(op.Path)); err == nil && match && crashfs.Changes(op) {
					return syscall.EIO
				}
				return nil
			})
			acked := uint64(0)
			for err = nil; err == nil && acked < 10_000; {
				if err = setBoth(kv, 1, acked+1); err == nil {
					acked++
				}
			}
			if !errors.Is(err, imap.Unavailable) {
				t.Fatalf("after %d commits a disk that fails gave %v", acked, err)
			}
			<-failed
			ctx, stop := context.WithCancel(context.Background())
			kept := make(chan error)
			go func() { kept <- kv.Keep(ctx) }()
			time.Sleep(200 * time.Millisecond) // it tries, and cannot
			fs.Fail(nil)
			if n := openings.Load(); n > 10 {
				t.Errorf("Keep has tried %d times in a moment", n)
			}
			<-woken
			if got, err := readBoth(kv, 1); err != nil || got < acked {
				t.Errorf("%d was acknowledged, %d is there: %v", acked, got, err)
			}
			if err := setBoth(kv, 1, acked+2); err != nil {
				t.Error(err)
			}
			stop()
			if err := <-kept; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestReopenBesideReaders: who reads while the store fails is not waited for.
func TestReopenBesideReaders(t *testing.T) {
	fs := crashfs.New()
	kv := open(t, fs, "kv")
	if err := put(kv, 1, "a", "kept"); err != nil {
		t.Fatal(err)
	}
	inside, leave := make(chan struct{}), make(chan struct{})
	viewed := make(chan error)
	go func() {
		viewed <- kv.View(context.Background(), 1, func(r driver.Reader) error {
			close(inside)
			<-leave
			v, _, err := r.Get([]byte("a"))
			if err == nil && string(v) != "kept" {
				t.Errorf("a view that had begun before shows %q", v)
			}
			return err
		})
	}()
	<-inside
	fs.Fail(crashfs.Nth(1, 1, syscall.EIO, crashfs.Syncs))
	if err := put(kv, 1, "a", "perhaps"); !errors.Is(err, driver.ErrUnknown) {
		t.Errorf("a failed sync gave %v", err)
	}
	if err := kv.Reopen(); err != nil {
		t.Fatal(err)
	}
	if err := put(kv, 1, "a", "new"); err != nil {
		t.Error(err)
	}
	close(leave)
	if err := <-viewed; err != nil {
		t.Error(err)
	}
	if v, _ := get(t, kv, 1, "a"); v != "new" {
		t.Errorf("after Reopen there is %q", v)
	}
	if err := kv.Close(); err != nil {
		t.Error(err)
	}
}

// TestReopenWithoutItsFiles: a disk that is gone is not taken for a new store.
func TestReopenWithoutItsFiles(t *testing.T) {
	fs := crashfs.New()
	kv := open(t, fs, "kv")
	defer kv.Close()
	if err := put(kv, 1, "a", "kept"); err != nil {
		t.Fatal(err)
	}
	fs.Fail(crashfs.Broken)
	if err := put(kv, 1, "a", "lost"); !errors.Is(err, imap.Unavailable) {
		t.Fatalf("a broken disk gave %v", err)
	}
	fs.Fail(nil)
	if err := fs.RemoveAll("kv"); err != nil {
		t.Fatal(err)
	}
	if err := kv.Keep(context.Background()); imap.KindOf(err) != imap.ContactAdmin {
		t.Errorf("a store without files gave %v", err)
	}
}

// TestDriverOnAFailingDisk: that tables cannot be written now and then is
// nothing that a caller ever hears of.
func TestDriverOnAFailingDisk(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		fs := crashfs.New()
		var writes atomic.Int64
		fs.Fail(func(op errorfs.Op) error {
			if crashfs.Changes(op) && path.Ext(op.Path) == ".sst" && writes.Add(1)%31 == 0 { // so seldom that no flush fails three times in a row, which ends a store
				return syscall.EIO
			}
			return nil
		})
		return drivertest.Harness{
			Persistent: true,
			OpenKV: func(t *testing.T) driver.KV {
				for { // replaying the log writes tables, too
					kv, err := pebblekv.Open("kv", pebblekv.Options{FS: fs, Logger: quiet(), MemTableBytes: 64 << 10})
					if err == nil {
						return kv
					}
					if !errors.Is(err, syscall.EIO) {
						t.Fatal(err)
					}
				}
			},
		}
	})
}

// TestDriverWithFaults: the suite with a disk that fails in front of callers, and
// that loses power.
func TestDriverWithFaults(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		var kv *pebblekv.KV
		fs := crashfs.New()
		failed := func() bool { return false }
		return drivertest.Harness{
			Persistent: true,
			OpenKV: func(t *testing.T) driver.KV {
				var err error
				kv, err = pebblekv.Open("kv", pebblekv.Options{FS: fs, Logger: quiet(), MemTableBytes: 64 << 10, Journal: "journal", JournalBytes: 20_000})
				if err != nil {
					t.Fatal(err)
				}
				return kv
			},
			FailAt: func(n, times int) { failed = fs.FailNth(n, times, syscall.EIO) },
			Heal: func(t *testing.T) bool {
				fs.Fail(nil)
				if err := kv.Reopen(); err != nil {
					t.Error(err)
				}
				return failed()
			},
			Crash: func(*testing.T) { fs = fs.Clones()[0].FS },
		}
	})
}

// TestFaultWhileOpening fails each operation of an opening that has a log to
// read back, reading ones too. It fails, or it works; and the next one works.
func TestFaultWhileOpening(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 6
	}
	for _, times := range []int{1, 1 << 30} {
		for n, hit := 1, true; hit && !t.Failed(); n += step {
			fs := crashfs.New()
			opts := pebblekv.Options{FS: fs, Logger: quiet(), MemTableBytes: 64 << 10}
			kv, err := pebblekv.Open("kv", opts)
			if err != nil {
				t.Fatal(err)
			}
			for i := uint64(1); i <= 40; i++ {
				if err := setBoth(kv, 1, i); err != nil {
					t.Fatal(err)
				}
			}
			if err := kv.Close(); err != nil {
				t.Fatal(err)
			}
			var ops atomic.Int64
			fs.Fail(crashfs.Nth(n, times, syscall.EIO, func(errorfs.Op) bool { ops.Add(1); return true }))
			if kv, err = pebblekv.Open("kv", opts); err == nil {
				_ = kv.Close() // it may have failed by now
			} else if !errors.Is(err, imap.Unavailable) {
				t.Errorf("operation %d failing gave %v", n, err)
			}
			hit = ops.Load() >= int64(n)
			fs.Fail(nil)
			if kv, err = pebblekv.Open("kv", opts); err != nil {
				t.Fatalf("after operation %d has failed: %v", n, err)
			}
			if got, err := readBoth(kv, 1); err != nil || got != 40 {
				t.Errorf("after operation %d has failed %d is there: %v", n, got, err)
			}
			if err := kv.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

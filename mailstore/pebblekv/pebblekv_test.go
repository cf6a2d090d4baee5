package pebblekv_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/driver/drivertest"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func open(t testing.TB, fs vfs.FS, dir string) *pebblekv.KV {
	t.Helper()
	kv, err := pebblekv.Open(dir, pebblekv.Options{FS: fs, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func TestDriver(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		dir := t.TempDir()
		return drivertest.Harness{
			Persistent: true,
			OpenKV:     func(t *testing.T) driver.KV { return open(t, nil, dir) },
		}
	})
}

func TestDriverRelaxed(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		fs := vfs.NewMem()
		return drivertest.Harness{
			Persistent: true,
			OpenKV: func(t *testing.T) driver.KV {
				kv, err := pebblekv.Open("kv", pebblekv.Options{FS: fs, Logger: quiet(), Relaxed: 20 * time.Millisecond, MemTableBytes: 256 << 10})
				if err != nil {
					t.Fatal(err)
				}
				return kv
			},
		}
	})
}

func put(kv driver.KV, a driver.Account, key, value string) error {
	return kv.Update(context.Background(), a, func(tx driver.Txn) error {
		return tx.Set([]byte(key), []byte(value))
	})
}

func get(t testing.TB, kv driver.KV, a driver.Account, key string) (value string, ok bool) {
	t.Helper()
	err := kv.View(context.Background(), a, func(r driver.Reader) error {
		v, found, err := r.Get([]byte(key))
		value, ok = string(v), found
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return value, ok
}

// TestCutAtEveryOperation keeps two copies of a counter per account, so that
// half a transaction shows, and remembers what was acknowledged.
func TestCutAtEveryOperation(t *testing.T) {
	crashfs.EveryCut(t, 3, func() crashfs.Scenario {
		acked := make([]uint64, 3)
		seen := make([]uint64, 3)
		return crashfs.Scenario{
			Run: func(t *testing.T, fs *crashfs.FS) {
				kv := open(t, fs, "kv")
				var wg sync.WaitGroup
				for a := range acked {
					wg.Go(func() {
						for n := uint64(1); n <= 15; n++ {
							if err := setBoth(kv, driver.Account(a), n); err != nil {
								t.Error(err)
							}
							if fs.Alive() {
								acked[a] = n
							}
						}
					})
					wg.Go(func() {
						for range 15 {
							n, err := readBoth(kv, driver.Account(a))
							if err != nil {
								t.Error(err)
							}
							if fs.Alive() {
								seen[a] = max(seen[a], n)
							}
						}
					})
				}
				wg.Wait()
				if err := kv.Close(); err != nil {
					t.Error(err)
				}
			},
			Check: func(t *testing.T, fs *crashfs.FS) {
				kv := open(t, fs, "kv")
				defer kv.Close()
				for a := range acked {
					n, err := readBoth(kv, driver.Account(a))
					if err != nil {
						t.Error(err)
					}
					if n < acked[a] {
						t.Errorf("account %d is at %d, %d was acknowledged", a, n, acked[a])
					}
					if n < seen[a] {
						t.Errorf("account %d is at %d, a view had shown %d", a, n, seen[a])
					}
				}
				if err := setBoth(kv, 1, 99); err != nil {
					t.Errorf("the store cannot go on: %v", err)
				}
			},
		}
	})
}

// TestCutWhileOpening cuts the first opening and the second one, each several
// times: which directory entries reach the disk is chance.
func TestCutWhileOpening(t *testing.T) {
	times := 3
	if os.Getenv("ROOKERY_FULL") != "" {
		times = 30
	}
	for luck := range times {
		crashfs.EveryCut(t, 1, func() crashfs.Scenario {
			return crashfs.Scenario{
				Prepare: func(t *testing.T, fs *crashfs.FS) {
					for range luck {
						if err := fs.MkdirAll("luck", 0o700); err != nil {
							t.Fatal(err)
						}
					}
				},
				Run: func(t *testing.T, fs *crashfs.FS) {
					for n := range uint64(2) {
						kv := open(t, fs, "kv")
						if err := setBoth(kv, 1, n); err != nil {
							t.Error(err)
						}
						if err := kv.Close(); err != nil {
							t.Error(err)
						}
					}
				},
				Check: func(t *testing.T, fs *crashfs.FS) {
					kv := open(t, fs, "kv")
					if err := setBoth(kv, 1, 99); err != nil {
						t.Error(err)
					}
					if err := kv.Close(); err != nil {
						t.Error(err)
					}
				},
			}
		})
	}
}

func setBoth(kv driver.KV, a driver.Account, n uint64) error {
	return kv.Update(context.Background(), a, func(tx driver.Txn) error {
		v := binary.BigEndian.AppendUint64(nil, n)
		if err := tx.Set([]byte("one"), v); err != nil {
			return err
		}
		// Long enough for a transaction to need several blocks of the log.
		return tx.Set([]byte("two"), append(v, make([]byte, 5000)...))
	})
}

func readBoth(kv driver.KV, a driver.Account) (n uint64, err error) {
	err = kv.View(context.Background(), a, func(r driver.Reader) error {
		one, ok, err := r.Get([]byte("one"))
		if err != nil {
			return err
		}
		two, ok2, err := r.Get([]byte("two"))
		if err != nil || !ok && !ok2 {
			return err
		}
		if ok != ok2 || !bytes.HasPrefix(two, one) {
			return fmt.Errorf("half a transaction: %x beside %d bytes", one, len(two))
		}
		n = binary.BigEndian.Uint64(one)
		return nil
	})
	return n, err
}

// TestFailedSync: a commit whose sync fails is not acknowledged and not shown,
// the store refuses everything, and Reopen brings back what was acknowledged.
func TestFailedSync(t *testing.T) {
	fs := crashfs.New()
	kv := open(t, fs, "kv")
	defer kv.Close()
	if err := put(kv, 1, "a", "kept"); err != nil {
		t.Fatal(err)
	}
	failed := kv.Failed()
	fs.Fail(crashfs.Nth(1, 1_000_000, syscall.EIO, crashfs.Syncs))
	err := put(kv, 1, "a", "lost")
	if !errors.Is(err, driver.ErrUnknown) || !errors.Is(err, imap.Unavailable) {
		t.Errorf("a failed sync gave %v", err)
	}
	<-failed
	if err := put(kv, 2, "b", "x"); !errors.Is(err, imap.Unavailable) {
		t.Errorf("after a failed sync an update gave %v", err)
	}
	err = kv.View(context.Background(), 1, func(driver.Reader) error { return nil })
	if !errors.Is(err, imap.Unavailable) {
		t.Errorf("after a failed sync a view gave %v", err)
	}
	if err := kv.Reopen(); !errors.Is(err, imap.Unavailable) {
		t.Errorf("Reopen on a broken disk gave %v", err)
	}
	fs.Fail(nil)
	if err := kv.Reopen(); err != nil {
		t.Fatal(err)
	}
	if v, _ := get(t, kv, 1, "a"); v != "kept" && v != "lost" {
		t.Errorf("after Reopen the value is %q", v)
	}
	if err := put(kv, 1, "a", "again"); err != nil {
		t.Errorf("after Reopen an update gave %v", err)
	}
}

// TestViewWaitsForTheDisk holds a sync back: a view that begins meanwhile shows
// the new value only after the sync, and views of other accounts do not wait.
func TestViewWaitsForTheDisk(t *testing.T) {
	fs := crashfs.New()
	kv := open(t, fs, "kv")
	defer kv.Close()
	if err := put(kv, 1, "a", "old"); err != nil {
		t.Fatal(err)
	}
	gate := newGate()
	fs.Fail(gate.hold)
	updated := make(chan error, 1)
	go func() { updated <- put(kv, 1, "a", "new") }()
	<-gate.reached

	// A view may wait or show what was; it must not show what may get lost.
	for range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		err := kv.View(ctx, 1, func(r driver.Reader) error {
			if v, _, err := r.Get([]byte("a")); err != nil || string(v) != "old" {
				t.Errorf("a view showed %q (%v) before it was on disk", v, err)
			}
			return nil
		})
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		cancel()
	}
	if v, ok := get(t, kv, 2, "a"); ok { // does not wait for account 1
		t.Errorf("account 2 has %q", v)
	}
	close(gate.open)
	if err := <-updated; err != nil {
		t.Error(err)
	}
	if v, _ := get(t, kv, 1, "a"); v != "new" {
		t.Errorf("after the update a view showed %q", v)
	}
}

func TestRefusesTooLargeTransaction(t *testing.T) {
	kv := open(t, vfs.NewMem(), "kv")
	defer kv.Close()
	err := kv.Update(context.Background(), 1, func(tx driver.Txn) error {
		for i := range 2 * driver.MaxTxnBytes / (1 << 20) {
			if err := tx.Set([]byte{byte(i)}, make([]byte, 1<<20)); err != nil {
				return err
			}
		}
		return nil
	})
	if !errors.Is(err, imap.Limit) {
		t.Errorf("a transaction of twice MaxTxnBytes gave %v", err)
	}
}

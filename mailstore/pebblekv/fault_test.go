package pebblekv_test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// TestFaultAtEveryOperation fails one operation after the other, once or for
// good, and heals the disk. What was acknowledged is there after Reopen; where
// the old database hangs, after a restart.
func TestFaultAtEveryOperation(t *testing.T) {
	step := 7
	if testing.Short() {
		step = 50
	}
	for _, times := range []int{1, 1 << 30} {
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
	if err := kv.Reopen(); errors.Is(err, imap.ContactAdmin) {
		t.Logf("has to be restarted: %v", err)
		after := fs.Clones()[2].FS
		if kv, err = pebblekv.Open("kv", pebblekv.Options{FS: after, Logger: quiet()}); err != nil {
			t.Fatal(err)
		}
	} else if err != nil {
		t.Fatal(err)
	}
	if got, err := readBoth(kv, 1); err != nil || got < acked {
		t.Errorf("%d was acknowledged, %d is there: %v", acked, got, err)
	}
	if err := setBoth(kv, 1, 99); err != nil {
		t.Errorf("the store does not go on: %v", err)
	}
	if err := kv.Close(); err != nil {
		t.Error(err)
	}
	return last
}

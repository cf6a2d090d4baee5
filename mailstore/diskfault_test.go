package mailstore_test

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// full reports whether the long runs are wanted.
func full() bool { return os.Getenv("ROOKERY_FULL") != "" }

// When the disk fails at any operation, once or for a while, the command that
// needed it gets kind Unavailable and has happened as a whole or not at all;
// when the disk is healed the store goes on without a restart, and a restart
// finds the same.
func TestDiskFailsAtEveryOperation(t *testing.T) {
	step := 5
	switch {
	case full():
		step = 1
	case testing.Short():
		step = 40
	}
	now := time.Unix(1_700_000_000, 0)
	for name, opts := range map[string]mailstore.Options{
		"one transaction each": {},
		"many transactions":    {TxnRows: 2, TxnBytes: 1000, ExpungeRanges: 2},
	} {
		opts.Now = func() time.Time { return now }
		clean := cleanDumps(t, opts)
		for _, f := range []diskFault{
			{times: 1, err: syscall.EIO}, {times: 1, err: syscall.ENOSPC}, {times: 3, err: syscall.EIO},
			{times: 1 << 30, err: syscall.EIO}, {times: 1 << 30, err: syscall.ENOSPC},
			{times: 1, err: syscall.EIO, match: reads}, {times: 1 << 30, err: syscall.EMFILE, match: reads},
		} {
			for n, hit := 1, true; hit; n += step {
				t.Run(fmt.Sprintf("%s/times=%d,err=%v,reads=%v,n=%d", name, f.times, f.err, f.match != nil, n), func(t *testing.T) {
					hit = failDisk(t, n, f, opts, clean)
				})
				if t.Failed() {
					return
				}
			}
		}
	}
}

type diskFault struct {
	times int
	err   error
	match func(errorfs.Op) bool // nil: whatever changes something
}

// reads matches what only reads, opening included.
func reads(op errorfs.Op) bool {
	return op.Kind.ReadOrWrite() == errorfs.OpIsRead && op.Kind != errorfs.OpGetDiskUsage
}

// openBusy opens a store whose segments are small and that tidies up by itself.
func openBusy(t *testing.T, fs *crashfs.FS, opts mailstore.Options) *disk {
	t.Helper()
	return openEmbedded(t, opts, bloblog.Options{FS: fs, SegmentBytes: 1000}, pebblekv.Options{FS: fs, MemTableBytes: 64 << 10}, false)
}

// failDisk reports whether the fault was reached.
func failDisk(t *testing.T, n int, f diskFault, opts mailstore.Options, clean []string) bool {
	fs := crashfs.New()
	d := openBusy(t, fs, opts)
	a := d.account(t)
	match := f.match
	if match == nil {
		match = crashfs.Changes
	}
	var seen atomic.Int64
	fs.Fail(crashfs.Nth(n, f.times, f.err, func(op errorfs.Op) bool {
		if !match(op) {
			return false
		}
		seen.Add(1)
		return true
	}))
	exact := true // until something is done twice, which may cost UIDs
	for i, s := range crashSteps() {
		if err := s.do(t, a); err == nil {
			continue
		} else if imap.KindOf(err) != imap.Unavailable {
			t.Errorf("%s on a disk that fails gave %v", s.name, err)
		}
		fs.Fail(nil)
		heal(t, d, a)
		switch got := dump(t, a); {
		case exact && got == clean[i+1]: // it has happened all the same
		case exact && got != clean[i]:
			t.Errorf("after a failed %s the store has\n%s\nwant\n%s\nor\n%s", s.name, got, clean[i], clean[i+1])
		default:
			err := s.do(t, a)
			for try := 0; try < 3 && errors.Is(err, imap.Unavailable); try++ {
				heal(t, d, a) // a flush that has failed before has said so only now
				err = s.do(t, a)
			}
			if err != nil && exact {
				t.Errorf("%s on the healed disk: %v", s.name, err)
			}
			exact = exact && dump(t, a) == clean[i+1]
		}
		check(t, d.store)
	}
	hit := seen.Load() >= int64(n)
	fs.Fail(nil)
	heal(t, d, a) // it may have failed behind the last command
	want := dump(t, a)
	if last := clean[len(clean)-1]; exact && want != last {
		t.Errorf("in the end the store has\n%s\nwant\n%s", want, last)
	}
	d.close(t)
	d = openBusy(t, fs, opts)
	defer d.close(t)
	a = d.account(t)
	if got := dump(t, a); got != want {
		t.Errorf("after a restart the store has\n%s\nwant\n%s", got, want)
	}
	check(t, d.store)
	must(t, d.store.Sweep(ctx))
	check(t, d.store)
	return hit
}

// heal does what pebblekv.KV.Keep does, and waits until the account has been
// read again.
func heal(t *testing.T, d *disk, a *mailstore.Account) {
	t.Helper()
	err := error(nil)
	for range 3 {
		if err := d.kv.Reopen(); err != nil {
			t.Fatal(err)
		}
		if err = a.Delete(ctx, "no such mailbox"); errors.Is(err, imap.NotFound) {
			return
		}
	}
	t.Errorf("deleting what is not there gave %v", err)
}

package mailstore_test

import (
	"errors"
	"fmt"
	"slices"
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

// failSeal has sealing the segments fail that are full, on a disk that works again
// afterwards: the system has forgotten then what it could not write, and the next
// sync has nothing to complain of.
func failSeal(t *testing.T, fs *crashfs.FS, d *disk) {
	t.Helper()
	fs.Fail(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSync {
			return syscall.EIO
		}
		return nil
	})
	if err := d.blobs.Tidy(ctx); !errors.Is(err, imap.Unavailable) {
		t.Errorf("sealing on a bad disk gave %v", err)
	}
	fs.Fail(nil)
}

// wantAfterCut cuts the power and wants one of the states that the store was in.
func wantAfterCut(t *testing.T, fs *crashfs.FS, opts mailstore.Options, states ...string) {
	t.Helper()
	for _, c := range fs.Clones() {
		d := openDisk(t, c.FS, opts, bloblog.Options{}, false)
		if got := dump(t, d.account(t)); !slices.Contains(states, got) {
			t.Errorf("after a power cut the store has what was never there\n%s", got)
		}
		check(t, d.store)
		d.close(t)
	}
}

// A segment that cannot be sealed while an APPEND to it is on its way takes the
// message with it: the APPEND is refused, and nothing names the message.
func TestSealFailsBesideAppend(t *testing.T) {
	for name, apart := range map[string]bool{"the log waits for the messages": false, "they are synced first": true} {
		t.Run(name, func(t *testing.T) {
			fs := crashfs.New()
			var d *disk
			fails := false
			// The clock is asked for while the transaction is made, when the
			// message has been written.
			opts := mailstore.Options{Now: func() time.Time {
				if fails && d.blobs.Stats().Stored == 2 {
					fails = false
					failSeal(t, fs, d)
				}
				return time.Unix(1_700_000_000, 0)
			}}
			d = openDisk(t, fs, opts, bloblog.Options{SegmentBytes: 100}, apart)
			a := d.account(t)
			appendMail(t, a, imap.Inbox, mail("before"))
			want := dump(t, a)
			fails = true
			u, err := a.Upload(ctx, -1)
			must(t, err)
			_, err = u.Write([]byte(mail("one")))
			must(t, err)
			_, err = a.Append(ctx, imap.Inbox, []mailstore.AppendItem{{Upload: u}})
			if fails {
				t.Fatal("the segment was not sealed in time")
			}
			switch {
			case err == nil && !apart: // another sync of the log has come before
				want = dump(t, a)
				wantAfterCut(t, fs, mailstore.Options{}, want)
			case err != nil && !errors.Is(err, imap.Unavailable):
				t.Errorf("the APPEND gave %v", err)
			case err == nil:
				want = dump(t, a)
			}
			must(t, d.kv.Reopen())
			heal(t, d, a)
			if got := dump(t, a); got != want {
				t.Errorf("the store has\n%s\nwant\n%s", got, want)
			}
			appendMail(t, a, imap.Inbox, mail("the store goes on"))
			want = dump(t, a)
			check(t, d.store)
			wantAfterCut(t, fs, mailstore.Options{}, want)
			d.close(t)
		})
	}
}

// In a relaxed store the message was acknowledged before. The index must not name
// it on the disk: it fails, as if its own disk had, and has lost the end.
func TestRelaxedSealFails(t *testing.T) {
	fs := crashfs.New()
	d := openEmbedded(t, mailstore.Options{}, bloblog.Options{FS: fs, Manual: true, SegmentBytes: 100},
		pebblekv.Options{FS: fs, Relaxed: time.Hour}, false)
	a := d.account(t)
	appendMail(t, a, imap.Inbox, mail("before"))
	must(t, d.kv.Sync(ctx))
	must(t, d.blobs.Tidy(ctx))
	states := []string{dump(t, a)}
	for _, subject := range []string{"one", "two"} {
		appendMail(t, a, imap.Inbox, mail(subject))
		states = append(states, dump(t, a))
		if subject == "one" {
			failSeal(t, fs, d)
		}
	}
	if err := d.kv.Sync(ctx); !errors.Is(err, imap.Unavailable) {
		t.Errorf("a message is lost, and a sync of the index gave %v", err)
	}
	wantAfterCut(t, fs, mailstore.Options{}, states...)

	// Who goes on without a restart has what is on the disk.
	must(t, d.kv.Reopen())
	heal(t, d, a)
	if got := dump(t, a); got != states[0] {
		t.Errorf("the store has\n%s\nwant\n%s", got, states[0])
	}
	appendMail(t, a, imap.Inbox, mail("the store goes on"))
	must(t, d.kv.Sync(ctx))
	want := dump(t, a)
	d.close(t)
	d = openDisk(t, fs, mailstore.Options{}, bloblog.Options{}, false)
	if got := dump(t, d.account(t)); got != want {
		t.Errorf("after a restart the store has\n%s\nwant\n%s", got, want)
	}
	d.close(t)
}

// When the disk of a relaxed store fails at any operation, and is healed at once, the
// power cut that follows leaves a state that the store was in, whole.
func TestRelaxedDiskFailsAtEveryOperation(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 10
	}
	now := time.Unix(1_700_000_000, 0)
	opts := mailstore.Options{Now: func() time.Time { return now }, TxnRows: 3, TxnBytes: 1000, ExpungeRanges: 2}
	states := cleanDumps(t, opts)
	for name, match := range map[string]func(errorfs.Op) bool{"anything": crashfs.Changes, "a sync": crashfs.Syncs} {
		for n, hit := 1, true; hit && !t.Failed(); n += step {
			t.Run(fmt.Sprintf("%s/n=%d", name, n), func(t *testing.T) {
				fs := crashfs.New()
				d := openRelaxed(t, fs, opts, n%2 == 0)
				a := d.account(t)
				var seen atomic.Int64
				fs.Fail(crashfs.Nth(n, 1, syscall.EIO, func(op errorfs.Op) bool {
					if !match(op) {
						return false
					}
					seen.Add(1)
					return true
				}))
				for _, s := range crashSteps() {
					if s.do(t, a) != nil {
						break
					}
				}
				_ = d.blobs.Tidy(ctx)
				_ = d.kv.Sync(ctx)
				hit = seen.Load() >= int64(n)
				wantAfterCut(t, fs, opts, states...)
				_ = d.store.Close(ctx)
				_ = d.kv.Close()
				_ = d.blobs.Close()
			})
		}
	}
}

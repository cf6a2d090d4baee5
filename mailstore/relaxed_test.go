package mailstore_test

import (
	"slices"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// openRelaxed opens a store that acknowledges before it is on disk. Its window
// is a moment or, where idle is set, longer than any test.
func openRelaxed(t *testing.T, fs *crashfs.FS, opts mailstore.Options, idle bool) *disk {
	t.Helper()
	window := 2 * time.Millisecond
	if idle {
		window = time.Hour
	}
	return openEmbedded(t, opts, bloblog.Options{FS: fs, SegmentBytes: 1000, MaxWaste: 0.1},
		pebblekv.Options{FS: fs, Relaxed: window, MemTableBytes: 64 << 10}, false)
}

// A relaxed store may lose the last commands to a power cut, but no command in
// part, none before one that it keeps, and no message that the index names.
func TestRelaxedCutAtEveryOperation(t *testing.T) {
	step := 2
	if full() {
		step = 1
	}
	now := time.Unix(1_700_000_000, 0)
	opts := mailstore.Options{Now: func() time.Time { return now }, TxnRows: 3, TxnBytes: 1000, ExpungeRanges: 2}
	for name, idle := range map[string]bool{"short": false, "long": true} {
		t.Run(name, func(t *testing.T) {
			crashfs.EveryCut(t, step, func() crashfs.Scenario {
				var dumps []string
				acknowledged := 0 // of dumps
				return crashfs.Scenario{
					Run: func(t *testing.T, fs *crashfs.FS) {
						d := openRelaxed(t, fs, opts, idle)
						a := d.account(t)
						dumps = append(dumps, dump(t, a))
						for _, s := range crashSteps() {
							must(t, s.do(t, a))
							if fs.Alive() {
								acknowledged = len(dumps)
							}
							dumps = append(dumps, dump(t, a))
							if !idle {
								time.Sleep(time.Millisecond)
							}
						}
						d.close(t)
					},
					Check: func(t *testing.T, fs *crashfs.FS) {
						d := openRelaxed(t, fs, opts, idle)
						a := d.account(t)
						got := dump(t, a)
						if i := slices.Index(dumps, got); i < 0 || i > acknowledged+1 {
							t.Errorf("acknowledged was step %d; the store has what was never there\n%s", acknowledged, got)
						}
						check(t, d.store)
						appendMail(t, a, imap.Inbox, mail("after the cut"))
						must(t, d.store.Sweep(ctx))
						check(t, d.store)
						d.close(t)
					},
				}
			})
		})
	}
}

// What was acknowledged longer than the window ago is there after a power cut.
func TestRelaxedWindow(t *testing.T) {
	fs := crashfs.New()
	d := openRelaxed(t, fs, mailstore.Options{}, false)
	a := d.account(t)
	appendMail(t, a, imap.Inbox, mail("one"))
	want := dump(t, a)
	must(t, d.kv.Sync(ctx)) // in place of waiting
	for _, c := range fs.Clones() {
		after := openRelaxed(t, c.FS, mailstore.Options{}, false)
		if got := dump(t, after.account(t)); got != want {
			t.Errorf("after the cut there is\n%s\nwant\n%s", got, want)
		}
		after.close(t)
	}
	d.close(t)
}

// A store that was closed in order has lost nothing.
func TestRelaxedClose(t *testing.T) {
	fs := crashfs.New()
	d := openRelaxed(t, fs, mailstore.Options{}, true)
	a := d.account(t)
	appendMail(t, a, imap.Inbox, mail("one"))
	want := dump(t, a)
	d.close(t)
	d = openRelaxed(t, fs.Clones()[0].FS, mailstore.Options{}, true)
	if got := dump(t, d.account(t)); got != want {
		t.Errorf("after a close and a cut there is\n%s\nwant\n%s", got, want)
	}
	d.close(t)
}

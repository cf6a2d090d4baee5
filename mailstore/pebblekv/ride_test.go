package pebblekv_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/internal/durable"
	"github.com/rookery-mail/rookery/internal/overlayfs"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// mailbag is an index with the blobs that it names, and knows what was acknowledged.
type mailbag struct {
	fs    *crashfs.FS
	kv    *pebblekv.KV
	blobs *bloblog.Store
	acked map[uint64]bool // numbers of messages, and of other commits
	next  uint64
	rides int64
}

func (b *mailbag) open(t *testing.T, fs vfs.FS) {
	t.Helper()
	if err := errors.Join(fs.MkdirAll("data", 0o700), durable.SyncDir(fs, "")); err != nil {
		t.Fatal(err)
	}
	var err error
	b.blobs, err = bloblog.Open("data/messages", bloblog.Options{FS: fs, Logger: silent, Manual: true, SegmentBytes: 100_000, RideShare: 100})
	if err != nil {
		t.Fatal(err)
	}
	b.kv = journaled(t, fs, pebblekv.Options{Blobs: b.blobs, MemTableBytes: 64 << 10, JournalBytes: 200_000})
}

func (b *mailbag) close(t *testing.T) {
	t.Helper()
	if err := b.kv.Close(); err != nil {
		t.Error(err)
	}
	b.rides += b.blobs.Stats().Rides
	if err := b.blobs.Close(); err != nil {
		t.Error(err)
	}
}

func bagText(n uint64, size int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%8d", n), size/8) }

// deliver stores a message and a commit that names it, or, where size is 0, a commit
// alone.
func (b *mailbag) deliver(size, record int) error {
	ctx := context.Background()
	b.next++
	n := b.next
	value := make([]byte, 16, 16+record)
	if size > 0 {
		w, err := b.kv.Blobs().Create(ctx, 1, int64(size/8*8))
		if err != nil {
			return err
		}
		defer w.Release()
		if _, err := w.Write(bagText(n, size)); err != nil {
			return err
		}
		ref, err := w.Finish(nil)
		if err != nil {
			return err
		}
		binary.BigEndian.PutUint64(value, uint64(ref))
		binary.BigEndian.PutUint64(value[8:], uint64(size))
	}
	for len(value) < cap(value) {
		value = append(value, byte(n))
	}
	err := b.kv.Update(ctx, 1, func(tx driver.Txn) error { return tx.Set(binary.BigEndian.AppendUint64([]byte("m"), n), value) })
	if err == nil && b.fs.Alive() {
		b.acked[n] = true
	}
	return err
}

// work does a bit of everything: rides, several sorts of syncs of the log, other logs.
func (b *mailbag) work(t *testing.T) {
	t.Helper()
	for i := range 40 {
		size, record := 500+i*100, 300+i*30
		switch {
		case i%9 == 4:
			size = 0 // nothing to ride with
		case i == 20:
			size = 300_000 // in a file of its own
		case i == 30:
			record = 70_000 // more than rides; and another log follows
		}
		if err := b.deliver(size, record); err != nil {
			t.Error(err)
		}
	}
}

// verify wants what was acknowledged, and each blob that is named.
func (b *mailbag) verify(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	there := make(map[uint64]bool)
	err := b.kv.View(ctx, 1, func(r driver.Reader) error {
		return r.Scan([]byte("m"), []byte("n"), func(key, value []byte) bool {
			n := binary.BigEndian.Uint64(key[1:])
			there[n] = true
			size := int(binary.BigEndian.Uint64(value[8:]))
			if size == 0 {
				return true
			}
			blob, err := b.blobs.Open(ctx, 1, driver.Ref(binary.BigEndian.Uint64(value)))
			if err != nil {
				t.Errorf("message %d is named, and not there: %v", n, err)
				return true
			}
			defer blob.Close()
			if text, err := io.ReadAll(io.NewSectionReader(blob, 0, blob.Size())); err != nil || !bytes.Equal(text, bagText(n, size)) {
				t.Errorf("message %d has %d bytes, %v", n, len(text), err)
			}
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := range b.acked {
		if !there[n] {
			t.Errorf("%d was acknowledged, and is lost", n)
		}
	}
}

func newMailbag(fs *crashfs.FS) *mailbag { return &mailbag{fs: fs, acked: make(map[uint64]bool)} }

// TestRideCutAtEveryOperation: after a power cut at any operation all is there that was
// acknowledged, and every blob that is named.
func TestRideCutAtEveryOperation(t *testing.T) {
	var rides, cuts int64
	crashfs.EveryCut(t, 1, func() crashfs.Scenario {
		var b *mailbag
		return crashfs.Scenario{
			Run: func(t *testing.T, fs *crashfs.FS) {
				b = newMailbag(fs)
				b.open(t, fs)
				b.work(t)
				b.close(t)
				rides += b.rides
				cuts++
			},
			Check: func(t *testing.T, fs *crashfs.FS) {
				c := *b
				c.fs, c.acked = fs, maps.Clone(b.acked)
				c.open(t, fs)
				c.verify(t)
				if err := c.deliver(100, 100); err != nil {
					t.Errorf("the store does not go on: %v", err)
				}
				c.verify(t)
				c.close(t)
			},
		}
	})
	if rides < 20*cuts {
		t.Errorf("only %d rides of %d commits", rides/cuts, 40)
	}
}

// TestRideCutWhileLayingIn: the power goes after rides, and once more while what has
// ridden is laid in.
func TestRideCutWhileLayingIn(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 7
	}
	for kept := range 3 {
		for n, last := 1, false; !last; n += step {
			b := newMailbag(crashfs.New())
			b.open(t, b.fs)
			for i := range 12 {
				if err := b.deliver(3000, 1000+500*i); err != nil {
					t.Fatal(err)
				}
			}
			if rides := b.blobs.Stats().Rides; rides < 10 {
				t.Fatalf("%d rides", rides)
			}
			first := b.fs.Clones()[kept].FS
			b.close(t)
			b.fs = first
			first.CutAt(n)
			b.open(t, first)
			b.verify(t)
			b.close(t)
			last = first.Alive()
			for _, c := range first.Clones() {
				t.Run(fmt.Sprintf("kept=%d,cut=%d,kept=%d", kept, n, c.Kept), func(t *testing.T) {
					again := newMailbag(c.FS)
					again.acked, again.next = b.acked, b.next
					again.open(t, c.FS)
					again.verify(t)
					again.close(t)
				})
			}
			if t.Failed() {
				return
			}
		}
	}
}

// TestRideOutlivesTheLog: where the log itself cannot be synced the store fails, and what
// was acknowledged because it rode is there when it is opened again, and on the disk.
func TestRideOutlivesTheLog(t *testing.T) {
	for _, what := range []string{"sync", "write"} {
		fs := crashfs.New()
		b := newMailbag(fs)
		b.open(t, fs)
		for range 10 {
			if err := b.deliver(2000, 700); err != nil {
				t.Fatal(err)
			}
		}
		if rides := b.blobs.Stats().Rides; rides < 9 {
			t.Fatalf("%d rides", rides)
		}
		fs.Fail(func(op errorfs.Op) error {
			isLog := path.Dir(op.Path) == "data/index" && strings.HasSuffix(op.Path, ".log")
			if isLog && (crashfs.Syncs(op) || what == "write" && op.Kind == errorfs.OpFileWrite) {
				return syscall.EIO
			}
			return nil
		})
		if err := b.deliver(0, 100); !errors.Is(err, driver.ErrUnknown) {
			t.Errorf("a commit on a bad disk: %v", err)
		}
		if err := b.kv.Reopen(); !errors.Is(err, imap.Unavailable) {
			t.Errorf("opened again on a bad disk: %v", err)
		}
		fs.Fail(nil)
		if err := b.kv.Reopen(); err != nil {
			t.Fatal(err)
		}
		b.verify(t)
		for _, c := range fs.Clones() {
			d := newMailbag(c.FS)
			d.acked = b.acked
			d.open(t, c.FS)
			d.verify(t)
			d.close(t)
		}
		if err := b.deliver(2000, 700); err != nil {
			t.Error(err)
		}
		b.verify(t)
		b.close(t)
	}
}

// crashed returns what a power cut leaves of rides, with what of them.
func crashed(t *testing.T, kept int) *mailbag {
	t.Helper()
	b := newMailbag(crashfs.New())
	b.open(t, b.fs)
	for i := range 12 {
		if err := b.deliver(3000, 1000+500*i); err != nil {
			t.Fatal(err)
		}
	}
	disk := b.fs.Clones()[kept].FS
	b.close(t)
	b.fs = disk
	return b
}

// TestRideSeenThroughOverlay: who only looks sees what has ridden, in index and journal,
// and changes nothing.
func TestRideSeenThroughOverlay(t *testing.T) {
	for kept := range 3 {
		b := crashed(t, kept)
		log, _ := newestLog(t, b.fs)
		before := read(t, b.fs, log)
		over := overlayfs.New(b.fs)
		blobs, err := bloblog.Open("data/messages", bloblog.Options{FS: over, Logger: silent, Manual: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := pebblekv.LayIn(context.Background(), over, "data/index", "data/journal", blobs); err != nil {
			t.Fatal(err)
		}
		if lost, err := pebblekv.LostLogs(over, "data/index", "data/journal"); err != nil || len(lost) > 0 {
			t.Errorf("lost: %q, %v", lost, err)
		}
		r, err := pebblekv.ReadJournal(context.Background(), over, "data/journal", "data/index", derivedT, nil)
		if err != nil || len(r.Problems) > 0 || r.Batches < 12 {
			t.Errorf("the journal: %+v, %v", r, err)
		}
		kv, err := pebblekv.Open("data/index", pebblekv.Options{FS: over, Logger: silent, Still: true, Existing: true})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(contents(t, kv)); n != 12 {
			t.Errorf("%d commits are seen", n)
		}
		if err := errors.Join(kv.Close(), blobs.Close()); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(before, read(t, b.fs, log)) {
			t.Error("the log was changed")
		}
		b.open(t, b.fs)
		b.verify(t)
		b.close(t)
	}
}

// TestRideOfAnotherOpening: logs that have the same numbers and are not those that rode
// (of an index that was set back, restored or made again) get nothing laid in.
func TestRideOfAnotherOpening(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, fs vfs.FS, names []string){
		"set back": func(t *testing.T, fs vfs.FS, names []string) {
			for _, n := range names {
				write(t, fs, n, []byte(strings.Repeat("ab", 16)+"\n"))
			}
		},
		"restored": func(t *testing.T, fs vfs.FS, names []string) {
			for _, n := range names {
				if err := fs.Remove(n); err != nil {
					t.Fatal(err)
				}
			}
		},
		"damaged": func(t *testing.T, fs vfs.FS, names []string) {
			for _, n := range names {
				write(t, fs, n, []byte("zz"))
			}
		},
	} {
		b := crashed(t, 0)
		epochs, err := b.fs.List("data/journal")
		if err != nil || len(epochs) != 1 {
			t.Fatal(epochs, err)
		}
		change(t, b.fs, []string{"data/index/RIDES", "data/journal/" + epochs[0] + "/RIDES"})
		log, _ := newestLog(t, b.fs)
		before := read(t, b.fs, log)
		blobs, err := bloblog.Open("data/messages", bloblog.Options{FS: b.fs, Logger: silent, Manual: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := pebblekv.LayIn(context.Background(), b.fs, "data/index", "data/journal", blobs); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(before, read(t, b.fs, log)) {
			t.Errorf("%s: another log got what rode", name)
		}
		if err := blobs.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestRideBehindAGap: where a log has lost what was on disk, by whatever, pieces are not
// laid in behind that, and what is whole is not written over.
func TestRideBehindAGap(t *testing.T) {
	b := crashed(t, 0)
	log, end := newestLog(t, b.fs)
	overwrite(t, b.fs, log, end-20, []byte("rotten")) // the end of what was synced itself
	blobs, err := bloblog.Open("data/messages", bloblog.Options{FS: b.fs, Logger: silent, Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	before := read(t, b.fs, log)
	if err := pebblekv.LayIn(context.Background(), b.fs, "data/index", "data/journal", blobs); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, read(t, b.fs, log)) {
		t.Error("something was laid in behind damage")
	}
	if err := blobs.Close(); err != nil {
		t.Error(err)
	}
}

package pebblekv_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/internal/overlayfs"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// pieces returns the files of messages that have riders of the index, and where the
// pieces of the log begin in them.
func pieces(t *testing.T, fs vfs.FS) (files []string, at map[string][]int) {
	t.Helper()
	name, err := hex.DecodeString(strings.TrimSpace(string(read(t, fs, "data/index/RIDES"))))
	if err != nil {
		t.Fatal(err)
	}
	names, err := fs.List("data/messages")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	at = make(map[string][]int)
	for _, n := range names {
		file := "data/messages/" + n
		data := read(t, fs, file)
		for pos := bytes.Index(data, name); pos >= 0; {
			at[file] = append(at[file], pos)
			next := bytes.Index(data[pos+1:], name)
			if next < 0 {
				break
			}
			pos += 1 + next
		}
		if len(at[file]) > 0 {
			files = append(files, file)
		}
	}
	return files, at
}

// TestRideProvesWhatIsMissing: damage to what a power cut has left, wherever it is, either
// keeps the store from being opened, or has taken nothing but what a power cut may.
func TestRideProvesWhatIsMissing(t *testing.T) {
	const inPiece, inMessage = 100, -1500
	for name, c := range map[string]struct {
		spoil   func(t *testing.T, fs vfs.FS, first, last string, at map[string][]int)
		refused bool
		lost    int
	}{
		"nothing": {func(*testing.T, vfs.FS, string, string, map[string][]int) {}, false, 0},
		"the first rider": {func(t *testing.T, fs vfs.FS, first, _ string, at map[string][]int) {
			overwrite(t, fs, first, at[first][0]+inPiece, []byte("rot"))
		}, true, 0},
		"a rider": {func(t *testing.T, fs vfs.FS, first, _ string, at map[string][]int) {
			overwrite(t, fs, first, at[first][5]+inPiece, []byte("rot"))
		}, true, 0},
		"the last rider but one": {func(t *testing.T, fs vfs.FS, _, last string, at map[string][]int) {
			overwrite(t, fs, last, at[last][len(at[last])-2]+inPiece, []byte("rot"))
		}, true, 0},
		"the last rider": {func(t *testing.T, fs vfs.FS, _, last string, at map[string][]int) {
			overwrite(t, fs, last, at[last][len(at[last])-1]+inPiece, []byte("rot"))
		}, false, 1},
		"the last message": {func(t *testing.T, fs vfs.FS, _, last string, at map[string][]int) {
			overwrite(t, fs, last, at[last][len(at[last])-1]+inMessage, []byte("rot"))
		}, false, 1},
		"a message": {func(t *testing.T, fs vfs.FS, first, _ string, at map[string][]int) {
			overwrite(t, fs, first, at[first][5]+inMessage, []byte("rot"))
		}, false, 0},
		"the last message of a segment": {func(t *testing.T, fs vfs.FS, first, _ string, at map[string][]int) {
			overwrite(t, fs, first, at[first][len(at[first])-1]+inMessage, []byte("rot"))
		}, false, 0},
		"the last message of all, and of a segment": {func(t *testing.T, fs vfs.FS, first, last string, at map[string][]int) {
			for _, file := range []string{first, last} {
				overwrite(t, fs, file, at[file][len(at[file])-1]+inMessage, []byte("rot"))
			}
		}, false, 1},
		"what the log has synced": {func(t *testing.T, fs vfs.FS, _, _ string, _ map[string][]int) {
			log, end := newestLog(t, fs)
			dir, _ := journalFiles(t, fs)
			for _, file := range []string{log, dir + "/" + path.Base(log)} { // after the cut these are two
				overwrite(t, fs, file, end-20, []byte("rotten"))
			}
		}, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newMailbag(crashfs.New())
			b.open(t, b.fs)
			for range 30 {
				if err := b.deliver(5024, 1000); err != nil { // so the last rider fills the first segment
					t.Fatal(err)
				}
			}
			disk := b.fs.Clones()[0].FS
			b.close(t)
			b.fs = disk
			files, at := pieces(t, b.fs)
			if len(files) != 2 || len(at[files[0]]) < 10 || len(at[files[1]]) < 3 {
				t.Fatalf("riders: %v", at)
			}
			c.spoil(t, b.fs, files[0], files[1], at)
			log, _ := newestLog(t, b.fs)
			before := read(t, b.fs, log)
			b.look(t, c.refused)
			if !bytes.Equal(before, read(t, b.fs, log)) {
				t.Error("a look has changed the log")
			}
			for range 2 { // what was found once stays
				lost, refused := b.reopen(t)
				if refused != c.refused || lost != c.lost {
					t.Errorf("refused: %v; %d of what was acknowledged is missing", refused, lost)
				}
			}
		})
	}
}

// look wants what is missing to be found or not by who changes nothing.
func (b *mailbag) look(t *testing.T, want bool) {
	t.Helper()
	over := overlayfs.New(b.fs)
	blobs, err := bloblog.Open("data/messages", bloblog.Options{FS: over, Logger: silent, Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := pebblekv.LayIn(context.Background(), over, "data/index", "data/journal", blobs); err != nil {
		t.Fatal(err)
	}
	if lost, err := pebblekv.LostLogs(over, "data/index", "data/journal"); err != nil || len(lost) > 0 != want {
		t.Errorf("lost: %q, %v", lost, err)
	}
	r, err := pebblekv.ReadJournal(context.Background(), over, "data/journal", "data/index", derivedT, nil)
	if err != nil || r.Whole == want {
		t.Errorf("the journal: %+v, %v", r, err)
	}
	if err := blobs.Close(); err != nil {
		t.Error(err)
	}
}

// reopen reports whether the store is refused, as one that is damaged, or how much is
// missing of what was acknowledged.
func (b *mailbag) reopen(t *testing.T) (lost int, refused bool) {
	t.Helper()
	blobs, err := bloblog.Open("data/messages", bloblog.Options{FS: b.fs, Logger: silent, Manual: true, SegmentBytes: 100_000, RideShare: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := blobs.Close(); err != nil {
			t.Error(err)
		}
	}()
	kv, err := pebblekv.Open("data/index", pebblekv.Options{FS: b.fs, Logger: silent, Journal: "data/journal", Derived: derivedT, Blobs: blobs})
	if err != nil {
		if !errors.Is(err, imap.Corruption) {
			t.Errorf("opened: %v", err)
		}
		return 0, true
	}
	there := contents(t, kv)
	for n := range b.acked {
		if _, ok := there["1 m"+string(binary.BigEndian.AppendUint64(nil, n))]; !ok {
			lost++
		}
	}
	if err := kv.Close(); err != nil {
		t.Error(err)
	}
	return lost, false
}

// TestRideThatFailedIsNotLaidInLater: a store goes on in another log after a ride that
// failed. What may be found of that ride is not laid into the log before.
func TestRideThatFailedIsNotLaidInLater(t *testing.T) {
	b := newMailbag(crashfs.New())
	b.open(t, b.fs)
	deliver := func(n int) {
		t.Helper()
		for range n {
			if err := b.deliver(2000, 700); err != nil {
				t.Fatal(err)
			}
		}
	}
	deliver(3)
	b.fs.Fail(func(op errorfs.Op) error {
		if path.Dir(op.Path) == "data/messages" && crashfs.Syncs(op) {
			return syscall.EIO
		}
		return nil
	})
	if err := b.deliver(2000, 60_000); !errors.Is(err, driver.ErrUnknown) {
		t.Errorf("a commit on a bad disk: %v", err)
	}
	b.fs.Fail(nil)
	before := strings.TrimSpace(string(read(t, b.fs, "data/index/RIDES")))
	if err := b.kv.Reopen(); err != nil {
		t.Fatal(err)
	}
	deliver(3)
	if after := strings.TrimSpace(string(read(t, b.fs, "data/index/RIDES"))); before == after {
		t.Error("the logs have the same name still")
	}
	b.verify(t)
	b.close(t)
	b.look(t, false)
	b.open(t, b.fs)
	b.verify(t)
	b.close(t)
}

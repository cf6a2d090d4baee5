package pebblekv_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// commits makes small commits.
func commits(t *testing.T, kv *pebblekv.KV, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		err := kv.Update(context.Background(), 1, func(tx driver.Txn) error {
			return tx.Set(fmt.Appendf(nil, "k%04d", i), []byte(strings.Repeat("v", 100)))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// killed copies a store at work, as a killed process leaves it: logs have one file
// for index and journal.
func killed(t *testing.T, fs vfs.FS) *vfs.MemFS {
	t.Helper()
	to := vfs.NewMem()
	dir, names := journalFiles(t, fs)
	for _, d := range []string{"data/index", dir} {
		if err := to.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	index, err := fs.List("data/index")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range index {
		write(t, to, "data/index/"+name, read(t, fs, "data/index/"+name))
	}
	for _, name := range names {
		if slices.Contains(index, name) {
			if err := to.Link("data/index/"+name, dir+"/"+name); err != nil {
				t.Fatal(err)
			}
			continue
		}
		write(t, to, dir+"/"+name, read(t, fs, dir+"/"+name))
	}
	return to
}

// newestLog returns the newest log of the index, how it ends, and its path.
func newestLog(t *testing.T, fs vfs.FS) (path string, end int) {
	t.Helper()
	names, err := fs.List("data/index")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range names {
		if strings.HasSuffix(name, ".log") { // the last is the newest
			path = "data/index/" + name
		}
	}
	return path, len(strings.TrimRight(string(read(t, fs, path)), "\x00"))
}

// overwrite changes a file in place: all its names have that.
func overwrite(t *testing.T, fs vfs.FS, path string, at int, data []byte) {
	t.Helper()
	f, err := fs.OpenReadWrite(path, "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(data, int64(at)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// reopen opens a store, wants it to be refused or not, and says what LostLogs found.
func reopen(t *testing.T, fs vfs.FS, refused bool) {
	t.Helper()
	lost, err := pebblekv.LostLogs(fs, "data/index", "data/journal")
	if err != nil {
		t.Fatal(err)
	}
	if refused != (len(lost) > 0) {
		t.Errorf("lost: %q", lost)
	}
	before := journaledLogs(t, fs)
	kv, err := pebblekv.Open("data/index", pebblekv.Options{FS: fs, Logger: silent, Journal: "data/journal", Derived: derivedT})
	if err == nil {
		if err := kv.Close(); err != nil {
			t.Error(err)
		}
	}
	if refused != (imap.KindOf(err) == imap.Corruption) {
		t.Errorf("opened: %v", err)
	}
	if after := journaledLogs(t, fs); refused && !slices.Equal(before, after) {
		t.Errorf("the journal had %v, and has %v", before, after)
	}
}

func journaledLogs(t *testing.T, fs vfs.FS) []string {
	_, names := journalFiles(t, fs)
	return names
}

// TestLogEndRots: one wrong byte anywhere in a log, but in the last commit, keeps a
// store from being opened; the last one's is the end that a crash leaves. So is all
// that a log may end in.
func TestLogEndRots(t *testing.T) {
	fs := vfs.NewMem()
	kv := journaled(t, fs, pebblekv.Options{})
	commits(t, kv, 0, 500)
	crashed := killed(t, fs)
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	path, end := newestLog(t, crashed)
	last := end / (32 << 10) * (32 << 10) // the last block
	if end-last < 2000 || last == 0 {
		t.Fatalf("the log ends at %d", end)
	}
	for _, at := range []int{200, last - 40, last + 40, (last + end) / 2, end - 400} {
		d := killed(t, crashed)
		overwrite(t, d, path, at, []byte{read(t, d, path)[at] ^ 4})
		t.Run(fmt.Sprint("at=", at-last), func(t *testing.T) { reopen(t, d, true) })
	}
	for _, at := range []int{end - 50, end, end + 20} {
		d := killed(t, crashed)
		overwrite(t, d, path, at, []byte("garbage"))
		t.Run(fmt.Sprint("torn=", at-end), func(t *testing.T) { reopen(t, d, false) })
	}
}

// TestLogsAreGone: a log that has what no table has is missed, whichever it is, and
// one whose end only the journal has; one that is needed no more is not.
func TestLogsAreGone(t *testing.T) {
	fs := vfs.NewMem()
	kv := journaled(t, fs, pebblekv.Options{})
	commits(t, kv, 0, 100)
	if err := kv.Close(); err != nil { // what is in the log stays there
		t.Fatal(err)
	}
	path, end := newestLog(t, fs)
	d := killed(t, fs)
	if err := d.Remove(path); err != nil {
		t.Fatal(err)
	}
	reopen(t, d, true)

	d = killed(t, fs)
	replace(t, d, path, read(t, d, path)[:end/2])
	reopen(t, d, true)

	kv = journaled(t, fs, pebblekv.Options{})
	if err := kv.Settle(context.Background()); err != nil {
		t.Fatal(err)
	}
	commits(t, kv, 100, 110)
	crashed := killed(t, fs)
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	reopen(t, killed(t, crashed), false) // the first log is in the journal alone
	newest, _ := newestLog(t, crashed)
	if newest == path {
		t.Fatal("there is no newer log")
	}
	dir, _ := journalFiles(t, crashed)
	write(t, crashed, path, read(t, crashed, dir+path[len("data/index"):]))
	overwrite(t, crashed, path, 200, []byte("garbage"))
	reopen(t, crashed, false)
}

// TestManifestRots: a manifest whose end is damaged names older tables than there were,
// and the logs that had what came later are gone.
func TestManifestRots(t *testing.T) {
	fs := vfs.NewMem()
	kv := journaled(t, fs, pebblekv.Options{})
	commits(t, kv, 0, 100)
	path, size := manifest(t, fs)
	for i := 100; i < 300; i += 100 { // a log goes when the next one is there
		if err := kv.Settle(context.Background()); err != nil {
			t.Fatal(err)
		}
		commits(t, kv, i, i+100)
	}
	crashed := killed(t, fs)
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	overwrite(t, crashed, path, size+10, []byte("garb"))
	reopen(t, crashed, true)
}

// manifest returns the path of the manifest, and how much is in it.
func manifest(t *testing.T, fs vfs.FS) (path string, size int) {
	t.Helper()
	names, err := fs.List("data/index")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, "MANIFEST") {
			path = max(path, "data/index/"+name)
		}
	}
	return path, len(read(t, fs, path))
}

// TestMark: a moment after the last commit something proves that it was on disk.
func TestMark(t *testing.T) {
	fs := vfs.NewMem()
	kv := journaled(t, fs, pebblekv.Options{})
	commits(t, kv, 0, 10)
	kv.MarkLog()
	crashed := killed(t, fs)
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	path, end := newestLog(t, crashed)
	for at, refused := range map[int]bool{end - 60: true, end - 5: false} {
		d := killed(t, crashed)
		overwrite(t, d, path, at, []byte{read(t, d, path)[at] ^ 4})
		reopen(t, d, refused)
	}
}

// TestLogGoneUnderAllNames: the journal's folder still says that there was one.
func TestLogGoneUnderAllNames(t *testing.T) {
	fs := vfs.NewMem()
	kv := journaled(t, fs, pebblekv.Options{})
	commits(t, kv, 0, 10)
	kv.MarkLog()
	crashed := killed(t, fs)
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	path, _ := newestLog(t, crashed)
	dir, _ := journalFiles(t, crashed)
	for _, name := range []string{path, dir + path[len("data/index"):]} {
		if err := crashed.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	reopen(t, crashed, true)
}

// TestMarkProvesAll: what Pebble says of how far a log is on disk falls behind by parts
// of blocks. A mark says it exactly.
func TestMarkProvesAll(t *testing.T) {
	fs := vfs.NewMem()
	kv := journaled(t, fs, pebblekv.Options{})
	for i := range 20 {
		err := kv.Update(context.Background(), 1, func(tx driver.Txn) error {
			return tx.Set(fmt.Appendf(nil, "k%04d", i), []byte(strings.Repeat("v", 20_000)))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	kv.MarkLog()
	crashed := killed(t, fs)
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	path, end := newestLog(t, crashed)
	for at := end - 100; at > 0; at -= 30_000 {
		d := killed(t, crashed)
		overwrite(t, d, path, at, []byte{read(t, d, path)[at] ^ 4})
		t.Run(fmt.Sprint("at=", at-end), func(t *testing.T) { reopen(t, d, true) })
	}
}

// TestLogIsOverwritten: what has become of a whole log shows, since a mark is noted
// beside it, too.
func TestLogIsOverwritten(t *testing.T) {
	fs := vfs.NewMem()
	kv := journaled(t, fs, pebblekv.Options{})
	commits(t, kv, 0, 100)
	kv.MarkLog()
	commits(t, kv, 100, 102)
	crashed := killed(t, fs)
	if err := kv.Settle(context.Background()); err != nil {
		t.Fatal(err)
	}
	settled := killed(t, fs)
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	reopen(t, killed(t, crashed), false)
	reopen(t, settled, false)
	path, end := newestLog(t, crashed)
	for _, text := range [][]byte{make([]byte, end), make([]byte, 100), []byte("garbage")} {
		d := killed(t, crashed)
		overwrite(t, d, path, 0, text)
		reopen(t, d, true)
		r, err := pebblekv.ReadJournal(context.Background(), d, "data/journal", "data/index", derivedT, nil)
		if err != nil || r.Whole && len(text) == end { // the head has marks only
			t.Errorf("the journal: %+v, %v", r, err)
		}
	}
	d := killed(t, crashed)
	overwrite(t, d, path, end/2, make([]byte, end))
	reopen(t, d, true)
}

// TestMarksEnd: a store at rest writes nothing.
func TestMarksEnd(t *testing.T) {
	fs := vfs.NewMem()
	kv := journaled(t, fs, pebblekv.Options{})
	defer kv.Close()
	commits(t, kv, 0, 10)
	if !kv.MarkIsDue() {
		t.Error("after a commit none is due")
	}
	kv.MarkLog()
	if kv.MarkIsDue() {
		t.Error("after a mark another one is due")
	}
}

package bloblog_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

func mustKeep(t testing.TB, s *bloblog.Store, a driver.Account, data []byte) driver.Ref {
	t.Helper()
	ref, w, err := write(s, a, data)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.Release()
	return ref
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantBytes(t testing.TB, s *bloblog.Store, ref driver.Ref, want []byte) {
	t.Helper()
	if got, err := readAll(s, 1, ref); err != nil || !bytes.Equal(got, want) {
		t.Errorf("blob %#x: %d bytes, %v", ref, len(got), err)
	}
}

// TestNumbersAreNeverUsedTwice empties the store and opens it again and again:
// tidying up must not make it forget which Refs it has given out.
func TestNumbersAreNeverUsedTwice(t *testing.T) {
	fs, seen := vfs.NewMem(), map[driver.Ref]bool{}
	for round := range 12 {
		s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
		for range 3 {
			ref := mustKeep(t, s, 1, []byte("gone soon"))
			if seen[ref] {
				t.Errorf("round %d: ref %#x was given out before", round, ref)
			}
			seen[ref] = true
			must(t, s.Delete(context.Background(), 1, []driver.Ref{ref}))
		}
		must(t, s.Close())
		s = open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
		must(t, s.Tidy(context.Background()))
		must(t, s.Close())
	}
	if names, _ := fs.List("blobs"); len(names) > 6 {
		t.Errorf("an empty store has %d files: %v", len(names), names)
	}
}

// TestFailedSync: a blob that a failed sync has lost must not be acknowledged
// by a later sync that works, and the store recovers when its writer is gone.
func TestFailedSync(t *testing.T) {
	fs := crashfs.New()
	s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
	defer s.Close()
	before := mustKeep(t, s, 1, []byte("before"))

	_, first, err := write(s, 1, []byte("first"))
	must(t, err)
	_, second, err := write(s, 1, text(2, 400_000))
	must(t, err)
	_, third, err := write(s, 1, []byte("third"))
	must(t, err)
	fs.Fail(crashfs.Nth(1, 2, syscall.EIO, crashfs.Syncs))
	if err := s.Sync(context.Background()); !errors.Is(err, imap.Unavailable) {
		t.Errorf("a failed sync gave %v", err)
	}
	fs.Fail(nil)
	for _, w := range []driver.Writer{first, second, third} {
		if err := s.Sync(context.Background()); !errors.Is(err, imap.Unavailable) {
			t.Errorf("while a lost blob has a writer, Sync gave %v", err)
		}
		w.Release()
	}
	must(t, s.Sync(context.Background()))
	after := mustKeep(t, s, 1, []byte("after"))
	wantBytes(t, s, before, []byte("before"))
	wantBytes(t, s, after, []byte("after"))
}

// TestSpaceComesBack deletes most of a store: the waste stays within bounds,
// what lives is where it was for its readers, also after a restart.
func TestSpaceComesBack(t *testing.T) {
	fs := vfs.NewMem()
	opts := bloblog.Options{FS: fs, Manual: true, SegmentBytes: 50_000, MaxWaste: 0.5}
	s := open(t, "blobs", opts)
	kept := map[driver.Ref][]byte{}
	var gone []driver.Ref
	for i := range 400 {
		data := text(i, 100+i*20)
		ref := mustKeep(t, s, 1, data)
		if i%10 == 0 {
			kept[ref] = data
		} else {
			gone = append(gone, ref)
		}
	}
	must(t, s.Tidy(context.Background()))
	full := s.Stats()
	reader, err := s.Open(context.Background(), 1, gone[0])
	must(t, err)
	must(t, s.Delete(context.Background(), 1, gone))
	must(t, s.Tidy(context.Background()))
	must(t, reader.Close())

	st := s.Stats()
	if st.Bytes > full.Bytes/3 || st.Moved == 0 || st.Removed == 0 {
		t.Errorf("of %d bytes a tenth is alive; %d are left (%+v)", full.Bytes, st.Bytes, st)
	}
	for round := range 4 {
		for ref, data := range kept {
			wantBytes(t, s, ref, data)
		}
		for _, ref := range gone {
			if _, err := readAll(s, 1, ref); !errors.Is(err, imap.NotFound) {
				t.Fatalf("a deleted blob gave %v", err)
			}
		}
		must(t, s.Close())
		s = open(t, "blobs", opts)
		if round == 2 { // what was moved once is moved again
			for i, ref := range sorted(kept) {
				if i%4 != 0 {
					must(t, s.Delete(context.Background(), 1, []driver.Ref{ref}))
					delete(kept, ref)
					gone = append(gone, ref)
				}
			}
			must(t, s.Tidy(context.Background()))
		}
	}
	must(t, s.Close())
}

func sorted(m map[driver.Ref][]byte) []driver.Ref { return (&ledger{kept: m}).refs() }

// TestReaderKeepsItsSegment reads a long blob while its segment is emptied.
func TestReaderKeepsItsSegment(t *testing.T) {
	fs := vfs.NewMem()
	fs.UseWindowsSemantics(true) // removing an open file is an error
	s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true, SegmentBytes: 1000})
	data := text(1, 300_000)
	ref := mustKeep(t, s, 1, data)
	mustKeep(t, s, 1, text(2, 5000))
	must(t, s.Tidy(context.Background()))
	b, err := s.Open(context.Background(), 1, ref)
	must(t, err)
	must(t, s.Delete(context.Background(), 1, []driver.Ref{ref}))
	must(t, s.Tidy(context.Background()))
	if s.Stats().Removed == 0 {
		t.Error("nothing was tidied up: the test proves nothing")
	}
	got, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("the reader got %d bytes, %v", len(got), err)
	}
	files, _ := fs.List("blobs")
	must(t, b.Close())
	if left, _ := fs.List("blobs"); len(left) != len(files)-1 {
		t.Errorf("after the last reader there are the files %v, before %v", left, files)
	}
	must(t, s.Close())
}

// TestDeletesAreRemembered: after a restart, space is taken back without a sweep.
func TestDeletesAreRemembered(t *testing.T) {
	fs := vfs.NewMem()
	opts := bloblog.Options{FS: fs, Manual: true, SegmentBytes: 10_000}
	s := open(t, "blobs", opts)
	var refs []driver.Ref
	for i := range 100 {
		refs = append(refs, mustKeep(t, s, 1, text(i, 900)))
	}
	must(t, s.Delete(context.Background(), 1, refs[:80]))
	dead := s.Stats().DeadBytes
	must(t, s.Close())
	s = open(t, "blobs", opts)
	if got := s.Stats().DeadBytes; got != dead || got == 0 {
		t.Errorf("after the restart %d bytes are known to be dead, before %d", got, dead)
	}
	must(t, s.Tidy(context.Background()))
	if got := s.Stats().DeadBytes; got > dead/4 {
		t.Errorf("after tidying up %d bytes are dead", got)
	}
	for i, ref := range refs[80:] {
		wantBytes(t, s, ref, text(80+i, 900))
	}
	must(t, s.Close())
}

// damage changes one byte at the place of needle, in the last file that has it.
func damage(t testing.TB, fs vfs.FS, needle []byte, offset int) {
	t.Helper()
	names, err := fs.List("blobs")
	must(t, err)
	slices.Sort(names)
	for _, name := range slices.Backward(names) {
		f, err := fs.OpenReadWrite("blobs/"+name, "test")
		must(t, err)
		info, err := f.Stat()
		must(t, err)
		p := make([]byte, info.Size())
		if _, err := f.ReadAt(p, 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if i := bytes.LastIndex(p, needle); i >= 0 {
			p[i+offset] ^= 1
			_, err := f.WriteAt(p[i+offset:i+offset+1], int64(i+offset))
			must(t, err)
			must(t, f.Close())
			return
		}
		must(t, f.Close())
	}
	t.Fatal("nothing to damage")
}

func TestDamageIsFound(t *testing.T) {
	short, long := []byte(strings.Repeat("short ", 200)), text(7, 500_000)
	other := []byte("another blob in the same segment")
	for name, tc := range map[string]struct {
		needle []byte
		offset int
		victim []byte
	}{
		"content of a short blob": {short, 100, short},
		"last byte of a short":    {short, len(short) - 1, short},
		"meta of a short blob":    {append(bytes.Clone(short), "meta"...), len(short) + 1, short},
		"header of a short blob":  {short, -30, short},
		"content of a long blob":  {long, 400_000, long},
		"header of a long blob":   {long, -20, long},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
			refs := map[string]driver.Ref{}
			for _, data := range [][]byte{other, short, long} {
				refs[string(data)] = mustKeep(t, s, 1, data)
			}
			must(t, s.Close())
			damage(t, fs, tc.needle, tc.offset)
			s = open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
			if _, err := readAll(s, 1, refs[string(tc.victim)]); !errors.Is(err, imap.Corruption) {
				t.Errorf("a damaged blob gave %v", err)
			}
			wantBytes(t, s, refs[string(other)], other)
			_, _ = readAll(s, 1, refs[string(tc.victim)]) // once more
			if n := s.Stats().Damaged; n != 1 {
				t.Errorf("one damaged blob, read twice, is counted as %d", n)
			}
			must(t, s.Close())
		})
	}
}

// TestDamagedIndex: a segment's index is rebuilt from the records.
func TestDamagedIndex(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
	ref := mustKeep(t, s, 1, []byte("one"))
	mustKeep(t, s, 1, []byte("two"))
	must(t, s.Close())
	damage(t, fs, []byte("RkIndex"), -4)
	s = open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
	defer s.Close()
	n := 0
	must(t, s.List(context.Background(), 1, func(driver.Ref, driver.BlobInfo) error { n++; return nil }))
	if n != 2 {
		t.Errorf("%d blobs are listed, want 2", n)
	}
	wantBytes(t, s, ref, []byte("one"))
}

// TestForgedRecord stores a message that looks like a part of the store and
// then loses the end of the file: the forgery must not become a blob.
func TestForgedRecord(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
	mustKeep(t, s, 1, text(1, 1000))
	must(t, s.Close())
	f, err := fs.Open("blobs/00000001.seg")
	must(t, err)
	forged, err := io.ReadAll(f)
	must(t, err)
	must(t, f.Close())

	crash := crashfs.New()
	s = open(t, "blobs", bloblog.Options{FS: crash, Manual: true})
	w, err := s.Create(context.Background(), 1, -1)
	must(t, err)
	for range 1000 { // long: it goes into a lane without a header yet
		_, err = w.Write(forged)
		must(t, err)
	}
	must(t, s.Sync(context.Background()))
	after := crash.Clones()[2].FS
	w.Release()
	must(t, s.Close())

	s = open(t, "blobs", bloblog.Options{FS: after, Manual: true})
	must(t, s.List(context.Background(), 1, func(ref driver.Ref, _ driver.BlobInfo) error {
		t.Errorf("blob %#x has come out of a message", ref)
		return nil
	}))
	must(t, s.Close())
}

// TestOpenFiles reads here and there in a store of many segments: few files stay
// open, and those are the ones that were used last.
func TestOpenFiles(t *testing.T) {
	mem := vfs.NewMem()
	opts := bloblog.Options{FS: mem, Manual: true, SegmentBytes: 1, OpenFiles: 5}
	s := open(t, "blobs", opts)
	var refs []driver.Ref
	for i := range 50 {
		refs = append(refs, mustKeep(t, s, 1, text(i, 1000)))
	}
	must(t, s.Tidy(context.Background()))
	must(t, s.Close())
	fs := counting(mem)
	opts.FS = fs
	s = open(t, "blobs", opts)
	for i, ref := range refs {
		wantBytes(t, s, ref, text(i, 1000))
		if n := fs.open.Load(); n > 5 {
			t.Fatalf("%d files are open", n)
		}
	}
	before := fs.opened.Load()
	for range 3 {
		for i := 45; i < 50; i++ {
			wantBytes(t, s, refs[i], text(i, 1000))
		}
	}
	if n := fs.opened.Load() - before; n != 0 {
		t.Errorf("%d files that were open were opened again", n)
	}
	must(t, s.Close())
	if n := fs.open.Load(); n != 0 {
		t.Errorf("%d files are open after the end", n)
	}
}

// TestDeletedIsKnown: what was deleted is known to have been, also after a restart.
func TestDeletedIsKnown(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
	gone, stays := mustKeep(t, s, 1, []byte("gone")), mustKeep(t, s, 1, []byte("stays"))
	must(t, s.Delete(context.Background(), 1, []driver.Ref{gone}))
	for range 2 {
		if !s.Deleted(gone) || s.Deleted(stays) || s.Deleted(gone+1) {
			t.Errorf("deleted: %v, another %v, none %v", s.Deleted(gone), s.Deleted(stays), s.Deleted(gone+1))
		}
		must(t, s.Close())
		s = open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
	}
	must(t, s.Close())
}

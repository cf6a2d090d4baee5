package bloblog_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// staleCopies makes a store in which a segment was emptied, and then gives it
// the segment's file back, as a crash may: there are two copies of what lives,
// the newer of them in a segment that is not sealed.
func staleCopies(t *testing.T) (fs *vfs.MemFS, live []driver.Ref, data [][]byte) {
	t.Helper()
	mem := crashfs.New()
	s := open(t, "blobs", bloblog.Options{FS: mem, Manual: true, SegmentBytes: 20_000, MaxWaste: 0.3})
	var refs []driver.Ref
	for i := range 4 {
		data = append(data, text(i, 6000))
		refs = append(refs, mustKeep(t, s, 1, data[i]))
	}
	mustKeep(t, s, 1, []byte("so that the first segment is not the newest"))
	must(t, s.Tidy(context.Background()))
	fs = vfs.NewMem()
	copyTree(t, mem, fs, "blobs")
	must(t, s.Delete(context.Background(), 1, refs[:2]))
	must(t, s.Tidy(context.Background()))
	if s.Stats().Moved != 2 {
		t.Fatalf("%d blobs have moved, want 2", s.Stats().Moved)
	}
	copyTree(t, mem, fs, "blobs") // over the old one, whose first segment stays
	must(t, s.Close())
	return fs, refs[2:], data[2:]
}

func copyTree(t *testing.T, from, to vfs.FS, dir string) {
	t.Helper()
	must(t, to.MkdirAll(dir, 0o700))
	names, err := from.List(dir)
	must(t, err)
	for _, name := range names {
		must(t, vfs.CopyAcrossFS(from, dir+"/"+name, to, dir+"/"+name))
	}
}

func TestStaleCopyDoesNotComeBack(t *testing.T) {
	fs, live, data := staleCopies(t)
	opts := bloblog.Options{FS: fs, Manual: true, SegmentBytes: 20_000, MaxWaste: 0.01}
	s := open(t, "blobs", opts)
	wantBytes(t, s, live[0], data[0])
	wantBytes(t, s, live[1], data[1])
	must(t, s.Delete(context.Background(), 1, live[:1]))
	for range 3 {
		must(t, s.Tidy(context.Background()))
		if _, err := readAll(s, 1, live[0]); !errors.Is(err, imap.NotFound) {
			t.Errorf("a deleted blob gave %v", err)
		}
		wantBytes(t, s, live[1], data[1])
		must(t, s.Close())
		s = open(t, "blobs", opts)
	}
	must(t, s.Close())
}

func TestTornCopyDoesNotCount(t *testing.T) {
	fs, live, data := staleCopies(t)
	damage(t, fs, data[0], 3000) // in the newer copy
	s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true, SegmentBytes: 20_000})
	wantBytes(t, s, live[0], data[0])
	wantBytes(t, s, live[1], data[1])
	must(t, s.Tidy(context.Background()))
	wantBytes(t, s, live[0], data[0])
	must(t, s.Close())
}

// TestLostSegment: when the newest segment is gone, its number is not used again,
// so that nothing new is taken for what was deleted in it.
func TestLostSegment(t *testing.T) {
	fs := vfs.NewMem()
	opts := bloblog.Options{FS: fs, Manual: true, Logger: slog.New(slog.DiscardHandler)}
	s, err := bloblog.Open("blobs", opts)
	if err != nil {
		t.Fatal(err)
	}
	add := func() driver.Ref {
		w, err := s.Create(t.Context(), 1, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Release()
		if _, err := w.Write([]byte("text")); err != nil {
			t.Fatal(err)
		}
		ref, err := w.Finish(nil)
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	old := add()
	if err := errors.Join(s.Delete(t.Context(), 1, []driver.Ref{old}), s.Close()); err != nil {
		t.Fatal(err)
	}
	if err := fs.Remove("blobs/00000001.seg"); err != nil {
		t.Fatal(err)
	}
	if s, err = bloblog.Open("blobs", opts); err != nil {
		t.Fatal(err)
	}
	b, err := s.Open(t.Context(), 1, add())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
}

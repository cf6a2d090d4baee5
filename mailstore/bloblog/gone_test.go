package bloblog_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// segmentsIn lists the segments in a folder with this ending.
func segmentsIn(t *testing.T, dir, ending string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "????????."+ending))
	must(t, err)
	return list
}

// looked is Look.
func looked(t *testing.T, s *bloblog.Store) []bloblog.Missing {
	t.Helper()
	list, err := s.Look(context.Background(), true)
	must(t, err)
	return list
}

// wantSaved says that a look found this many files missing, and saved all.
func wantSaved(t *testing.T, list []bloblog.Missing, n int) {
	t.Helper()
	if len(list) != n {
		t.Errorf("a look found %+v, want %d", list, n)
	}
	for _, m := range list {
		if !m.Saved || m.Err != nil {
			t.Errorf("not saved: %+v", m)
		}
	}
}

// wantAll says that a store has all of this, now and when it is opened again.
func wantAll(t *testing.T, dir string, s *bloblog.Store, refs []driver.Ref, data [][]byte) {
	t.Helper()
	for range 2 {
		if list := looked(t, s); len(list) > 0 {
			t.Errorf("a look found %+v", list)
		}
		for i, ref := range refs {
			wantBytes(t, s, ref, data[i])
		}
		must(t, s.Close())
		s = open(t, dir, bloblog.Options{Manual: true})
	}
	must(t, s.Close())
}

// TestGoneWhileWritten: the segments that are being written are removed, or replaced by
// others, or their folder is, and what was stored before and afterwards is there.
func TestGoneWhileWritten(t *testing.T) {
	for name, take := range map[string]func(t *testing.T, dir string){
		"removed": func(t *testing.T, dir string) {
			for _, path := range segmentsIn(t, dir, "log") {
				must(t, os.Remove(path))
			}
		},
		"replaced": func(t *testing.T, dir string) {
			for _, path := range segmentsIn(t, dir, "log") {
				must(t, os.WriteFile(path+"x", []byte("something else"), 0o600))
				must(t, os.Rename(path+"x", path))
			}
		},
		"the folder removed": func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) },
		"the folder moved":   func(t *testing.T, dir string) { must(t, os.Rename(dir, dir+".old")) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "blobs")
			s := open(t, dir, bloblog.Options{Manual: true})
			var refs []driver.Ref
			var data [][]byte
			add := func(n int) {
				t.Helper()
				data = append(data, text(len(data), n))
				refs = append(refs, mustKeep(t, s, 1, data[len(data)-1]))
			}
			add(6000)
			add(400_000) // in a lane of its own
			if list := looked(t, s); len(list) > 0 {
				t.Fatalf("before, a look found %+v", list)
			}
			take(t, dir)
			add(7000)
			add(500_000)
			list := looked(t, s)
			if strings.HasPrefix(name, "the folder") {
				wantSaved(t, list, 3) // the list of deleted blobs, too
			} else {
				wantSaved(t, list, 2)
			}
			for _, m := range list {
				if kept := m.Other != ""; kept != (name == "replaced") {
					t.Errorf("what was there is kept as %q", m.Other)
				} else if kept {
					got, err := os.ReadFile(filepath.Join(dir, m.Other))
					if err != nil || string(got) != "something else" {
						t.Errorf("what was there has %q, %v", got, err)
					}
				}
			}
			add(8000)
			add(600_000)
			if n := len(segmentsIn(t, dir, "log")); n != 4 {
				t.Errorf("%d segments are there, want two that were saved and two new ones", n)
			}
			must(t, s.Tidy(context.Background()))
			if n := len(segmentsIn(t, dir, "seg")); n != 2 {
				t.Errorf("%d segments were sealed, want those that were saved", n)
			}
			wantAll(t, dir, s, refs, data)
		})
	}
}

// TestGoneUnderAnUpload: who is writing a long blob to a file that is gone is told so;
// what is in the file already is saved at once.
func TestGoneUnderAnUpload(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir, bloblog.Options{Manual: true})
	data := [][]byte{text(1, 400_000), text(2, 300_000)}
	refs := []driver.Ref{mustKeep(t, s, 1, data[0])}
	w, err := s.Create(ctx, 1, -1)
	must(t, err)
	if _, err := w.Write(text(3, 700_000)); err != nil {
		t.Fatal(err)
	}
	for _, path := range segmentsIn(t, dir, "log") {
		must(t, os.Remove(path))
	}
	wantSaved(t, looked(t, s), 1)
	_, err = w.Write(text(3, 300_000))
	must(t, err)
	if _, err = w.Finish(nil); imap.KindOf(err) != imap.Unavailable {
		t.Errorf("the end of the upload gave %v", err)
	}
	w.Release()
	must(t, s.Sync(ctx))
	refs = append(refs, mustKeep(t, s, 1, data[1]))
	wantAll(t, dir, s, refs, data)
}

// TestGoneSealed: of sealed segments those are saved that are open; others are named
// until they are put back.
func TestGoneSealed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, bloblog.Options{Manual: true, SegmentBytes: 1, OpenFiles: 1})
	var refs []driver.Ref
	var data [][]byte
	for i := range 3 {
		data = append(data, text(i, 5000))
		refs = append(refs, mustKeep(t, s, 1, data[i]))
	}
	must(t, s.Tidy(context.Background()))
	wantBytes(t, s, refs[1], data[1]) // stays open
	aside := t.TempDir()
	paths := segmentsIn(t, dir, "seg")
	if len(paths) != 3 {
		t.Fatalf("segments %v", paths)
	}
	for _, path := range paths {
		must(t, os.Rename(path, filepath.Join(aside, filepath.Base(path))))
	}
	saved := 0
	list := looked(t, s)
	for _, m := range list {
		if m.Saved {
			saved++
		} else if m.Err == nil {
			t.Errorf("%+v", m)
		}
	}
	if len(list) != 3 || saved != 1 {
		t.Fatalf("a look found %+v", list)
	}
	wantBytes(t, s, refs[1], data[1])
	if s.Holds(refs[0]) || !s.Holds(refs[1]) || s.Holds(refs[2]) {
		t.Error("nobody is told which blobs are gone")
	}
	if _, err := readAll(s, 1, refs[0]); err == nil {
		t.Error("a blob that is gone was read")
	}
	refs, data = append(refs, 0), append(data, text(9, 9000))
	refs[3] = mustKeep(t, s, 1, data[3])
	must(t, s.Tidy(context.Background()))
	list, err := s.Look(context.Background(), false)
	if must(t, err); len(list) != 2 {
		t.Errorf("the next look found %+v", list)
	}
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			must(t, os.Rename(filepath.Join(aside, filepath.Base(path)), path))
		}
	}
	wantAll(t, dir, s, refs, data)
}

// TestGoneBeforeItsSeal: another's file is never given the name of a sealed segment.
func TestGoneBeforeItsSeal(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, bloblog.Options{Manual: true, SegmentBytes: 1})
	data := [][]byte{text(1, 5000)}
	refs := []driver.Ref{mustKeep(t, s, 1, data[0])}
	path := segmentsIn(t, dir, "log")[0]
	must(t, os.Remove(path))
	must(t, os.WriteFile(path, []byte("something else"), 0o600))
	if err := s.Tidy(context.Background()); err == nil {
		t.Error("a segment was sealed that is gone")
	}
	wantSaved(t, looked(t, s), 1)
	must(t, s.Tidy(context.Background()))
	if n := len(segmentsIn(t, dir, "seg")); n != 1 {
		t.Errorf("%d segments are sealed", n)
	}
	wantAll(t, dir, s, refs, data)
}

// TestGoneDeadLog: what was deleted stays so when the list of it is removed.
func TestGoneDeadLog(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir, bloblog.Options{Manual: true})
	data := [][]byte{text(1, 5000), text(2, 5000)}
	refs := []driver.Ref{mustKeep(t, s, 1, data[0]), mustKeep(t, s, 1, data[1])}
	must(t, s.Delete(ctx, 1, refs[:1]))
	must(t, os.Remove(filepath.Join(dir, "deleted")))
	wantSaved(t, looked(t, s), 1)
	must(t, s.Close())
	s = open(t, dir, bloblog.Options{Manual: true})
	if _, err := readAll(s, 1, refs[0]); !errors.Is(err, imap.NotFound) {
		t.Errorf("what was deleted gave %v", err)
	}
	wantAll(t, dir, s, refs[1:], data[1:])
}

// TestGoneOnAFullDisk: what cannot be saved for now stays open, and is saved later.
func TestGoneOnAFullDisk(t *testing.T) {
	fs := crashfs.New()
	s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true, OpenFiles: 2, SegmentBytes: 20_000})
	var refs []driver.Ref
	var data [][]byte
	for i := range 8 {
		data = append(data, text(i, 9000))
		refs = append(refs, mustKeep(t, s, 1, data[i]))
	}
	must(t, s.Tidy(context.Background()))
	wantBytes(t, s, refs[0], data[0]) // its segment stays open
	must(t, fs.Remove("blobs/00000001.seg"))
	full := true
	fs.Fail(func(op errorfs.Op) error {
		if full && strings.HasSuffix(op.Path, ".new") && op.Kind == errorfs.OpFileWriteAt {
			return syscall.ENOSPC
		}
		return nil
	})
	for range 2 {
		list := looked(t, s)
		if len(list) != 1 || list[0].Saved || !errors.Is(list[0].Err, syscall.ENOSPC) {
			t.Fatalf("a look found %+v", list)
		}
		for i, ref := range refs {
			wantBytes(t, s, ref, data[i]) // of other segments: more than may be open
		}
	}
	full = false
	list, err := s.Look(context.Background(), false)
	must(t, err)
	wantSaved(t, list, 1)
	must(t, s.Close())
	f, err := fs.Create("blobs/00000001.seg.new", "test") // as a crash may leave it
	must(t, err)
	must(t, f.Close())
	s = open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
	if _, err := fs.Stat("blobs/00000001.seg.new"); err == nil {
		t.Error("a copy that was interrupted stays")
	}
	for i, ref := range refs {
		wantBytes(t, s, ref, data[i])
	}
	must(t, s.Close())
}

// TestGoneAtWork: segments vanish again and again while many store, read and delete,
// and others are sealed and emptied: whatever was stored is there in the end.
func TestGoneAtWork(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir, bloblog.Options{SegmentBytes: 100_000, MaxWaste: 0.2})
	var mu sync.Mutex
	kept := make(map[driver.Ref][]byte)
	var writers sync.WaitGroup
	for n := range 4 {
		writers.Go(func() {
			var own []driver.Ref
			for i := range 60 {
				size := 3000
				if i%10 == 0 {
					size = 300_000
				}
				data := text(n*1000+i, size)
				ref, w, err := write(s, driver.Account(1), data)
				if err == nil {
					err = s.Sync(ctx)
				}
				if w != nil {
					w.Release()
				}
				if err != nil {
					if imap.KindOf(err) != imap.Unavailable {
						t.Error(err)
					}
					continue
				}
				mu.Lock()
				kept[ref] = data
				mu.Unlock()
				if own = append(own, ref); len(own)%3 == 0 {
					mu.Lock()
					delete(kept, own[0])
					mu.Unlock()
					if err := s.Delete(ctx, 1, own[:1]); err != nil {
						t.Error(err)
					}
					own = own[1:]
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		writers.Wait()
	}()
	saved := 0
	for end := false; !end; {
		select {
		case <-done:
			end = true
		default:
		}
		for _, path := range segmentsIn(t, dir, "log") {
			_ = os.Remove(path) // it may be sealed by now
		}
		list := looked(t, s)
		for _, m := range list {
			if m.Saved {
				saved++
			} else {
				t.Errorf("%+v", m)
			}
		}
	}
	t.Logf("%d files were saved", saved)
	must(t, s.Close())
	s = open(t, dir, bloblog.Options{Manual: true})
	for ref, want := range kept {
		if got, err := readAll(s, 1, ref); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%#x: %d bytes of %d, %v", ref, len(got), len(want), err)
		}
	}
	must(t, s.Close())
}

package bloblog_test

import (
	"context"
	"path"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// wasteful makes a folder of n blobs of 6 kB in segments of 256 kB, of which two
// out of three are to be deleted.
func wasteful(t *testing.T, fs vfs.FS, n int) (kept, dead []driver.Ref) {
	t.Helper()
	s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true, SegmentBytes: 256 << 10})
	for i := range n {
		ref, w, err := write(s, 1, text(i, 6000))
		must(t, err)
		w.Release()
		if i%3 == 0 {
			kept = append(kept, ref)
		} else {
			dead = append(dead, ref)
		}
	}
	must(t, s.Sync(context.Background()))
	must(t, s.Close())
	return kept, dead
}

// TestTidyHoldsNobodyUp takes back space while others store and read, on a clock
// that stands still while anybody works: what they do takes no time at all, and no
// more is copied than TidyRate says. When they have gone the rest takes no time.
func TestTidyHoldsNobodyUp(t *testing.T) {
	fs := vfs.NewMem()
	kept, dead := wasteful(t, fs, 2400)
	synctest.Test(t, func(t *testing.T) {
		const rate, step = 1 << 20, 1 << 20
		s := open(t, "blobs", bloblog.Options{FS: fs, SegmentBytes: 256 << 10, TidyRate: rate})
		must(t, s.Delete(context.Background(), 1, dead[:1200]))
		begin, worked := time.Now(), time.Duration(0)
		var copied int64
		for i := range 500 {
			begin := time.Now()
			must(t, putSynced(s, text(i, 100)))
			wantBytes(t, s, kept[i], text(3*i, 6000))
			worked += time.Since(begin)
			time.Sleep(10 * time.Millisecond)
			copied = s.Stats().MovedBytes
		}
		if worked != 0 {
			t.Errorf("others have waited for %v", worked)
		}
		if most := int64(rate*time.Since(begin).Seconds()) + 2*step; copied > most || copied < 2*step {
			t.Errorf("%d bytes were copied in %v", copied, time.Since(begin))
		}
		must(t, s.Delete(context.Background(), 1, dead[1200:]))
		time.Sleep(2 * time.Second) // a rest or two that have begun
		st := s.Stats()
		if st.DeadBytes > st.Bytes/2 {
			t.Errorf("with nobody about %d of %d bytes are dead still", st.DeadBytes, st.Bytes)
		}
		for i, ref := range kept {
			wantBytes(t, s, ref, text(3*i, 6000))
		}
		must(t, s.Close())
	})
}

// TestNewestIsEmptied: what was in the newest segment gives its space back as well,
// and numbers are not used twice for all that.
func TestNewestIsEmptied(t *testing.T) {
	fs := vfs.NewMem()
	opts := bloblog.Options{FS: fs, Manual: true, SegmentBytes: 1 << 20}
	s := open(t, "blobs", opts)
	var refs []driver.Ref
	given := map[driver.Ref]bool{}
	put := func(i int) {
		t.Helper()
		ref, w, err := write(s, 1, text(i, 6000))
		must(t, err)
		w.Release()
		if given[ref] {
			t.Errorf("%v was given out twice", ref)
		}
		given[ref] = true
		refs = append(refs, ref)
	}
	for round := range 3 {
		for i := range 100 {
			put(i)
		}
		must(t, s.Delete(t.Context(), 1, refs[round:])) // all but one of this round
		refs = refs[:round]
		put(round)
		must(t, s.Tidy(t.Context()))
		if st := s.Stats(); st.Bytes > 200<<10 {
			t.Errorf("round %d: %d bytes, of which %d are dead", round, st.Bytes, st.DeadBytes)
		}
		if round == 1 {
			must(t, s.Sync(t.Context()))
			must(t, s.Close())
			s = open(t, "blobs", opts)
		}
	}
	for i, ref := range refs {
		wantBytes(t, s, ref, text(i, 6000))
	}
	must(t, s.Close())
}

// TestTidyGoesInSteps counts what is written between two syncs: a disk that is
// full of copies would make others wait for theirs.
func TestTidyGoesInSteps(t *testing.T) {
	fs := crashfs.New()
	opts := bloblog.Options{FS: fs, Manual: true, SegmentBytes: 4 << 20}
	s := open(t, "blobs", opts)
	var dead []driver.Ref
	for i := range 2400 {
		ref, w, err := write(s, 1, text(i%10, 6000))
		must(t, err)
		w.Release()
		if i%3 != 0 {
			dead = append(dead, ref)
		}
	}
	must(t, s.Close())
	s = open(t, "blobs", opts)
	must(t, s.Delete(context.Background(), 1, dead))
	var mu sync.Mutex
	writes, most, syncs := 0, 0, 0
	fs.Fail(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case path.Ext(op.Path) != ".log":
		case op.Kind == errorfs.OpFileWriteAt: // a record each
			writes++
			most = max(most, writes)
		case op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSync:
			writes = 0
			syncs++
		}
		return nil
	})
	must(t, s.Tidy(context.Background()))
	fs.Fail(nil)
	if st := s.Stats(); st.Moved < 600 || st.ReclaimedBytes < 8<<20 {
		t.Errorf("not much has happened: %+v", st)
	}
	if most > (1<<20)/6000+3 || syncs < 3 {
		t.Errorf("%d records between two syncs, %d syncs", most, syncs)
	}
	must(t, s.Close())
}

// TestBackupBetweenSteps: what waits for the tidying to stop, as a backup does,
// does not wait until all of it is done.
func TestBackupBetweenSteps(t *testing.T) {
	fs := vfs.NewMem()
	kept, dead := wasteful(t, fs, 2400)
	synctest.Test(t, func(t *testing.T) {
		s := open(t, "blobs", bloblog.Options{FS: fs, SegmentBytes: 256 << 10, TidyRate: 100_000})
		must(t, s.Delete(context.Background(), 1, dead[:1000]))
		wantBytes(t, s, kept[0], text(0, 6000))
		synctest.Wait() // it rests
		begin, segments := time.Now(), s.Stats().Segments
		hold, err := s.Hold(context.Background(), func() error { return nil })
		must(t, err)
		if d := time.Since(begin); d != 0 || len(hold.Files) != segments {
			t.Errorf("the Hold had to wait for %v, and has %d of %d files", d, len(hold.Files), segments)
		}
		must(t, s.Tidy(context.Background()))
		hold.Release()
		must(t, s.Close())
	})
}

// TestSpareSegment: who stores messages does not wait for new segments to be
// made; making one is held up here until the message is stored.
func TestSpareSegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := crashfs.New()
		s := open(t, "blobs", bloblog.Options{FS: fs, SegmentBytes: 100_000})
		must(t, putSynced(s, text(1, 6000)))
		var mu sync.Mutex
		changed := sync.NewCond(&mu)
		storing, begun := false, 0
		fs.Fail(func(op errorfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if op.Kind == errorfs.OpOpen && path.Ext(op.Path) == ".log" {
				for begun++; storing; {
					changed.Wait()
				}
			}
			return nil
		})
		set := func(v bool) {
			mu.Lock()
			defer mu.Unlock()
			storing = v
			changed.Broadcast()
		}
		for i := range 100 {
			set(true)
			must(t, putSynced(s, text(i, 6000)))
			set(false)
			synctest.Wait()
		}
		must(t, s.Close())
		if begun < 4 {
			t.Errorf("%d segments were begun", begun)
		}
	})
}

// TestOpenSegmentsAreTidiedToo: where messages come and go, what is dead in the
// segments that are still written is taken back as well.
func TestOpenSegmentsAreTidiedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, "blobs", bloblog.Options{FS: vfs.NewMem(), SegmentBytes: 4 << 20})
		long := mustKeep(t, s, 1, text(1, 300_000))
		for i := range 400 {
			size := 6000
			if i%20 == 0 {
				size = 300_000
			}
			ref := mustKeep(t, s, 1, text(i, size))
			must(t, s.Delete(context.Background(), 1, []driver.Ref{ref}))
			synctest.Wait()
			if st := s.Stats(); st.DeadBytes > 2<<20 || st.Segments > 10 {
				t.Fatalf("after %d messages: %+v", i, st)
			}
		}
		wantBytes(t, s, long, text(1, 300_000))
		must(t, s.Close())
	})
}

// TestPress: on a disk with little room, less waste is taken back, as far as there
// is room to do it in.
func TestPress(t *testing.T) {
	s := open(t, "blobs", bloblog.Options{FS: vfs.NewMem(), Manual: true, SegmentBytes: 50_000})
	defer s.Close()
	var refs []driver.Ref
	for i := range 30 {
		refs = append(refs, mustKeep(t, s, 1, text(i, 5000)))
	}
	var dead []driver.Ref
	for i := 0; i < len(refs); i += 4 {
		dead = append(dead, refs[i])
	}
	must(t, s.Delete(context.Background(), 1, dead))
	for _, c := range []struct {
		room int64
		want bool
	}{{0, false}, {10_000, false}, {60_000, true}} {
		s.Press(c.room)
		must(t, s.Tidy(context.Background()))
		if st := s.Stats(); (st.Moved > 0) != c.want {
			t.Errorf("with room for %d bytes: %+v", c.room, st)
		}
	}
	if st := s.Stats(); st.DeadBytes > st.Bytes/8 {
		t.Errorf("%d of %d bytes are dead", st.DeadBytes, st.Bytes)
	}
	for i, ref := range refs {
		if i%4 != 0 {
			wantBytes(t, s, ref, text(i, 5000))
		}
	}
}

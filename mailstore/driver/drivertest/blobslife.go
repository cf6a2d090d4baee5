package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

func blobDelete(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	r1 := keep(t, b, 1, content(1, 500), []byte("a"))
	r2 := keep(t, b, 1, content(2, 400_000), []byte("b"))
	r3 := keep(t, b, 1, content(3, 500), []byte("c"))
	must(t, b.Delete(context.Background(), 1, []driver.Ref{r1, r2, r1}))
	must(t, b.Delete(context.Background(), 1, []driver.Ref{r1}))
	must(t, b.Delete(context.Background(), 1, nil))
	wantNoBlob(t, b, 1, r1)
	wantNoBlob(t, b, 1, r2)
	wantBlob(t, b, 1, r3, content(3, 500))
	if got := listed(t, b, 1); len(got) != 1 || got[r3] != "500 c" {
		t.Errorf("listed: %v", got)
	}
}

func blobDeleteWhileOpen(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	for _, n := range []int{10, 70_000, 2 << 20} {
		data := content(1, n)
		ref := keep(t, b, 1, data, nil)
		blob, err := b.Open(context.Background(), 1, ref)
		must(t, err)
		must(t, b.Delete(context.Background(), 1, []driver.Ref{ref}))
		must(t, b.Sweep(context.Background(), 1, func(driver.Ref) bool { return false }))
		wantNoBlob(t, b, 1, ref)
		got := make([]byte, n)
		if k, err := blob.ReadAt(got, 0); k != n || err != nil && err != io.EOF || !bytes.Equal(got, data) {
			t.Errorf("an open blob of %d bytes cannot be read after its Delete: %d, %v", n, k, err)
		}
		must(t, blob.Close())
	}
}

func blobDeleteWhilePinned(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	for _, n := range []int{10, 2 << 20} {
		data := content(1, n)
		ref, w, err := put(b, 1, data, nil)
		must(t, err)
		must(t, b.Delete(context.Background(), 1, []driver.Ref{ref}))
		got := make([]byte, n)
		if k, err := w.ReadAt(got, 0); k != n || err != nil && err != io.EOF || !bytes.Equal(got, data) {
			t.Errorf("a pinned blob cannot be read back after its Delete: %d, %v", k, err)
		}
		w.Release()
		wantNoBlob(t, b, 1, ref)
	}
	if got := listed(t, b, 1); len(got) != 0 {
		t.Errorf("still listed: %v", got)
	}
}

func blobReleaseUnfinished(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	before := keep(t, b, 1, content(1, 300_000), nil)
	for _, n := range []int{0, 10, 500_000} {
		for range 3 {
			w, err := b.Create(context.Background(), 1, -1)
			must(t, err)
			_, err = w.Write(content(2, n))
			must(t, err)
			w.Release()
			w.Release()
			if _, err := w.Write([]byte("x")); err == nil {
				t.Error("Write after Release succeeded")
			}
			if _, err := w.Finish(nil); err == nil {
				t.Error("Finish after Release succeeded")
			}
		}
	}
	behind := keep(t, b, 1, content(3, 300_000), nil)
	wantBlob(t, b, 1, before, content(1, 300_000))
	wantBlob(t, b, 1, behind, content(3, 300_000))
	if got := listed(t, b, 1); len(got) != 2 {
		t.Errorf("%d blobs are listed, want 2", len(got))
	}
}

func blobSweep(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	named := map[driver.Ref][]byte{}
	var garbage []driver.Ref
	for i := range 60 {
		data := content(i, i*1000)
		ref := keep(t, b, 1, data, nil)
		if i%2 == 0 {
			named[ref] = data
		} else {
			garbage = append(garbage, ref)
		}
	}
	other := keep(t, b, 2, []byte("other account"), nil)
	for range 2 {
		must(t, b.Sweep(context.Background(), 1, func(ref driver.Ref) bool { _, ok := named[ref]; return ok }))
		for _, ref := range garbage {
			wantNoBlob(t, b, 1, ref)
		}
		for ref, data := range named {
			wantBlob(t, b, 1, ref, data)
		}
		if got := listed(t, b, 1); len(got) != len(named) {
			t.Errorf("%d blobs are listed, want %d", len(got), len(named))
		}
	}
	wantBlob(t, b, 2, other, []byte("other account"))
}

func blobSweepSparesPinned(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	nothing := func(driver.Ref) bool { return false }
	for _, n := range []int{10, 500_000} {
		data := content(1, n)
		open, err := b.Create(context.Background(), 1, -1)
		must(t, err)
		_, err = open.Write(data)
		must(t, err)
		ref, pinned, err := put(b, 1, data, nil)
		must(t, err)

		must(t, b.Sweep(context.Background(), 1, nothing))
		must(t, b.Sync(context.Background()))
		wantBlob(t, b, 1, ref, data)
		ref2, err := open.Finish(nil)
		must(t, err)
		must(t, b.Sweep(context.Background(), 1, nothing))
		wantBlob(t, b, 1, ref2, data)

		pinned.Release()
		open.Release()
		wantBlob(t, b, 1, ref, data)
		must(t, b.Sweep(context.Background(), 1, func(r driver.Ref) bool { return r == ref }))
		wantBlob(t, b, 1, ref, data)
		wantNoBlob(t, b, 1, ref2)
		must(t, b.Delete(context.Background(), 1, []driver.Ref{ref}))
	}
}

func blobRefsAreNeverReused(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	seen := map[driver.Ref]bool{}
	for i := range 200 {
		ref := keep(t, b, driver.Account(1), content(i, i%7*100), nil)
		if seen[ref] || ref == 0 {
			t.Fatalf("ref %#x was given out before, or is 0", ref)
		}
		seen[ref] = true
		must(t, b.Delete(context.Background(), 1, []driver.Ref{ref}))
	}
}

// blobSkip: an engine that remembers nothing gives out no Ref up to the one that
// it is told of, on any of its ways of writing.
func blobSkip(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	const used = driver.Ref(7<<32 + 5)
	must(t, b.Skip(context.Background(), used))
	must(t, b.Skip(context.Background(), 1)) // nor does less take it back
	for _, n := range sizes() {
		ref := keep(t, b, 1, content(n, n), nil)
		if ref <= used {
			t.Errorf("a blob of %d bytes got ref %#x, and refs up to %#x were said to be used", n, ref, used)
		}
		wantBlob(t, b, 1, ref, content(n, n))
	}
}

func blobManyWriters(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	var mu sync.Mutex
	want := map[driver.Account]map[driver.Ref][]byte{1: {}, 2: {}}
	together(12, func(i int) {
		a := driver.Account(1 + i%2)
		for j := range 12 {
			data := content(i*100+j, []int{10, 6000, 70_000, 400_000}[(i+j)%4]+i)
			ref, w, err := put(b, a, data, fmt.Appendf(nil, "%d-%d", i, j))
			if err == nil {
				err = b.Sync(context.Background())
			}
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			if want[a][ref] != nil {
				t.Errorf("ref %#x was given out twice", ref)
			}
			want[a][ref] = data
			mu.Unlock()
			w.Release()
			wantBlob(t, b, a, ref, data)
		}
	})
	for a, refs := range want {
		for ref, data := range refs {
			wantBlob(t, b, a, ref, data)
		}
		if got := listed(t, b, a); len(got) != len(refs) {
			t.Errorf("account %d lists %d blobs, want %d", a, len(got), len(refs))
		}
	}
}

func blobReadersAndDeleters(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	together(8, func(i int) {
		var mine []driver.Ref
		for j := range 40 {
			n := 1000 + j*500
			ref, w, err := put(b, 1, content(i, n), nil)
			if err != nil {
				t.Error(err)
				return
			}
			w.Release()
			mine = append(mine, ref)
			if j%2 == 1 {
				if err := b.Delete(context.Background(), 1, mine[:1]); err != nil {
					t.Error(err)
				}
				mine = mine[1:]
			}
			if len(mine) == 0 {
				continue
			}
			p, err := read(b, 1, mine[0])
			if err != nil || !bytes.Equal(p, content(i, len(p))) {
				t.Errorf("worker %d: %v, %d bytes", i, err, len(p))
			}
			if _, err := read(b, 1, ref^1); err != nil && !errors.Is(err, imap.NotFound) {
				t.Errorf("a ref that may not exist gave %v", err)
			}
		}
	})
}

func blobSyncTogether(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	together(32, func(i int) {
		for range 5 {
			_, w, err := put(b, 1, content(i, 100), nil)
			if err == nil {
				err = b.Sync(context.Background())
				w.Release()
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
}

// blobSlowWriters begins many long blobs of one account, more than an engine may
// want to write at once, and wants another account to get through.
func blobSlowWriters(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	const writers = 150
	enough := make(chan struct{})
	var begun, done sync.WaitGroup
	for range writers {
		begun.Add(1)
		done.Go(func() {
			w, err := b.Create(context.Background(), 1, 400_000)
			if err != nil {
				t.Error(err)
				begun.Done()
				return
			}
			defer w.Release()
			begun.Done()
			if _, err := w.Write(content(1, 300_000)); err != nil { // this may wait
				t.Error(err)
			}
			<-enough
		})
	}
	begun.Wait()
	for i := range 5 {
		wantBlob(t, b, 2, keep(t, b, 2, content(i, 500_000), nil), content(i, 500_000))
		wantBlob(t, b, 1, keep(t, b, 1, content(i, 1000), nil), content(i, 1000))
	}
	close(enough)
	done.Wait()
	wantBlob(t, b, 1, keep(t, b, 1, content(7, 500_000), nil), content(7, 500_000))
}

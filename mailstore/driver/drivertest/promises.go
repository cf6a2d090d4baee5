package drivertest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/mailstore/driver"
)

// kvValuesStay: what Get has returned is valid until the transaction ends,
// whatever is read and written behind it.
func kvValuesStay(t *testing.T, h Harness) {
	kv := openKV(t, h)
	big := bytes.Repeat([]byte("v"), 100_000)
	set(t, kv, 1, "a", "first", "big", string(big), "c", "third")
	hold := func(r driver.Reader) (check func(when string)) {
		a, _, err := r.Get([]byte("a"))
		must(t, err)
		b, _, err := r.Get([]byte("big"))
		must(t, err)
		return func(when string) {
			t.Helper()
			if string(a) != "first" || !bytes.Equal(b, big) {
				t.Errorf("%s: a value that Get returned has changed", when)
			}
		}
	}
	view(t, kv, 1, func(r driver.Reader) {
		check := hold(r)
		for range 10 {
			wantGet(t, r, "c", "third", true)
			pairs(t, r, nil, nil)
		}
		set(t, kv, 1, "c", "third")
		check("in a view")
	})
	must(t, kv.Update(context.Background(), 1, func(tx driver.Txn) error {
		check := hold(tx)
		for i := range 100 {
			must(t, tx.Set(fmt.Appendf(nil, "k%d", i), big[:1000]))
		}
		must(t, tx.Set([]byte("a"), []byte("other")))
		must(t, tx.DeleteRange([]byte("b"), []byte("c")))
		pairs(t, tx, nil, nil)
		check("in a transaction")
		return nil
	}))
}

// kvCloseWaits: transactions and views that run when Close is called are
// finished, and Close returns behind them.
func kvCloseWaits(t *testing.T, h Harness) {
	kv := h.OpenKV(t)
	release := make(chan struct{})
	inside := make(chan struct{}, 4) // more where fn is run again
	var running atomic.Int32
	running.Store(2)
	ends := make(chan error, 2)
	go func() {
		ends <- kv.Update(context.Background(), 1, func(tx driver.Txn) error {
			inside <- struct{}{}
			<-release
			return tx.Set([]byte("a"), []byte("1"))
		})
		running.Add(-1)
	}()
	go func() {
		ends <- kv.View(context.Background(), 2, func(r driver.Reader) error {
			inside <- struct{}{}
			<-release
			defer running.Add(-1)
			_, _, err := r.Get([]byte("a")) // it can still be read
			return err
		})
	}()
	<-inside
	<-inside
	closed := make(chan error, 1)
	left := int32(-1)
	go func() {
		err := kv.Close()
		left = running.Load()
		closed <- err
	}()
	// A Close that does not wait has time to return; how much can only hide one.
	for range 100 {
		runtime.Gosched()
		time.Sleep(200 * time.Microsecond)
	}
	select {
	case err := <-closed:
		t.Errorf("Close returned while a transaction and a view ran: %v", err)
		closed <- err
	default:
	}
	close(release)
	must(t, <-ends)
	must(t, <-ends)
	must(t, <-closed)
	// What has returned to Close need not have returned to its caller yet.
	if left > 1 {
		t.Errorf("Close returned before the view had ended")
	}
	if !h.Persistent {
		return
	}
	kv = openKV(t, h)
	wantPairs(t, kv, 1, "a=1")
}

// blobWriterOutlivesContext: the context is that of Create alone.
func blobWriterOutlivesContext(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	for _, n := range sizes() {
		ctx, cancel := context.WithCancel(context.Background())
		w, err := b.Create(ctx, 1, int64(n))
		must(t, err)
		cancel()
		_, err = w.Write(content(1, n))
		must(t, err)
		ref, err := w.Finish(nil)
		must(t, err)
		must(t, b.Sync(context.Background()))
		w.Release()
		wantBlob(t, b, 1, ref, content(1, n))
	}
}

// blobReadTogether: several goroutines read one open blob at once.
func blobReadTogether(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	for _, n := range []int{1000, 70_000, 1 << 20} {
		data := content(3, n)
		blob, err := b.Open(context.Background(), 1, keep(t, b, 1, data, nil))
		must(t, err)
		together(8, func(i int) {
			for j := range 20 {
				off := (i*7919 + j*104729) % n
				got := make([]byte, min(30_000, n-off))
				if k, err := blob.ReadAt(got, int64(off)); k != len(got) || err != nil && err != io.EOF || !bytes.Equal(got, data[off:off+k]) {
					t.Errorf("size %d: ReadAt(%d bytes at %d) = %d, %v, or other bytes", n, len(got), off, k, err)
				}
			}
		})
		must(t, blob.Close())
	}
}

// blobSweepBesideWriters: a blob whose name is known before its pin ends is
// never swept, whenever it was finished.
func blobSweepBesideWriters(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	var mu sync.Mutex
	names := map[driver.Ref][]byte{}
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for j := range 25 {
				data := content(i*100+j, []int{10, 3000, 300_000}[j%3])
				ref, w, err := put(b, 1, data, nil)
				if err == nil {
					err = b.Sync(context.Background())
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				names[ref] = data
				mu.Unlock()
				w.Release()
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true // and once more
		default:
		}
		must(t, b.Sweep(context.Background(), 1, func(ref driver.Ref) bool {
			mu.Lock()
			defer mu.Unlock()
			return names[ref] != nil
		}))
	}
	for ref, data := range names {
		wantBlob(t, b, 1, ref, data)
	}
	if got := listed(t, b, 1); len(got) != len(names) {
		t.Errorf("%d blobs are listed, want %d", len(got), len(names))
	}
}

package bloblog_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/internal/overlayfs"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// BenchmarkPut stores messages of 6 kB, each durable before the next.
func BenchmarkPut(b *testing.B) {
	for _, workers := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			s := open(b, b.TempDir(), bloblog.Options{})
			defer s.Close()
			data := text(1, 6000)
			var next atomic.Int64
			b.SetBytes(6000)
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range workers {
				wg.Go(func() {
					for next.Add(1) <= int64(b.N) {
						if err := putSynced(s, data); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

func putSynced(s *bloblog.Store, data []byte) error {
	w, err := s.Create(context.Background(), 1, int64(len(data)))
	if err != nil {
		return err
	}
	defer w.Release()
	if _, err := w.Write(data); err != nil {
		return err
	}
	if _, err := w.Finish([]byte("meta")); err != nil {
		return err
	}
	return s.Sync(context.Background())
}

// BenchmarkOpenBlob opens messages of 6 kB, and so reads and checks them.
func BenchmarkOpenBlob(b *testing.B) {
	s := open(b, b.TempDir(), bloblog.Options{})
	defer s.Close()
	var refs []driver.Ref
	for i := range 1000 {
		ref, w, err := write(s, 1, text(i, 6000))
		must(b, err)
		w.Release()
		refs = append(refs, ref)
	}
	b.SetBytes(6000)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		blob, err := s.Open(context.Background(), 1, refs[i%len(refs)])
		must(b, err)
		must(b, blob.Close())
		i++
	}
}

// BenchmarkOpenStore opens a store of 200,000 blobs of 1 kB in segments of 200 kB
// (about 1,000 of them, as 64 GB of mail have), a third of it dead. Then there is
// one that a crash has left, whose last segment, of 64 MB, is to be read through.
func BenchmarkOpenStore(b *testing.B) {
	b.Run("closed", func(b *testing.B) { openStore(b, false) })
	b.Run("crashed", func(b *testing.B) { openStore(b, true) })
}

func openStore(b *testing.B, crashed bool) {
	dir, opts := b.TempDir(), bloblog.Options{SegmentBytes: 200 << 10, Manual: true}
	s := open(b, dir, opts)
	const blobs = 200_000
	data := text(1, 1000)
	for i := range blobs {
		a := driver.Account(i % 1000)
		ref, w, err := write(s, a, data)
		must(b, err)
		w.Release()
		if i%3 == 0 {
			must(b, s.Delete(context.Background(), a, []driver.Ref{ref}))
		}
	}
	must(b, s.Close())
	if crashed {
		left := open(b, dir, bloblog.Options{Manual: true})
		defer left.Close()
		for i := range 9_900 {
			_, w, err := write(left, driver.Account(i%1000), text(i, 6000))
			must(b, err)
			w.Release()
		}
		must(b, left.Sync(context.Background()))
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for b.Loop() {
		opts.FS = overlayfs.New(vfs.Default) // the folder stays as it is
		s = open(b, dir, opts)
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(s.Stats().Segments), "segments")
		must(b, s.Close())
		b.StartTimer()
	}
	b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc))/blobs, "heap-B/blob")
}

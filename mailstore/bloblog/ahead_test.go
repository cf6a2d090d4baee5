package bloblog_test

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// Who opens blobs in the order in which they were written makes few reads.
func TestReadAhead(t *testing.T) {
	fs := counting(vfs.NewMem())
	opts := bloblog.Options{FS: fs}
	s := open(t, "blobs", opts)
	var refs []driver.Ref
	var want [][]byte
	for i := range 300 {
		n := 1000 + i*37%9000
		if i%50 == 7 {
			n = 90_000 + 10_000*(i/50) // up to and beyond a window
		}
		want = append(want, text(i, n))
		refs = append(refs, mustKeep(t, s, 1, want[i]))
	}
	total := int64(0)
	for _, p := range want {
		total += int64(len(p))
	}
	must(t, s.Close())
	s = open(t, "blobs", opts) // reads what it has not created itself, which counts
	defer s.Close()
	fs.read.Store(0)
	for i, ref := range refs {
		wantBytes(t, s, ref, want[i])
	}
	if n := fs.read.Load(); n < total || n > total*3/2 {
		t.Errorf("%d bytes were read for %d of blobs", n, total)
	}
	// In the reverse order nothing is ahead.
	for i := len(refs) - 1; i >= 0; i-- {
		wantBytes(t, s, refs[i], want[i])
	}
}

// A window that was read before a blob was written does not hide it.
func TestReadAheadOfTheWriter(t *testing.T) {
	for _, c := range []bloblog.Compression{bloblog.Uncompressed, bloblog.Zstd} {
		s := open(t, "blobs", bloblog.Options{FS: vfs.NewMem(), SegmentBytes: 100_000, Compress: c})
		var refs []driver.Ref
		for i := range 200 {
			refs = append(refs, mustKeep(t, s, 1, text(i, 100+i*31%4000)))
			wantBytes(t, s, refs[i], text(i, 100+i*31%4000))
			if i > 2 {
				wantBytes(t, s, refs[i-2], text(i-2, 100+(i-2)*31%4000))
				wantBytes(t, s, refs[i-1], text(i-1, 100+(i-1)*31%4000))
			}
		}
		must(t, s.Close())
	}
}

// Many who have blobs open do not take each other's windows away.
func TestReadAheadTogether(t *testing.T) {
	s := open(t, "blobs", bloblog.Options{FS: vfs.NewMem()})
	defer s.Close()
	const blobs, readers = 400, 20
	var refs []driver.Ref
	for i := range blobs {
		refs = append(refs, mustKeep(t, s, 1, text(i, 3000)))
	}
	var wg sync.WaitGroup
	for r := range readers {
		wg.Go(func() {
			var held []driver.Blob // as slow clients do
			for i := range blobs {
				at := (i + r*17) % blobs
				b, err := s.Open(context.Background(), 1, refs[at])
				if err != nil {
					t.Error(err)
					return
				}
				if held = append(held, b); len(held) < 60 && i < blobs-1 {
					continue
				}
				for k, b := range held {
					got := make([]byte, 3000)
					n := (at - len(held) + 1 + k + blobs) % blobs
					if _, err := b.ReadAt(got, 0); err != nil || !bytes.Equal(got, text(n, 3000)) {
						t.Errorf("blob %d is another one, or %v", n, err)
						return
					}
					b.Close()
				}
				held = held[:0]
			}
		})
	}
	wg.Wait()
}

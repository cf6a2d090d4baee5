package bloblog_test

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/race"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// countingFS counts the bytes that are read from the segments, and their files.
type countingFS struct {
	vfs.FS
	read, open, opened *atomic.Int64
}

func counting(fs vfs.FS) countingFS {
	return countingFS{fs, new(atomic.Int64), new(atomic.Int64), new(atomic.Int64)}
}

type countingFile struct {
	vfs.File
	fs countingFS
}

func (f countingFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.Open(name, opts...)
	if err != nil {
		return nil, err
	}
	f.open.Add(1)
	f.opened.Add(1)
	return countingFile{file, f}, nil
}

func (f countingFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.fs.read.Add(int64(n))
	return n, err
}

func (f countingFile) Close() error {
	f.fs.open.Add(-1)
	return f.File.Close()
}

// prose makes n bytes that can be compressed to less than two thirds.
func prose(n int) []byte { return text(1, n) }

// noise makes n bytes that cannot be compressed.
func noise(n int) []byte { return text(2, n) }

// TestCompressWhatGetsSmaller: nothing takes more room than without compression.
func TestCompressWhatGetsSmaller(t *testing.T) {
	for name, c := range map[string]struct {
		data    []byte
		smaller bool
	}{
		"empty":            {nil, false},
		"a few bytes":      {prose(100), false},
		"short":            {prose(1000), true},
		"short noise":      {noise(1000), false},
		"a block":          {prose(64 << 10), true},
		"blocks":           {prose(200_000), true},
		"blocks of noise":  {noise(200_000), false},
		"half of it":       {append(noise(90_000), prose(90_000)...), true},
		"long":             {prose(1_000_000), true},
		"long noise":       {noise(1_000_000), false},
		"noise, then text": {append(noise(600_000), prose(400_000)...), true},
	} {
		t.Run(name, func(t *testing.T) {
			var taken []int64
			for _, compress := range []bloblog.Compression{bloblog.Uncompressed, bloblog.Zstd} {
				fs := vfs.NewMem()
				s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true, Compress: compress})
				ref := mustKeep(t, s, 1, c.data)
				wantBytes(t, s, ref, c.data)
				must(t, s.Delete(context.Background(), 1, []driver.Ref{ref}))
				taken = append(taken, s.Stats().DeadBytes)
				must(t, s.Close())
			}
			if c.smaller && taken[1] > taken[0]*7/8 || !c.smaller && taken[1] != taken[0] {
				t.Errorf("%d bytes take %d, compressed %d", len(c.data), taken[0], taken[1])
			}
		})
	}
}

// TestCompressedThenNot: what is there stays readable, whatever new records are
// made like.
func TestCompressedThenNot(t *testing.T) {
	fs := vfs.NewMem()
	refs := map[driver.Ref][]byte{}
	for i := range 6 {
		s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true, Compress: bloblog.Compression(i % 2), SegmentBytes: 100_000, MaxWaste: 0.01})
		for _, n := range []int{10, 3000, 70_000, 400_000} {
			data := prose(n + i)
			refs[mustKeep(t, s, 1, data)] = data
		}
		must(t, s.Delete(context.Background(), 1, []driver.Ref{mustKeep(t, s, 1, prose(5000))}))
		must(t, s.Tidy(context.Background()))
		for ref, data := range refs {
			wantBytes(t, s, ref, data)
		}
		must(t, s.Verify(context.Background(), true, func(d bloblog.Damage) { t.Errorf("damage %+v", d) }))
		must(t, s.Close())
	}
}

// TestPartOfALongBlob: a header, or some bytes in the middle, of 10 MB cost a
// block or two, compressed or not.
func TestPartOfALongBlob(t *testing.T) {
	for _, compress := range []bloblog.Compression{bloblog.Uncompressed, bloblog.Zstd} {
		mem, data := vfs.NewMem(), prose(10_000_000)
		s := open(t, "blobs", bloblog.Options{FS: mem, Compress: compress})
		ref := mustKeep(t, s, 1, data)
		must(t, s.Close())
		fs := counting(mem)
		s = open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
		b, err := s.Open(context.Background(), 1, ref)
		must(t, err)
		for _, off := range []int64{0, 5_000_000, 9_999_000} {
			before := fs.read.Load()
			got := make([]byte, 1000)
			if _, err := b.ReadAt(got, off); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, data[off:off+1000]) {
				t.Errorf("at %d: other bytes", off)
			}
			if n := fs.read.Load() - before; n > 64<<10 {
				t.Errorf("1,000 bytes at %d cost %d from the disk", off, n)
			}
		}
		must(t, b.Close())
		must(t, s.Close())
	}
}

// TestUploadInBoundedMemory writes 50 MB, and reads them back as a parser does
// before they are finished.
func TestUploadInBoundedMemory(t *testing.T) {
	const size, piece = 50_000_000, 100_000
	s := open(t, t.TempDir(), bloblog.Options{Manual: true, Compress: bloblog.Zstd})
	defer s.Close()
	data := prose(piece)
	w, err := s.Create(context.Background(), 1, size)
	must(t, err)
	defer w.Release()
	upload := func() {
		for range size / piece {
			_, err := w.Write(data)
			must(t, err)
		}
		got := make([]byte, piece)
		for off := int64(0); off < size; off += piece {
			if n, err := w.ReadAt(got, off); n != piece || err != nil && err != io.EOF {
				t.Fatal(n, err)
			}
			if !bytes.Equal(got, data) {
				t.Fatalf("other bytes at %d", off)
			}
		}
		_, err = w.Finish([]byte("meta"))
		must(t, err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	upload()
	runtime.ReadMemStats(&after)
	most := uint64(16 << 20)
	if race.Enabled { // pools forget at random then
		most = size
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > most {
		t.Errorf("%d bytes of memory were taken for %d", n, size)
	}
	must(t, s.Sync(context.Background()))
}

// TestDamagedCompressed flips each byte of a segment with compressed blobs, and
// of one with blocks that are not: what is read is what was written, or an error.
func TestDamagedCompressed(t *testing.T) {
	base := vfs.NewMem()
	s := open(t, "blobs", bloblog.Options{FS: base, Manual: true, Compress: bloblog.Zstd})
	want := map[driver.Ref][]byte{}
	for _, data := range [][]byte{prose(700), append(noise(65_536), prose(300)...)} {
		want[mustKeep(t, s, 1, data)] = data
	}
	must(t, s.Close())
	name := "blobs/00000001.seg"
	const size = 66_000 // of the records; zeros and the index come then
	step := 7
	if testing.Short() {
		step = 97
	}
	damaged := 0
	for at := 0; at < size; at += step {
		fs := vfs.NewMem()
		copyTree(t, base, fs, "blobs")
		flip(t, fs, name, at)
		s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
		for ref, data := range want {
			switch got, err := readAll(s, 1, ref); {
			case imap.KindOf(err) == imap.Corruption:
				damaged++
			case err != nil:
				t.Errorf("byte %d: %v", at, err)
			case !bytes.Equal(got, data):
				t.Errorf("byte %d: other content, of %d bytes", at, len(got))
			}
		}
		must(t, s.Close())
	}
	if damaged < size/step/2 {
		t.Errorf("%d of %d damaged bytes were met", damaged, size/step)
	}
}

package bloblog_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// TestHold copies a store that goes on: what was there at the moment is in the
// copy, whatever is deleted and tidied up before the files are copied.
func TestHold(t *testing.T) {
	ctx := context.Background()
	fs := vfs.NewMem()
	s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true, SegmentBytes: 4000, MaxWaste: 0.01})
	defer s.Close()
	blobs := make(map[driver.Ref][]byte)
	keep := func(n int) {
		data := bytes.Repeat([]byte(fmt.Sprint(n)), 200)
		blobs[mustKeep(t, s, 1, data)] = data
	}
	for n := range 40 {
		keep(n)
	}
	must(t, s.Tidy(ctx))
	long := bytes.Repeat([]byte("long"), 100_000)
	blobs[mustKeep(t, s, 1, long)] = long
	half, err := s.Create(ctx, 1, -1) // is being written meanwhile
	must(t, err)
	defer half.Release()
	_, err = half.Write(long)
	must(t, err)

	hold, err := s.Hold(ctx, func() error {
		for ref := range blobs { // the index of the copy names them still
			if err := s.Delete(ctx, 1, []driver.Ref{ref}); err != nil {
				return err
			}
		}
		return nil
	})
	must(t, err)
	must(t, s.Tidy(ctx))
	mustKeep(t, s, 1, []byte("later"))
	must(t, fs.MkdirAll("copy", 0o700))
	sealed := 0
	for _, f := range hold.Files {
		if f.Sealed {
			sealed++
			must(t, fs.Link("blobs/"+f.Name, "copy/"+f.Name))
			continue
		}
		r, err := f.Open()
		must(t, err)
		w, err := fs.Create("copy/"+f.Name, "test")
		must(t, err)
		n, err := io.Copy(w, r)
		must(t, err)
		if n != f.Size {
			t.Errorf("%s has %d bytes, not %d", f.Name, n, f.Size)
		}
		must(t, r.Close())
		must(t, w.Close())
	}
	hold.Release()
	if sealed == 0 || sealed == len(hold.Files) {
		t.Errorf("%d of %d files are sealed", sealed, len(hold.Files))
	}
	if names, _ := fs.List("blobs"); len(names) >= len(hold.Files) {
		t.Errorf("after the Hold there are still %v", names)
	}

	c := open(t, "copy", bloblog.Options{FS: fs, Manual: true})
	defer c.Close()
	for ref, data := range blobs {
		wantBytes(t, c, ref, data)
	}
	must(t, c.Verify(ctx, false, func(d bloblog.Damage) { t.Errorf("damage %+v", d) }))
}

// TestVerify flips a byte of each part of a segment.
func TestVerify(t *testing.T) {
	ctx := context.Background()
	data := bytes.Repeat([]byte("x"), 1000)
	for name, c := range map[string]struct {
		at   int // from the end where it is negative
		want func(d bloblog.Damage, ref driver.Ref) bool
	}{
		"segment header": {10, func(d bloblog.Damage, _ driver.Ref) bool { return d.Ref == 0 }},
		"record header":  {32 + 10, func(d bloblog.Damage, ref driver.Ref) bool { return d.Ref == uint64(ref) && d.Account == 1 && d.Live }},
		"content":        {32 + 56 + 10, func(d bloblog.Damage, ref driver.Ref) bool { return d.Ref == uint64(ref) && d.Account == 1 && d.Live }},
		"checksums":      {32 + 56 + 1000 + 2, func(d bloblog.Damage, ref driver.Ref) bool { return d.Ref == uint64(ref) }},
		"index":          {-40, func(d bloblog.Damage, _ driver.Ref) bool { return d.Ref == 0 }},
		"trailer":        {-2, func(d bloblog.Damage, _ driver.Ref) bool { return d.Ref == 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
			ref := mustKeep(t, s, 1, data)
			mustKeep(t, s, 1, data)
			must(t, s.Close())
			flip(t, fs, "blobs/00000001.seg", c.at)
			s = open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
			defer s.Close()
			var found []bloblog.Damage
			must(t, s.Verify(ctx, true, func(d bloblog.Damage) { found = append(found, d) }))
			if len(found) != 1 || !c.want(found[0], ref) || found[0].File != "00000001.seg" || found[0].Err == nil {
				t.Errorf("found %+v", found)
			}
		})
	}
}

// flip changes one byte of a file.
func flip(t *testing.T, fs vfs.FS, name string, at int) {
	t.Helper()
	f, err := fs.OpenReadWrite(name, "test")
	must(t, err)
	info, err := f.Stat()
	must(t, err)
	if at < 0 {
		at += int(info.Size())
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, int64(at))
	must(t, err)
	b[0] ^= 0x40
	_, err = f.WriteAt(b, int64(at))
	must(t, err)
	must(t, f.Close())
}

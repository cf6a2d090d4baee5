package pebblekv_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// roomFS notes how far logs reach on disk: by what is written, and by room that
// is taken ahead.
type roomFS struct {
	vfs.FS
	mu      sync.Mutex
	reaches map[string]int64
}

func (f *roomFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	if err != nil || !strings.HasSuffix(name, ".log") {
		return file, err
	}
	return &roomFile{File: file, fs: f, name: name}, nil
}

func (f *roomFS) total() (n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, reach := range f.reaches {
		n += reach
	}
	return n
}

type roomFile struct {
	vfs.File
	fs   *roomFS
	name string
	off  int64
}

func (f *roomFile) note(end int64) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.fs.reaches[f.name] = max(f.fs.reaches[f.name], end)
}

func (f *roomFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.off += int64(n)
	f.note(f.off)
	return n, err
}

func (f *roomFile) WriteAt(p []byte, off int64) (int, error) {
	f.note(off + int64(len(p)))
	return f.File.WriteAt(p, off)
}

func (f *roomFile) Preallocate(off, length int64) error {
	f.note(off + length)
	return f.File.Preallocate(off, length)
}

// What logs take on disk depends on what is written to them: a store that is
// opened again and again, and has next to nothing, stays small.
func TestLogsTakeRoomAsTheyGrow(t *testing.T) {
	fs := &roomFS{FS: vfs.NewMem(), reaches: make(map[string]int64)}
	fill := func(kv *pebblekv.KV, n int) {
		for i := range n {
			err := kv.Update(context.Background(), 1, func(tx driver.Txn) error {
				return tx.Set(fmt.Appendf(nil, "k%d", i), make([]byte, 1000))
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 4 {
		kv, err := pebblekv.Open("index", pebblekv.Options{FS: fs, Logger: quiet(), Journal: "journal"})
		if err != nil {
			t.Fatal(err)
		}
		fill(kv, 5)
		if err := kv.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n := fs.total(); n > 1<<20 {
		t.Errorf("the logs of a store with 20 kB take %d bytes", n)
	}
	fs.reaches = make(map[string]int64)
	kv, err := pebblekv.Open("index", pebblekv.Options{FS: fs, Logger: quiet(), Journal: "journal"})
	if err != nil {
		t.Fatal(err)
	}
	fill(kv, 5000)
	if n := fs.total(); n < 5_000_000 || n > 9_000_000 {
		t.Errorf("logs with 5 MB take %d bytes: %v", n, fs.reaches)
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
}

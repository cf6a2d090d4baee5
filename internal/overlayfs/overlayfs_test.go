package overlayfs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/internal/overlayfs"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// files reads a folder of the disk whole.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	}))
	return all
}

// TestStore opens engines through the overlay, writes to them and opens them
// again; the disk does not notice.
func TestStore(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	set := func(kv *pebblekv.KV, key, value string) {
		t.Helper()
		must(t, kv.Update(ctx, 1, func(tx driver.Txn) error { return tx.Set([]byte(key), []byte(value)) }))
	}
	get := func(kv *pebblekv.KV, key string) (value string) {
		t.Helper()
		must(t, kv.View(ctx, 1, func(r driver.Reader) error {
			v, _, err := r.Get([]byte(key))
			value = string(v)
			return err
		}))
		return value
	}
	keep := func(s *bloblog.Store, text string) driver.Ref {
		t.Helper()
		w, err := s.Create(ctx, 1, -1)
		must(t, err)
		defer w.Release()
		_, err = io.WriteString(w, text)
		must(t, err)
		ref, err := w.Finish(nil)
		must(t, err)
		must(t, s.Sync(ctx))
		return ref
	}
	read := func(s *bloblog.Store, ref driver.Ref) string {
		t.Helper()
		b, err := s.Open(ctx, 1, ref)
		must(t, err)
		defer b.Close()
		data, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
		must(t, err)
		return string(data)
	}
	engines := func(fs vfs.FS) (*pebblekv.KV, *bloblog.Store) {
		t.Helper()
		kv, err := pebblekv.Open(filepath.Join(dir, "kv"), pebblekv.Options{FS: fs, Logger: log, MemTableBytes: 64 << 10})
		must(t, err)
		s, err := bloblog.Open(filepath.Join(dir, "blobs"), bloblog.Options{FS: fs, Logger: log, Manual: true, MaxWaste: 0.01})
		must(t, err)
		return kv, s
	}
	kv, s := engines(vfs.Default)
	set(kv, "a", "disk")
	one, two := keep(s, "one"), keep(s, "two")
	// A crash: nothing is closed, and the overlay has to recover.
	before := files(t, dir)
	over := overlayfs.New(vfs.Default)
	for round := range 3 {
		kv, s := engines(over)
		if got := get(kv, "a"); round == 0 && got != "disk" || round > 0 && got != "memory" {
			t.Errorf("round %d: a is %q", round, got)
		}
		if got := read(s, two); got != "two" {
			t.Errorf("round %d: two is %q", round, got)
		}
		set(kv, "a", "memory")
		for i := range 200 {
			set(kv, fmt.Sprint("key", round, i), string(make([]byte, 1000)))
		}
		keep(s, "three")
		must(t, s.Delete(ctx, 1, []driver.Ref{one}))
		must(t, s.Tidy(ctx))
		must(t, errors.Join(kv.Verify(ctx, func(d pebblekv.Damage) { t.Error(d) }), s.Verify(ctx, true, func(d bloblog.Damage) { t.Error(d) })))
		must(t, errors.Join(kv.Close(), s.Close()))
		if after := files(t, dir); !maps.Equal(before, after) {
			t.Fatalf("round %d: the disk has changed: %v", round, cmp.Diff(before, after))
		}
	}
	must(t, errors.Join(kv.Close(), s.Close()))
}

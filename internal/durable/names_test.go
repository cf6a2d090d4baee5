package durable_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/internal/durable"
)

// TestNames: a name is told from that of another file with the same content.
func TestNames(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	write := func(path string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(path)
	f, err := vfs.Default.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := func(when string, want bool) {
		t.Helper()
		if got, err := durable.Names(vfs.Default, path, f); err != nil || got != want {
			t.Errorf("%s: %v, %v", when, got, err)
		}
	}
	want("at first", true)
	write(filepath.Join(dir, "other"))
	if err := os.Rename(path, filepath.Join(dir, "moved")); err != nil {
		t.Fatal(err)
	}
	want("moved away", false)
	if err := os.Rename(filepath.Join(dir, "other"), path); err != nil {
		t.Fatal(err)
	}
	want("another one in its place", false)
	if err := os.Rename(filepath.Join(dir, "moved"), path); err != nil {
		t.Fatal(err)
	}
	want("put back", true)
}

// TestObserver: a folder in which nothing happens is told from one in which names come
// or go, in a folder that is old enough to be sure.
func TestObserver(t *testing.T) {
	dir := t.TempDir()
	var o durable.Observer
	past := time.Now().Add(-time.Hour)
	want := func(when string, want bool) {
		t.Helper()
		if got := o.Changed(vfs.Default, dir); got != want {
			t.Errorf("%s: %v", when, got)
		}
	}
	want("at first", true)
	want("just made", true)
	age := func() {
		t.Helper()
		past = past.Add(time.Second)
		if err := os.Chtimes(dir, past, past); err != nil {
			t.Fatal(err)
		}
	}
	age()
	want("another time", true)
	want("nothing", false)
	want("nothing again", false)
	if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want("a new file", true)
	age()
	want("another time again", true)
	want("nothing for the third time", false)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	want("gone", true)
	want("gone still", true)
	if !new(durable.Observer).Changed(vfs.NewMem(), "") {
		t.Error("a file system that cannot say")
	}
}

package datadir_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/datadir"
)

// TestLook: what somebody removes or changes is put back, and the folder stays locked.
func TestLook(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d, err := datadir.Open(nil, path)
	if err != nil {
		t.Fatal(err)
	}
	want := func(when string, want ...string) {
		t.Helper()
		if got, err := d.Look(); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", when, got, err)
		}
	}
	remove := func(names ...string) {
		t.Helper()
		for _, name := range names {
			if err := os.Remove(filepath.Join(path, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	want("at first")
	before, err := os.ReadFile(filepath.Join(path, "FORMAT"))
	if err != nil {
		t.Fatal(err)
	}
	remove("FORMAT", "LOCK", "OWNER")
	want("all removed", "FORMAT", "LOCK")
	want("afterwards")
	if after, err := os.ReadFile(filepath.Join(path, "FORMAT")); err != nil || string(after) != string(before) {
		t.Errorf("FORMAT says %q, %v", after, err)
	}
	if _, err := os.Stat(filepath.Join(path, "OWNER")); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"FORMAT", "LOCK"} {
		remove(name)
		if err := os.WriteFile(filepath.Join(path, name), []byte("something else"), 0o600); err != nil {
			t.Fatal(err)
		}
		want(name+" replaced", name)
	}
	if output, ok := openElsewhere(t, path); ok {
		t.Errorf("another process has it: %s", output)
	}
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := d.Look(); imap.KindOf(err) != imap.ContactAdmin {
			t.Errorf("moved: %v", err)
		}
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := os.ReadDir(path); err != nil || len(names) > 0 {
		t.Errorf("in the other folder are %v, %v", names, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".moved", path); err != nil {
		t.Fatal(err)
	}
	want("put back")
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

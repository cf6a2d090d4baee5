package durable_test

import (
	"errors"
	"io"
	"io/fs"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/internal/durable"
)

// After a power cut at any operation there is one of the texts, whole, and the
// newest that was acknowledged or the next.
func TestCutAtEveryOperation(t *testing.T) {
	texts := []string{"", "one", "two, which is longer", "3"}
	crashfs.EveryCut(t, 1, func() crashfs.Scenario {
		acknowledged := 0
		return crashfs.Scenario{
			Run: func(t *testing.T, disk *crashfs.FS) {
				for i, text := range texts[1:] {
					if err := durable.WriteFile(disk, "file", text, "test"); err != nil {
						t.Error(err)
					}
					if disk.Alive() {
						acknowledged = i + 1
					}
				}
			},
			Check: func(t *testing.T, disk *crashfs.FS) {
				got := readFile(t, disk, "file")
				if next := min(acknowledged+1, len(texts)-1); got != texts[acknowledged] && got != texts[next] {
					t.Errorf("the file has %q, acknowledged was %q", got, texts[acknowledged])
				}
				if err := durable.WriteFile(disk, "file", "after", "test"); err != nil {
					t.Error(err)
				}
			},
		}
	})
}

// readFile returns what a file has, "" where there is none.
func readFile(t *testing.T, disk vfs.FS, name string) string {
	t.Helper()
	f, err := disk.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}

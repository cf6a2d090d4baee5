package daemon

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// copyDisk copies a folder into a file system of its own. Where a store has it open,
// what the background removes meanwhile is not in the copy.
func copyDisk(t *testing.T, from vfs.FS) *vfs.MemFS {
	t.Helper()
	to := vfs.NewMem()
	var walk func(dir string)
	walk = func(dir string) {
		if err := to.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		names, err := from.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			path := from.PathJoin(dir, strings.TrimSuffix(n, "/"))
			info, err := from.Stat(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if info.IsDir() {
				walk(path)
				continue
			}
			if f, err := from.Open(path); err == nil {
				data, err := io.ReadAll(f)
				if err = errors.Join(err, f.Close()); err != nil {
					t.Fatal(err)
				}
				put(t, to, path, data)
			} else if !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
	walk(home)
	return to
}

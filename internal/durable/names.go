package durable

import (
	"errors"
	"io/fs"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Names reports whether a path still names an open file: not where nothing is there
// any more, or another file. Where the file system does not tell files apart, any
// file will do.
func Names(disk vfs.FS, path string, f vfs.File) (bool, error) {
	at, err := disk.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	open, err := f.Stat()
	if err != nil {
		return false, err
	}
	return Same(at, open), nil
}

// Same reports whether two descriptions are of one file, as far as the file system
// tells files apart.
func Same(a, b vfs.FileInfo) bool {
	x, ok := inode(a)
	y, known := inode(b)
	return !ok || !known || x == y
}

// An Observer notices that names in a folder may have changed, at the price of one
// stat. The zero value has seen nothing. It is used by one goroutine at a time.
type Observer struct {
	seen  vfs.FileInfo
	fresh bool // the folder changed too shortly before it was looked at
}

// clockStep is how coarse times of a file system may be, and its clock different.
const clockStep = 3 * time.Second

// Changed reports whether names in the folder may have come or gone since the last
// call: true at first, where the folder itself is gone, and where the file system
// cannot say.
func (o *Observer) Changed(disk vfs.FS, dir string) bool {
	now, err := disk.Stat(dir)
	if err != nil {
		o.seen = nil
		return true
	}
	before, fresh := o.seen, o.fresh
	o.seen, o.fresh = now, time.Since(now.ModTime()).Abs() < clockStep
	_, told := inode(now)
	return before == nil || fresh || !told || !Same(before, now) || !before.ModTime().Equal(now.ModTime())
}

// Package durable writes small files such that they, and their names, outlive a
// power cut, on any vfs.FS. It is not for files that are written to for long: who
// has such files knows when to sync them. Start with [WriteFile].
package durable

import (
	"errors"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// WriteFile makes a file with this text, or puts it in place of the one that is
// there: whole and durably, or not at all. What it writes first is beside it, with
// ".new" behind the name; a power cut may leave that. The folder must be there.
func WriteFile(disk vfs.FS, path, text string, c vfs.DiskWriteCategory) error {
	tmp := path + ".new"
	f, err := disk.Create(tmp, c)
	if err != nil {
		return err
	}
	if _, err = f.Write([]byte(text)); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := disk.Rename(tmp, path); err != nil {
		return err
	}
	return SyncDir(disk, disk.PathDir(path))
}

// SyncDir makes the names in a folder durable: what was made, renamed or removed
// in it.
func SyncDir(disk vfs.FS, path string) error {
	dir, err := disk.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

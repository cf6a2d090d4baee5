package pebblekv

import (
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A logFile is a file of the log or of the manifest, or their folder: what
// Pebble cannot live without.
type logFile struct {
	vfs.File
	fs *freezeFS
}

func (f *logFile) Write(p []byte) (int, error) {
	n := len(p)
	err := f.fs.must("write", func() (err error) {
		_, err = f.File.Write(p)
		return err
	}, nothing)
	if err != nil {
		n = 0
	}
	return n, err
}

func (f *logFile) Preallocate(off, length int64) error {
	return f.fs.must("preallocate", func() error { return f.File.Preallocate(off, length) }, nothing)
}

func (f *logFile) Sync() error { return f.fs.must("sync", f.File.Sync, nothing) }

func (f *logFile) SyncData() error { return f.fs.must("sync", f.File.SyncData, nothing) }

func (f *logFile) SyncTo(length int64) (full bool, err error) {
	err = f.fs.must("sync", func() (err error) {
		full, err = f.File.SyncTo(length)
		return err
	}, func() error {
		full = true
		return nil
	})
	return full, err
}

// Close closes the file in any case.
func (f *logFile) Close() error {
	err := f.File.Close()
	return f.fs.must("close", func() error { return err }, nothing)
}

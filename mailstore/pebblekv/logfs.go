package pebblekv

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A logFS stands between Pebble and the disk because Pebble ends the process
// (by a panic under its locks) when it cannot begin or end a file of its log. A
// logFS reports the failure to fail and tells Pebble that all is well. From
// then on nothing reaches the log, so what is on disk stays a beginning of what
// was committed; and nothing is acknowledged, since fail is called before
// Pebble hears of a success, and whoever waits for a commit asks for the failure
// afterwards. Until the database is open, Pebble is told of errors as they are:
// then it can give up by itself.
type logFS struct {
	vfs.FS
	fail   func(error)
	opened atomic.Bool
	lost   atomic.Bool
}

func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

// do runs an operation on the log, unless it is lost, and returns what Pebble
// may know of it.
func (l *logFS) do(what string, op func() error) error {
	if l.lost.Load() {
		return nil
	}
	err := op()
	if err == nil || !l.opened.Load() {
		return err
	}
	l.lost.Store(true)
	l.fail(fmt.Errorf("log %s: %w", what, err))
	return nil
}

// begin opens a new file of the log, or one that swallows what it is given.
func (l *logFS) begin(op func() (vfs.File, error)) (vfs.File, error) {
	file := vfs.NewMemFile(nil)
	err := l.do("create", func() error {
		f, err := op()
		if err == nil {
			file = f
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &logFile{File: file, fs: l}, nil
}

// Create implements vfs.FS.
func (l *logFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if !isLog(name) {
		return l.FS.Create(name, c)
	}
	return l.begin(func() (vfs.File, error) { return l.FS.Create(name, c) })
}

// ReuseForWrite implements vfs.FS.
func (l *logFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if !isLog(newname) {
		return l.FS.ReuseForWrite(oldname, newname, c)
	}
	return l.begin(func() (vfs.File, error) { return l.FS.ReuseForWrite(oldname, newname, c) })
}

// OpenDir implements vfs.FS. A new log file needs its folder synced.
func (l *logFS) OpenDir(name string) (vfs.File, error) {
	f, err := l.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &logFile{File: f, fs: l}, nil
}

// Unwrap implements vfs.FS.
func (l *logFS) Unwrap() vfs.FS { return l.FS }

// A logFile is a file of the log, or its folder.
type logFile struct {
	vfs.File
	fs *logFS
}

func (f *logFile) Write(p []byte) (int, error) {
	n := len(p)
	err := f.fs.do("write", func() (err error) {
		_, err = f.File.Write(p)
		return err
	})
	if err != nil {
		n = 0
	}
	return n, err
}

func (f *logFile) Preallocate(off, length int64) error {
	return f.fs.do("preallocate", func() error { return f.File.Preallocate(off, length) })
}

func (f *logFile) Sync() error { return f.fs.do("sync", f.File.Sync) }

func (f *logFile) SyncData() error { return f.fs.do("sync", f.File.SyncData) }

func (f *logFile) SyncTo(length int64) (full bool, err error) {
	full = true // when the log is lost already
	err = f.fs.do("sync", func() (err error) {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

// Close closes the file in any case.
func (f *logFile) Close() error {
	err := f.File.Close()
	return f.fs.do("close", func() error { return err })
}

package pebblekv

import (
	"errors"
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
// afterwards.
type logFS struct {
	vfs.FS
	fail func(error)
	lost atomic.Bool
}

func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

// check reports err, if there is one, and reports whether the log is lost.
func (l *logFS) check(what string, err error) bool {
	if err != nil {
		l.lost.Store(true)
		l.fail(fmt.Errorf("log %s: %w", what, err))
	}
	return l.lost.Load()
}

func (l *logFS) begin(f vfs.File, err error) vfs.File {
	if l.check("create", err) {
		if f != nil {
			_ = f.Close() // created just when the log was lost; it stays empty
		}
		return &logFile{File: vfs.NewMemFile(nil), fs: l}
	}
	return &logFile{File: f, fs: l}
}

var errLost = errors.New("the log is lost already")

// Create implements vfs.FS.
func (l *logFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	switch {
	case !isLog(name):
		return l.FS.Create(name, c)
	case l.lost.Load():
		return l.begin(nil, errLost), nil
	default:
		return l.begin(l.FS.Create(name, c)), nil
	}
}

// ReuseForWrite implements vfs.FS.
func (l *logFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	switch {
	case !isLog(newname):
		return l.FS.ReuseForWrite(oldname, newname, c)
	case l.lost.Load():
		return l.begin(nil, errLost), nil
	default:
		return l.begin(l.FS.ReuseForWrite(oldname, newname, c)), nil
	}
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
	if !f.fs.lost.Load() {
		_, err := f.File.Write(p)
		f.fs.check("write", err)
	}
	return len(p), nil
}

func (f *logFile) Preallocate(off, length int64) error {
	if !f.fs.lost.Load() {
		f.fs.check("preallocate", f.File.Preallocate(off, length))
	}
	return nil
}

func (f *logFile) Sync() error {
	if !f.fs.lost.Load() {
		f.fs.check("sync", f.File.Sync())
	}
	return nil
}

func (f *logFile) SyncData() error {
	if !f.fs.lost.Load() {
		f.fs.check("sync", f.File.SyncData())
	}
	return nil
}

func (f *logFile) SyncTo(length int64) (bool, error) {
	if f.fs.lost.Load() {
		return true, nil
	}
	full, err := f.File.SyncTo(length)
	if f.fs.check("sync", err) {
		return true, nil
	}
	return full, nil
}

func (f *logFile) Close() error {
	f.fs.check("close", f.File.Close())
	return nil
}

package pebblekv

import (
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A logFile is a file of the log or of the manifest: what Pebble cannot live
// without, as it cannot without their folder, a logDir.
//
// A file of the log grows ahead of what is written to it, by zeros: a sync of
// what replaces bytes that are on disk need not write the file's metadata, and
// takes half of the time. Pebble knows such ends of logs, for it makes them
// itself where it writes over old logs; the journal does not let it.
type logFile struct {
	vfs.File
	fs *freezeFS

	number uint64 // of a log, else 0

	grows bool  // by zeros
	off   int64 // of the next Write
	high  int64 // behind the zeros
	taken int64 // behind the room that was taken on disk ahead of that
	zeros []byte
}

func (f *logFile) Write(p []byte) (int, error) {
	n := len(p)
	err := f.fs.must("write", func() (err error) {
		if _, err = f.File.Write(p); err == nil {
			f.grow(len(p))
		}
		return err
	}, nothing)
	if err != nil {
		n = 0
	}
	return n, err
}

// Bounds of what a log grows by: a quarter of what it has.
const (
	minGrowth = 32 << 10
	maxGrowth = 256 << 10
)

// grow writes zeros behind what was written, where all former ones are used up.
// When that fails nothing is lost but time.
func (f *logFile) grow(written int) {
	f.off += int64(written)
	if !f.grows || f.off < f.high {
		return
	}
	n := min(max(f.off/4, minGrowth), maxGrowth)
	f.take(f.off + n)
	if int64(len(f.zeros)) < n {
		f.zeros = make([]byte, min(2*n, maxGrowth))
	}
	_, err := f.File.WriteAt(f.zeros[:n], f.off)
	f.high, f.grows = f.off+n, err == nil
}

// Bounds of what room on disk grows by, so that logs are in one piece, more or
// less: as much as there is.
const (
	minTaken     = 64 << 10
	maxTakenStep = 1 << 20
)

// take takes room on disk up to end and beyond, where all of it is used up. When
// that fails nothing is lost.
func (f *logFile) take(end int64) {
	if end <= f.taken {
		return
	}
	to := max(end, minTaken, f.taken+min(f.taken, maxTakenStep))
	_ = f.File.Preallocate(f.taken, to-f.taken)
	f.taken = to
}

// Preallocate does nothing for logs: Pebble takes room for all that a log may
// ever have at its first write, 9 MB for an empty store, and the journal keeps it.
func (f *logFile) Preallocate(off, length int64) error {
	if f.grows {
		return nil
	}
	return f.fs.must("preallocate", func() error { return f.File.Preallocate(off, length) }, nothing)
}

func (f *logFile) Sync() error {
	return f.fs.must("sync", func() error { return f.noted(f.File.Sync()) }, nothing)
}

func (f *logFile) SyncData() error {
	return f.fs.must("sync", func() error { return f.noted(f.File.SyncData()) }, nothing)
}

// noted notes that all that was written is on disk.
func (f *logFile) noted(err error) error {
	if err == nil && f.number != 0 {
		f.fs.synced.note(f.number, f.off)
	}
	return err
}

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

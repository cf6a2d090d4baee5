package pebblekv

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/internal/durable"
)

// A freezeFS stands between Pebble and the disk because Pebble cannot go on
// when it cannot write its log or its manifest: it ends the process by a panic
// under its locks, or goes on and writes a manifest with a hole in it, or never
// comes to an end.
//
// At the first such failure a freezeFS tells the instance, and from that moment
// on nothing reaches the disk any more: what is there stays a beginning of what
// was committed. Pebble hears of no failure; what it writes from then on goes to
// memory (log and manifest to nowhere), so that it always comes to an end, and
// another instance may have the same folder open meanwhile. Nothing is
// acknowledged, since the instance has failed before Pebble hears of a success,
// and whoever waits for a commit asks for the failure afterwards.
//
// That goes for the opening, too: Pebble has work in the background before it is
// open, and ends the process if it then has to give up.
//
// Failures of tables are Pebble's own business: it writes them anew.
type freezeFS struct {
	vfs.FS
	in     *instance
	memory *vfs.MemFS  // what is written after the failure
	listed atomic.Bool // the folder was listed once

	// blobs, where it is set, has to work before anything is written to the log.
	blobs func(context.Context) error
	// rider is them, where the log may ride with them once opening is named.
	rider   Rider
	opening *atomic.Pointer[opening]

	bad badBlocks // of tables

	journal *journal // takes in new files of the log; may be nil
	last    lastLog
	own     ownFiles
	synced  syncedLog

	// busy is held for reading by whoever is changing something on disk.
	busy sync.RWMutex

	// A compaction that could not be written is tried again at once by Pebble;
	// these make the next one wait.
	pause     atomic.Int64 // nanoseconds
	closing   chan struct{}
	closeOnce sync.Once
}

var errFrozen = errors.New("pebblekv: the database has failed and is being closed")

func newFreezeFS(disk vfs.FS, dir string, in *instance) *freezeFS {
	f := &freezeFS{FS: disk, in: in, memory: vfs.NewMem(), closing: make(chan struct{})}
	_ = f.memory.MkdirAll(dir, 0o700) // of a file system in memory
	return f
}

// vital reports whether Pebble cannot live without a file: all in its folder
// but the tables. What is elsewhere belongs to a checkpoint.
func (f *freezeFS) vital(name string) bool {
	return f.PathDir(name) == f.in.dir && !strings.HasSuffix(name, ".sst")
}

// onDisk runs op unless the disk is frozen. The caller holds nothing.
func (f *freezeFS) onDisk(op func() error) error {
	f.busy.RLock()
	defer f.busy.RUnlock()
	if f.in.failure() != nil {
		return errFrozen
	}
	return op()
}

// quiet waits until every operation that has begun is over, and has marked the
// instance as failed where that is how it ended.
func (f *freezeFS) quiet() {
	f.busy.Lock()
	defer f.busy.Unlock()
}

// must runs an operation that Pebble cannot live without. instead is run when
// the disk is frozen, or is by now: before anybody else is let at it.
func (f *freezeFS) must(what string, op, instead func() error) error {
	err := f.onDisk(func() error {
		err := op()
		if err != nil {
			f.in.fail(&os.PathError{Op: what, Path: f.in.dir, Err: err})
		}
		return err
	})
	if err == nil {
		return nil
	}
	return instead()
}

func nothing() error { return nil }

// settled waits until nothing is being written to the disk by a database that
// has failed. It gives up after patience.
func (f *freezeFS) settled(patience time.Duration) bool {
	for end := time.Now().Add(patience); !f.busy.TryLock(); {
		if time.Now().After(end) {
			return false
		}
		time.Sleep(time.Millisecond)
	}
	f.busy.Unlock()
	return true
}

// Create implements vfs.FS.
func (f *freezeFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if !f.vital(name) {
		return f.createTable(name, c)
	}
	return f.begin("create", name, func() (vfs.File, error) {
		if strings.HasPrefix(f.PathBase(name), "marker.") {
			// A marker names a manifest, and must not be there without it;
			// Pebble syncs the folder only behind the two.
			if err := durable.SyncDir(f.FS, f.in.dir); err != nil {
				return nil, err
			}
		}
		return f.create(name, c)
	})
}

// create makes a file; the journal takes it in before it has anything.
func (f *freezeFS) create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	g, err := f.FS.Create(name, c)
	if number, ok := parseLog(f.PathBase(name)); ok && err == nil {
		f.last.begin(number)
	}
	if err == nil && f.journal != nil {
		f.journal.add(name)
	}
	if _, isLog := parseLog(f.PathBase(name)); err == nil && isLog {
		f.owns(name, g)
	} else if err == nil {
		f.owns(name, nil)
	}
	return g, err
}

// ReuseForWrite implements vfs.FS.
func (f *freezeFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.begin("reuse", newname, func() (vfs.File, error) {
		if f.journal == nil {
			if number, ok := parseLog(f.PathBase(newname)); ok {
				f.last.begin(number) // it has the old one's place at once
			}
			f.own.drop(f.PathBase(oldname))
			g, err := f.FS.ReuseForWrite(oldname, newname, c)
			if err == nil {
				f.owns(newname, g)
			}
			return g, err
		}
		// The journal has the old one still: it must not be written over.
		if err := f.removeLog(oldname); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return f.create(newname, c)
	})
}

// begin makes a file of the log or the manifest, in memory where the disk
// fails.
func (f *freezeFS) begin(what, name string, op func() (vfs.File, error)) (file vfs.File, err error) {
	err = f.must(what, func() error {
		g, err := op()
		if err == nil {
			file = f.wrap(name, g)
		}
		return err
	}, func() (err error) {
		file, err = f.memory.Create(name, vfs.WriteCategoryUnspecified)
		return err
	})
	return file, err
}

func (f *freezeFS) wrap(name string, g vfs.File) vfs.File {
	file := &logFile{File: g, fs: f, grows: strings.HasSuffix(name, ".log")}
	file.number, _ = parseLog(f.PathBase(name))
	if f.blobs != nil && strings.HasSuffix(name, ".log") {
		return &heldLog{logFile: file, sync: f.blobs, rider: f.rider}
	}
	return file
}

// flushing is the category of the tables that memory is written to.
const flushing vfs.DiskWriteCategory = "pebble-memtable-flush"

// createTable lets a compaction wait when the one before could not be written.
// Of a database that has failed only what is in memory is written, to memory.
func (f *freezeFS) createTable(name string, c vfs.DiskWriteCategory) (file vfs.File, err error) {
	if d := time.Duration(f.pause.Load()); d > 0 && c != flushing {
		select {
		case <-time.After(d):
		case <-f.closing:
		case <-f.in.failed:
		}
	}
	err = f.onDisk(func() error {
		g, err := f.FS.Create(name, c)
		if err == nil {
			file = &tableFile{File: g, fs: f}
			f.owns(name, nil)
		}
		return err
	})
	if err == errFrozen && c == flushing {
		return f.memory.Create(name, c)
	}
	return file, err
}

// slower is told that the background could not write, faster that it could.
func (f *freezeFS) slower() {
	d := time.Duration(f.pause.Load())
	f.pause.Store(int64(min(max(2*d, 50*time.Millisecond), 10*time.Second)))
}

func (f *freezeFS) faster() { f.pause.Store(0) }

// hurry lets nobody wait any more, before a close.
func (f *freezeFS) hurry() { f.closeOnce.Do(func() { close(f.closing) }) }

// Open implements vfs.FS.
func (f *freezeFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if f.in.failure() != nil {
		if g, err := f.memory.Open(name, opts...); err == nil {
			return g, nil
		}
	}
	g, err := f.FS.Open(name, opts...)
	if err == nil && strings.HasSuffix(name, ".sst") {
		g = f.bad.watch(name, g)
	}
	return g, err
}

// OpenReadWrite implements vfs.FS.
func (f *freezeFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.begin("open", name, func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, opts...) })
}

// OpenDir implements vfs.FS. A new file of the log needs its folder synced.
func (f *freezeFS) OpenDir(name string) (file vfs.File, err error) {
	if name != f.in.dir {
		return f.FS.OpenDir(name)
	}
	err = f.must("open", func() error {
		g, err := f.FS.OpenDir(name)
		if err == nil {
			file = &logDir{File: g, fs: f}
		}
		return err
	}, func() (err error) {
		file, err = f.memory.OpenDir(name)
		return err
	})
	return file, err
}

// Stat implements vfs.FS.
func (f *freezeFS) Stat(name string) (vfs.FileInfo, error) {
	if f.in.failure() != nil {
		if info, err := f.memory.Stat(name); err == nil {
			return info, nil
		}
	}
	return f.FS.Stat(name)
}

// List implements vfs.FS. Pebble lists its folder twice while it opens: at first,
// when it can still give up, and late, to find what is obsolete.
func (f *freezeFS) List(dir string) ([]string, error) {
	names, err := f.FS.List(dir)
	if dir != f.in.dir {
		return names, err
	}
	first := !f.listed.Swap(true)
	if first && err == nil {
		for _, name := range names {
			f.own.add(name, nil)
		}
	}
	if first || err == nil {
		return names, err
	}
	f.in.fail(err)
	return nil, nil
}

// unlessFrozen passes on what Pebble can live without, and says that it was
// done where the disk is frozen.
func (f *freezeFS) unlessFrozen(op func() error) error {
	if err := f.onDisk(op); err != errFrozen {
		return err
	}
	return nil
}

// Remove implements vfs.FS.
func (f *freezeFS) Remove(name string) error {
	return f.unlessFrozen(func() error { return f.removeLog(name) })
}

// RemoveAll implements vfs.FS.
func (f *freezeFS) RemoveAll(name string) error {
	return f.unlessFrozen(func() error { return f.FS.RemoveAll(name) })
}

// MkdirAll implements vfs.FS.
func (f *freezeFS) MkdirAll(dir string, perm os.FileMode) error {
	return f.onDisk(func() error { return f.FS.MkdirAll(dir, perm) })
}

// Rename implements vfs.FS.
func (f *freezeFS) Rename(oldname, newname string) error {
	if !f.vital(newname) {
		return f.onDisk(func() error { return f.FS.Rename(oldname, newname) })
	}
	return f.must("rename", func() error {
		f.own.drop(f.PathBase(oldname))
		err := f.FS.Rename(oldname, newname)
		if err == nil {
			f.owns(newname, nil)
		}
		return err
	}, func() error {
		_ = f.memory.Rename(oldname, newname) // where it is in memory at all
		return nil
	})
}

// Link implements vfs.FS.
func (f *freezeFS) Link(oldname, newname string) error {
	return f.onDisk(func() error { return f.FS.Link(oldname, newname) })
}

// Lock implements vfs.FS. It locks nothing: package datadir has the lock, and
// a database that has failed need not have come to an end when the next one is
// opened.
func (f *freezeFS) Lock(string) (io.Closer, error) { return noLock{}, nil }

type noLock struct{}

func (noLock) Close() error { return nil }

// GetDiskUsage implements vfs.FS. Pebble only paces removals by it, and takes a
// failure for one of its own work; package reserve is who has to know.
func (f *freezeFS) GetDiskUsage(name string) (vfs.DiskUsage, error) {
	usage, err := f.FS.GetDiskUsage(name)
	if err != nil {
		return vfs.DiskUsage{}, vfs.ErrUnsupported
	}
	return usage, nil
}

// Unwrap implements vfs.FS.
func (f *freezeFS) Unwrap() vfs.FS { return f.FS }

// A tableFile is a table that is being written.
type tableFile struct {
	vfs.File
	fs *freezeFS
}

func (t *tableFile) Write(p []byte) (n int, err error) {
	err = t.fs.onDisk(func() (err error) {
		n, err = t.File.Write(p)
		return err
	})
	return n, err
}

func (t *tableFile) Preallocate(off, length int64) error {
	return t.fs.onDisk(func() error { return t.File.Preallocate(off, length) })
}

func (t *tableFile) Sync() error { return t.fs.onDisk(t.File.Sync) }

func (t *tableFile) SyncData() error { return t.fs.onDisk(t.File.SyncData) }

func (t *tableFile) SyncTo(length int64) (full bool, err error) {
	err = t.fs.onDisk(func() (err error) {
		full, err = t.File.SyncTo(length)
		return err
	})
	return full, err
}

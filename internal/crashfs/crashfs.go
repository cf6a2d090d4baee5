// Package crashfs is a file system for tests that loses power. It lives in
// memory, knows what has been synced (files and directory entries apart), and
// at a chosen operation keeps what a disk would have kept; or it fails a chosen
// operation, as a disk does that is full or broken.
//
// [EveryCut] is the test that a store wants: it runs a scenario again and again
// and cuts it one operation later each time. [FS] is the file system itself, to
// be given to pebblekv, bloblog and datadir.
//
// It builds on Pebble's vfs.MemFS and errorfs, so a cut forgets whole blocks of
// 4 kB of what was not synced. Clocks, networks and torn sectors within a block
// are not its business.
package crashfs

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// FS is a vfs.FS in memory. Its methods are safe for concurrent use.
type FS struct {
	vfs.FS
	mem *vfs.MemFS

	mu     sync.Mutex
	ops    int // operations that change something, so far
	cutAt  int
	clones []Clone
	fail   func(errorfs.Op) error
}

// A Clone is what the disk has after a power cut.
type Clone struct {
	FS *FS
	// Kept is the chance, in percent, that a block or a directory entry which
	// was not synced had reached the disk all the same.
	Kept int
}

// New returns an empty file system that neither cuts nor fails.
func New() *FS { return wrap(vfs.NewCrashableMem()) }

func wrap(mem *vfs.MemFS) *FS {
	f := &FS{mem: mem}
	f.FS = errorfs.Wrap(mem, errorfs.InjectorFunc(f.before))
	return f
}

// Ops says how many operations have changed something: creations, writes,
// syncs, renames, removals.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// CutAt cuts the power just before the n-th of the changing operations that
// follow, counted from 1. The program under test does not notice: it goes on in
// a world of its own, and [FS.Alive] tells the test what still counts.
func (f *FS) CutAt(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cutAt, f.clones = f.ops+n, nil
}

// Alive reports whether the power was still on. What the program acknowledged
// before Alive returned true must be found after the cut.
func (f *FS) Alive() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.clones == nil
}

// Clones returns what the disk may have after the cut, the harshest first: with
// nothing that was not synced, with half of it, with all of it. Without a cut
// so far it cuts now.
func (f *FS) Clones() []Clone {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.clones == nil {
		f.cut()
	}
	return f.clones
}

// cut needs f.mu.
func (f *FS) cut() {
	for _, percent := range []int{0, 50, 100} {
		f.clones = append(f.clones, Clone{
			Kept: percent,
			FS: wrap(f.mem.CrashClone(vfs.CrashCloneCfg{
				UnsyncedDataPercent: percent,
				RNG:                 rand.New(rand.NewPCG(uint64(f.ops), uint64(percent))),
			})),
		})
	}
}

// Fail asks fn before every operation, reading ones included, and fails the
// operation with the error that fn returns. nil heals the disk.
func (f *FS) Fail(fn func(errorfs.Op) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fn
}

// Space says what the disk shows as its size and as free. A new FS does not know.
// What is written does not change it.
func (f *FS) Space(free, total uint64) {
	f.mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: free, TotalBytes: total, UsedBytes: total - free})
}

// before is called ahead of each operation.
func (f *FS) before(op errorfs.Op) error {
	f.mu.Lock()
	if changes(op) {
		f.ops++
		if f.ops == f.cutAt && f.clones == nil {
			f.cut()
		}
	}
	fail := f.fail
	f.mu.Unlock()
	if fail != nil {
		return fail(op)
	}
	return nil
}

// changes leaves out what has no effect on the disk of a MemFS.
func changes(op errorfs.Op) bool {
	switch op.Kind {
	case errorfs.OpLock, errorfs.OpFileClose, errorfs.OpFilePreallocate, errorfs.OpFileFlush, errorfs.OpFileSyncTo:
		return false
	}
	return op.Kind.ReadOrWrite() == errorfs.OpIsWrite
}

// Nth fails the n-th operation that match accepts, and the times-1 after it,
// with err. It is for [FS.Fail].
func Nth(n, times int, err error, match func(errorfs.Op) bool) func(errorfs.Op) error {
	var mu sync.Mutex
	seen := 0
	return func(op errorfs.Op) error {
		if !match(op) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if seen++; seen >= n && seen < n+times {
			return err
		}
		return nil
	}
}

// FailNth fails the n-th of the changing operations that follow, counted from 1, and
// the times-1 after it, with err. failed reports whether it has come to that.
func (f *FS) FailNth(n, times int, err error) (failed func() bool) {
	var hit atomic.Bool
	nth := Nth(n, times, err, changes)
	f.Fail(func(op errorfs.Op) error {
		err := nth(op)
		if err != nil {
			hit.Store(true)
		}
		return err
	})
	return hit.Load
}

// Changes matches every operation that changes something, for [Nth].
func Changes(op errorfs.Op) bool { return changes(op) }

// Syncs matches syncs of files and directories, for [Nth].
func Syncs(op errorfs.Op) bool {
	return op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData
}

// TooManyFiles is what a process hears that has too many files open.
func TooManyFiles(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpCreate, errorfs.OpOpen, errorfs.OpOpenDir, errorfs.OpReuseForWrite, errorfs.OpList, errorfs.OpLock:
		return syscall.EMFILE
	}
	return nil
}

// Broken is what a broken disk says to whoever changes something.
func Broken(op errorfs.Op) error {
	if changes(op) {
		return syscall.EIO
	}
	return nil
}

// Full is what a full disk says. It matches the operations that need space: also
// new names in a folder, and syncs, since what was written before, when there
// still was room, is given its place only then by many file systems.
func Full(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpMkdirAll, errorfs.OpLink, errorfs.OpRename:
		return syscall.ENOSPC
	}
	return FullLate(op)
}

// FullLate is what a full disk says that takes writes into memory first: only the
// sync finds that there is no room.
func FullLate(op errorfs.Op) error {
	if Syncs(op) {
		return syscall.ENOSPC
	}
	return nil
}

package pebblekv

import (
	"errors"
	"io/fs"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A lastLog keeps the newest log in the store's folder until a newer one is
// there durably. Pebble lets the log of a closed store go before it has made the
// next one: in between a power cut would leave a whole store without any log,
// and nobody could tell it from one whose newest log was lost.
type lastLog struct {
	mu      sync.Mutex
	begun   uint64   // the newest log that was made
	durable uint64   // the newest whose name is on disk, 0 before the first
	kept    []uint64 // those that go when a newer one is durable
}

func (l *lastLog) begin(number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begun = max(l.begun, number)
}

// keep reports whether a log must stay for now; it is let go later.
func (l *lastLog) keep(number uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if number < l.durable {
		return false
	}
	if !slices.Contains(l.kept, number) {
		l.kept = append(l.kept, number)
	}
	return true
}

// synced runs a sync of the folder, and returns what may go after it.
func (l *lastLog) synced(sync func() error) (free []uint64, err error) {
	l.mu.Lock()
	begun := l.begun
	l.mu.Unlock()
	if err := sync(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.durable = max(l.durable, begun)
	l.kept = slices.DeleteFunc(l.kept, func(n uint64) bool {
		if n < l.durable {
			free = append(free, n)
		}
		return n < l.durable
	})
	return free, nil
}

// removeLog removes a log, or has it removed when a newer one is durable.
func (f *freezeFS) removeLog(name string) error {
	if number, ok := parseLog(f.PathBase(name)); ok && f.PathDir(name) == f.in.dir && f.last.keep(number) {
		return nil
	}
	return f.unlink(name)
}

// syncLogs syncs the store's folder, and removes the logs that were kept for it.
func (f *freezeFS) syncLogs(sync func() error) error {
	free, err := f.last.synced(sync)
	for _, number := range free {
		name := f.PathJoin(f.in.dir, logName(number))
		if err := f.unlink(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.in.log.Warn("an old log of the index cannot be removed; the next start tries it again", "file", name, "err", err)
		}
	}
	return err
}

// A logDir is the store's folder. When it was synced, the names of the logs in
// it are durable.
type logDir struct {
	vfs.File
	fs *freezeFS
}

func (d *logDir) Sync() error {
	return d.fs.must("sync", func() error { return d.fs.syncLogs(d.File.Sync) }, nothing)
}

// Close closes the folder in any case.
func (d *logDir) Close() error {
	err := d.File.Close()
	return d.fs.must("close", func() error { return err }, nothing)
}

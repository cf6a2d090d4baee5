// Package reserve refuses writes before a disk is full, so that the engines,
// which need space to take space back, never run out of it: a disk that is full
// by somebody's mail stays one that mail can be read from and deleted from.
//
// It is no quota, and protects from nobody who fills the disk past this
// program; package pebblekv has what happens then. Start with [New], and put
// [Guard.KV] and [Guard.Blobs] between mailstore and the engines.
package reserve

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// Options says what is kept free.
type Options struct {
	// FS is where Path is; nil is the machine's file system.
	FS vfs.FS
	// Path is any folder on the disk in question.
	Path string
	// Bytes is how much is kept free of messages. A quarter of it is kept free
	// of changes to the index as well. 0 is 256 MiB, or a twentieth of the disk
	// where that is less, but 64 MiB at least, or a third of a very small disk: the
	// index and its journal take room in steps (a log and a flush of 8 MiB, a
	// compaction, a saved state), after a change was let through. A negative
	// number keeps nothing free.
	Bytes int64
	// Ballast is the name of a file that may be a part of the reserve: it is
	// counted as free. See [Guard.TakeBallast]. Empty: there is none.
	Ballast string
	// Pressed is told, while there is no room for messages, how many bytes may be
	// written all the same in order to take space back, and 0 when there is room
	// again. It is called often, with the guard's lock held. nil: nobody is.
	Pressed func(bytes int64)
	// Logger is told when a disk gets full, and when it has room again; nil is
	// slog.Default().
	Logger *slog.Logger
}

// Guard knows how much is free. Its methods are safe for concurrent use.
type Guard struct {
	opts Options

	mu      sync.Mutex
	pending int64     // bytes of messages that are being written
	asked   time.Time // when the system was asked, zero where it must be asked again
	wealth  int64     // bytes that may be written until then
	level   level     // what was logged last
	blind   bool      // the free space cannot be found out, which was logged
	refused int64     // size of a message that was, while Options.Pressed knows of it
	ballast int64     // bytes of the file Options.Ballast, 0 where there is none
}

// level is what is refused.
type level int

const (
	room  level = iota
	tight       // no messages
	out         // no changes
)

const (
	defaultBytes = 256 << 20
	defaultPart  = 20
	leastBytes   = 64 << 20
	leastPart    = 3
	indexPart    = 4
)

// New returns a guard of the disk that opts.Path is on.
func New(opts Options) *Guard {
	if opts.FS == nil {
		opts.FS = vfs.Default
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	g := &Guard{opts: opts}
	g.findBallast()
	return g
}

// Room reports, by an error of kind Unavailable, that there is no room for a
// message of size bytes.
func (g *Guard) Room(size int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.roomLocked(size)
}

func (g *Guard) roomLocked(size int64) error {
	if free, level := g.look(size); level != room {
		return &imap.Error{
			Op: "store a message", Kind: imap.Unavailable, Text: "The server has no room for messages now; try again later",
			Err: fmt.Errorf("the disk of %s has %d MiB left, which are kept for other things: make room on it", g.opts.Path, free>>20),
		}
	}
	return nil
}

// change reports that not even the index may grow.
func (g *Guard) change() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if free, level := g.look(0); level == out {
		return &imap.Error{
			Op: "index update", Kind: imap.Unavailable, Text: "The server's disk is full; nothing can be changed now, try again later",
			Err: fmt.Errorf("the disk of %s has %d MiB left: make room on it", g.opts.Path, free>>20),
		}
	}
	return nil
}

// A disk on which there is much more room than what is kept free is not asked about
// before each write: a statfs takes three microseconds or more, and an APPEND has
// two writes. Whoever fills disks needs longer than this for a quarter of plenty.
const (
	plenty   = 2 << 30
	askAgain = 50 * time.Millisecond
)

// rich reports whether someone who needs size bytes need not ask. g.mu is held.
func (g *Guard) rich(size int64) bool {
	g.wealth -= size
	return g.wealth > 0 && time.Since(g.asked) < askAgain
}

// look finds out what is free, and what is to be refused to someone who needs
// size bytes; where there is plenty, free is 0. g.mu is held.
func (g *Guard) look(size int64) (free int64, l level) {
	if g.opts.Bytes < 0 || g.rich(size) {
		return 0, room
	}
	usage, err := g.opts.FS.GetDiskUsage(g.opts.Path)
	if err != nil {
		if !g.blind {
			g.opts.Logger.Warn("how much of the disk is free cannot be found out; no reserve is kept", "path", g.opts.Path, "err", err)
		}
		g.blind = true
		return 0, room
	}
	keep := g.opts.Bytes
	if keep == 0 {
		keep = keepOf(usage)
	}
	free = int64(min(usage.AvailBytes, 1<<62)) + g.ballast
	g.asked, g.wealth = time.Now(), 0
	if free-g.pending-keep > plenty && g.refused == 0 {
		g.wealth = plenty / 4
	}
	switch {
	case free < keep/indexPart:
		l = out
	case free-g.pending < keep:
		l = tight
	}
	g.tell(free, l)
	if l == room && free-g.pending-size < keep {
		l = tight // for this one; shorter ones may still fit
	}
	g.press(l, size, free, keep)
	return free, l
}

// press tells how much may be written to take space back: what is above the part
// for the index, as long as there is no room for what was refused last. g.mu is
// held.
func (g *Guard) press(l level, size, free, keep int64) {
	if g.opts.Pressed == nil {
		return
	}
	if l == tight {
		g.refused = max(g.refused, min(size, keep/indexPart))
	}
	switch {
	case l == out:
		g.opts.Pressed(0)
	case l == tight || free-g.pending-g.refused < keep:
		g.opts.Pressed(max(free-keep/indexPart, 0))
	default:
		g.refused = 0
		g.opts.Pressed(0)
	}
}

// keepOf is how much of a disk is kept free by default.
func keepOf(usage vfs.DiskUsage) int64 {
	total := int64(min(usage.TotalBytes, 1<<62))
	return max(min(defaultBytes, total/defaultPart), min(leastBytes, total/leastPart))
}

// tell logs what has changed. g.mu is held.
func (g *Guard) tell(free int64, l level) {
	if l == g.level {
		return
	}
	g.level = l
	mib := free >> 20
	switch l {
	case room:
		g.opts.Logger.Info("the disk has room again; everything is taken", "path", g.opts.Path, "free-mib", mib)
	case tight:
		g.opts.Logger.Error("the disk is nearly full: no messages are taken until there is room; reading and deleting goes on", "path", g.opts.Path, "free-mib", mib)
	case out:
		g.opts.Logger.Error("the disk is full: no changes are taken until there is room; reading goes on", "path", g.opts.Path, "free-mib", mib)
	}
}

// KV returns kv with the guard before its changes. The store's own records,
// which are few, are always written: a server must be able to start and stop.
func (g *Guard) KV(kv driver.KV) driver.KV { return guardedKV{kv, g} }

type guardedKV struct {
	driver.KV
	guard *Guard
}

// Update implements driver.KV.
func (k guardedKV) Update(ctx context.Context, a driver.Account, fn func(driver.Txn) error) error {
	if a != 0 {
		change := fn
		fn = func(tx driver.Txn) error { return change(&guardedTxn{tx, k.guard, false}) }
	}
	return k.KV.Update(ctx, a, fn)
}

// A guardedTxn asks before its first write: a transaction may end without any.
type guardedTxn struct {
	driver.Txn
	guard *Guard
	asked bool
}

func (t *guardedTxn) ask() error {
	if t.asked {
		return nil
	}
	t.asked = true
	return t.guard.change()
}

// Set implements driver.Txn.
func (t *guardedTxn) Set(key, value []byte) error {
	if err := t.ask(); err != nil {
		return err
	}
	return t.Txn.Set(key, value)
}

// Delete implements driver.Txn.
func (t *guardedTxn) Delete(key []byte) error {
	if err := t.ask(); err != nil {
		return err
	}
	return t.Txn.Delete(key)
}

// DeleteRange implements driver.Txn.
func (t *guardedTxn) DeleteRange(from, to []byte) error {
	if err := t.ask(); err != nil {
		return err
	}
	return t.Txn.DeleteRange(from, to)
}

// Blobs returns blobs with the guard before new ones.
func (g *Guard) Blobs(blobs driver.Blobs) driver.Blobs { return guardedBlobs{blobs, g} }

type guardedBlobs struct {
	driver.Blobs
	guard *Guard
}

// Create implements driver.Blobs.
func (b guardedBlobs) Create(ctx context.Context, a driver.Account, size int64) (driver.Writer, error) {
	w := &writer{guard: b.guard}
	if err := w.promise(max(size, 0)); err != nil {
		return nil, err
	}
	inner, err := b.Blobs.Create(ctx, a, size)
	if err != nil {
		w.forget()
		return nil, err
	}
	w.Writer = inner
	return w, nil
}

// A writer holds room for what it will write. Where that is not known it asks
// for more as it goes.
type writer struct {
	driver.Writer
	guard    *Guard
	promised int64
	written  int64
}

// step is how much a writer of unknown length asks for at once.
const step = 1 << 20

func (w *writer) promise(n int64) error {
	w.guard.mu.Lock()
	defer w.guard.mu.Unlock()
	if err := w.guard.roomLocked(n); err != nil {
		return err
	}
	w.promised += n
	w.guard.pending += n
	return nil
}

func (w *writer) forget() {
	w.guard.mu.Lock()
	defer w.guard.mu.Unlock()
	w.guard.pending -= w.promised
	w.promised = 0
}

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	for w.written+int64(len(p)) > w.promised {
		if err := w.promise(step); err != nil {
			return 0, err
		}
	}
	n, err := w.Writer.Write(p)
	w.written += int64(n)
	return n, err
}

// Release implements driver.Writer.
func (w *writer) Release() {
	w.forget()
	w.Writer.Release()
}

// Package bloblog keeps messages in append-only segment files: one checksummed
// record per message, one sync for all writers that wait at the same time, and
// space taken back in the background. It implements driver.Blobs and knows
// nothing of mailboxes.
//
// Start with [Open]. docs/design/020-embedded-engine.md has the reasons, and
// format.go the format.
//
// # How it works
//
// A blob's Ref is the place (segment and offset) where it was first written, so
// finding it takes no index, in memory or on disk. Only blobs that were moved
// when space was taken back are in a table: 12 bytes each.
//
// A message up to 256 kB is gathered in memory and appended whole to the
// segment that all share. A longer one gets a segment to itself while it is
// written (a lane; it goes on to be filled by the next), so that a slow upload
// holds up nobody, is not kept in memory and is not copied.
package bloblog

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/durable"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// Options says how a store is opened. The zero value is what a daemon wants.
type Options struct {
	// FS is where the files are; nil is the machine's file system.
	FS vfs.FS
	// SegmentBytes is the size at which a segment is sealed and the next one
	// begun; 0 is 64 MB. A record is never split, so segments may be larger.
	SegmentBytes int64
	// MaxWaste is the part of a segment that may be dead before what lives in
	// it is moved and the file removed; 0 is 0.5. Less saves space and costs
	// writing.
	MaxWaste float64
	// TidyRate is how many bytes a second are moved in the background to take
	// back space, while others use the store: 0 is 32 MB, less than 0 any number.
	TidyRate int64
	// RideShare is how much of other people's bytes may ride with messages (see
	// [Store.Ride]), as a part of what these take: 0 is 0.5. It is waste.
	RideShare float64
	// OpenFiles bounds the segments that are kept open while nobody reads
	// them; 0 is 128.
	OpenFiles int
	// Compress is what is done to new records; they are read whatever it is.
	Compress Compression
	// Manual leaves sealing and taking back space to calls of [Store.Tidy].
	// Tests want it.
	Manual bool
	// Logger gets what an operator should know; nil is slog.Default().
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.MaxWaste == 0 {
		o.MaxWaste = 0.5
	}
	if o.TidyRate == 0 {
		o.TidyRate = 32 << 20
	}
	if o.RideShare == 0 {
		o.RideShare = 0.5
	}
	if o.OpenFiles == 0 {
		o.OpenFiles = 128
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// smallMax is the length up to which a blob is gathered in memory, in a buffer
// that has firstRoom at first; maxLanes is how many longer ones may be written at
// once.
const (
	smallMax  = 256 << 10
	firstRoom = 16 << 10
	maxLanes  = 64
)

// Store is a driver.Blobs in a folder. Its methods are safe for concurrent use.
//
// Locks, outer ones first: looking, tidying, shared, the dead log's, steady, a segment's
// syncing, mu, and a segment's own. No file is read or written with mu held.
type Store struct {
	dir  string
	opts Options

	shared  sharedLane    // where short blobs go
	lanes   chan struct{} // counts those who write long ones
	group   group         // the callers of Sync
	deadLog *deadLog
	heads   sync.Pool // of firstRead bytes
	bufs    sync.Pool // of *[]byte: those of writers
	ahead   readAhead
	opened  atomic.Int32
	pressed atomic.Int64 // see Press

	syncCalls atomic.Int64
	codec     *codec

	// tidying is held by the one who seals or moves. steady is held for writing
	// at the moment when moved blobs change their place.
	tidying sync.Mutex
	mover   *lane // where moved blobs go; nil until there are any
	steady  sync.RWMutex

	looking  sync.Mutex // held by Look
	observer durable.Observer
	unsaved  bool // Look has found what it could not save

	mu        sync.Mutex
	closed    bool
	segments  map[uint32]*segment
	lastID    uint32
	clock     int64 // counts uses of segments
	rested    int64 // the clock at the last step of taking back space
	moves     moveTable
	dead      deadSet
	pins      map[driver.Ref]*pin
	shares    map[driver.Account]*share
	sweeping  int                     // Sweeps that are gathering
	fresh     map[driver.Ref]bool     // finished while a Sweep was gathering
	free      []*lane                 // begun, and nobody writes to them
	spare     *lane                   // the next shared one, or nil
	idle      list.List               // sealed segments without users, the one used last at the end
	dirty     map[*segment][]*writer  // written to since the last sync
	lost      int                     // writers whose blob a failed sync has lost
	doomed    map[*segment]bool       // not in segments any more, but on the disk still
	toSeal    []sealing               // full, or left by a crash
	stuck     map[uint32]bool         // cannot be moved: damaged
	damaged   map[driver.Ref]struct{} // counted in stats.Damaged
	lostMoves bool                    // a damaged segment hides where some blobs are
	stale     map[driver.Ref]int      // older copies that a crash has left
	riders    []rider                 // not settled
	stats     Stats                   // counters only

	spareWanted bool // begin it in the background

	kick     chan struct{}
	quit     context.CancelFunc
	finished sync.WaitGroup
}

var _ driver.Blobs = (*Store)(nil)

// A pin keeps a blob from Sweep and Delete; deleted is the entry of one that
// was deleted meanwhile, which the dead log has already.
type pin struct {
	deleted *entry
}

// Stats is what the store has and what it has done since it was opened.
type Stats struct {
	Segments  int   // files
	Bytes     int64 // in them
	DeadBytes int64 // of these, waiting to be taken back, or for readers or a disk to let go

	Stored      int64 // blobs that were finished
	Content     int64 // their bytes
	StoredBytes int64 // those of their records: less where they are compressed
	Syncs       int64 // rounds of syncs
	SyncCalls   int64 // calls that asked for one: SyncCalls / Syncs share a round
	Rides       int64 // of the rounds, those with which a part of the index's log became durable
	RideBytes   int64 // that these took in segments

	Moved          int64 // blobs moved to take back space
	MovedBytes     int64 // with their records
	Removed        int64 // segments removed
	ReclaimedBytes int64 // that they had; what lived in them is in MovedBytes
	Damaged        int64 // records, and heads and indexes of segments, that were found not to match their checksum; each counts once
}

// Open opens the store in the folder dir, which it makes when it is not there.
// The caller makes sure that no other process has it open: package datadir.
// What a crash left half-written is left out; nothing that was synced is.
func Open(dir string, opts Options) (*Store, error) {
	codec, err := newCodec(opts.Compress)
	if err != nil {
		return nil, ioError("blobs open", err)
	}
	ctx, quit := context.WithCancel(context.Background())
	s := &Store{
		codec:    codec,
		dir:      dir,
		opts:     opts.withDefaults(),
		lanes:    make(chan struct{}, maxLanes),
		segments: make(map[uint32]*segment),
		moves:    make(moveTable),
		dead:     make(deadSet),
		pins:     make(map[driver.Ref]*pin),
		shares:   make(map[driver.Account]*share),
		fresh:    make(map[driver.Ref]bool),
		dirty:    make(map[*segment][]*writer),
		doomed:   make(map[*segment]bool),
		stuck:    make(map[uint32]bool),
		damaged:  make(map[driver.Ref]struct{}),
		stale:    make(map[driver.Ref]int),
		kick:     make(chan struct{}, 1),
		quit:     quit,
	}
	s.group.turn = make(chan struct{}, 1)
	if err := s.recover(); err != nil {
		quit()
		s.closeFiles()
		return nil, ioError("blobs open", fmt.Errorf("%s: %w", dir, err))
	}
	if !s.opts.Manual {
		s.finished.Go(func() { s.tidyLoop(ctx) })
		s.wake()
	}
	return s, nil
}

// check is what every call begins with.
func (s *Store) check(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return imap.E(op, imap.Closed, nil)
	}
	return nil
}

// wake has the background look for something to do.
func (s *Store) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// Stats says how large the store is and what it has done.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.SyncCalls = s.syncCalls.Load()
	st.Segments = len(s.segments) + len(s.doomed)
	st.Bytes, st.DeadBytes = s.sizesLocked()
	for g := range s.doomed {
		st.Bytes += g.length()
		st.DeadBytes += g.length()
	}
	return st
}

// sizesLocked returns what is in the segments and what of it is dead, without
// those that are only waiting for their files to go.
func (s *Store) sizesLocked() (all, dead int64) {
	for _, g := range s.segments {
		all += g.length()
		dead += g.dead
	}
	return all, dead
}

// Close implements driver.Blobs. It seals what is begun, so that the next Open
// has nothing to look through.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.quit()
	s.finished.Wait()

	s.tidying.Lock()
	defer s.tidying.Unlock()
	s.shared.mu.Lock()
	begun := []*lane{s.shared.lane, s.mover}
	s.shared.lane, s.mover = nil, nil
	s.shared.mu.Unlock()
	s.mu.Lock()
	begun = append(append(begun, s.free...), s.spare)
	s.free, s.spare = nil, nil
	for _, l := range begun {
		if l != nil {
			s.toSeal = append(s.toSeal, sealing{l.seg, l.high})
		}
	}
	s.mu.Unlock()
	err := s.sealAll()
	if e := s.deadLog.close(); err == nil {
		err = e
	}
	s.closeFiles()
	if err != nil {
		return ioError("blobs close", err)
	}
	return nil
}

func (s *Store) closeFiles() {
	for _, g := range s.segments {
		g.closeFile() // what had to be durable is synced
	}
}

// acquire keeps the segment's file until release.
func (s *Store) acquire(id uint32) *segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acquireLocked(id)
}

func (s *Store) acquireLocked(id uint32) *segment {
	g := s.segments[id]
	if g != nil {
		s.clock++
		s.holdLocked(g)
	}
	return g
}

// holdLocked counts one more user, for release.
func (s *Store) holdLocked(g *segment) {
	g.users++
	if g.idle != nil {
		s.idle.Remove(g.idle)
		g.idle = nil
	}
}

// release gives the segment back. The last user of a doomed one removes it, and
// when too many files are open the one that was used longest ago is closed.
func (s *Store) release(g *segment) {
	s.mu.Lock()
	g.users--
	remove := g.doomed && g.users == 0
	if !g.doomed && g.users == 0 && g.mayClose() {
		g.idle = s.idle.PushBack(g)
	}
	for int(s.opened.Load()) > s.opts.OpenFiles && s.idle.Len() > 0 {
		oldest := s.idle.Remove(s.idle.Front()).(*segment)
		oldest.idle = nil
		oldest.closeFile() // it was read only
	}
	s.mu.Unlock()
	if remove {
		s.remove(g)
	}
}

// remove takes the file of a doomed segment away. It is not in the table any
// more; a crash before the folder is synced brings back the file only, with
// nothing in it that is not elsewhere or dead. What cannot be removed is waste
// until Tidy, which tries again, or the next Open gets rid of it.
func (s *Store) remove(g *segment) {
	g.closeFile()
	name := g.name(g.isSealed(), g.moved)
	if err := s.opts.FS.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.opts.Logger.Warn("a segment of no more use cannot be removed", "file", name, "err", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.doomed, g)
}

// removeDoomed removes what could not be removed when its last user left.
func (s *Store) removeDoomed() {
	var list []*segment
	s.mu.Lock()
	for g := range s.doomed {
		if g.users == 0 {
			list = append(list, g)
		}
	}
	s.mu.Unlock()
	for _, g := range list {
		s.remove(g)
	}
}

// ioError gives err a kind, unless it has one.
func ioError(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case imap.KindOf(err) != imap.Other:
		return err
	}
	kind := imap.Unavailable
	if errors.Is(err, errNewer) {
		kind = imap.ContactAdmin
	}
	for _, damage := range []error{errBadHeader, errBadRecord, errBadContent, errBadTail, errBadFooter} {
		if errors.Is(err, damage) {
			kind = imap.Corruption
		}
	}
	return imap.E(op, kind, err)
}

package bloblog

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/internal/durable"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// A lane is a segment that is being written, by one writer at a time.
type lane struct {
	seg  *segment
	file vfs.File
	salt uint64
	off  int64 // where the next record goes; a record that failed leaves it
	high int64 // behind everything ever written, zeros that wait for records included
	bad  bool  // a write has failed for another reason than want of space
}

// sharedLane is the lane that all short blobs go to.
type sharedLane struct {
	mu    sync.Mutex
	lane  *lane  // nil until somebody writes
	zeros []byte // what it grows by
	rider []byte // the memory of the last rider's record
}

// A sealing is a segment that nobody writes to any more; end is behind
// everything written.
type sealing struct {
	seg *segment
	end int64
}

const categoryBlobs vfs.DiskWriteCategory = "rookery-blobs"

// newLane begins a segment. Its name is durable before the first Ref in it is
// given out, so that no number is ever used twice.
func (s *Store) newLane(moved bool) (*lane, error) {
	s.mu.Lock()
	s.lastID++
	g := &segment{id: s.lastID, fs: s.opts.FS, dir: s.dir, opened: &s.opened, moved: moved, salt: rand.Uint64(), size: segmentHeader}
	s.mu.Unlock()

	name := g.name(false, moved)
	f, err := s.opts.FS.OpenReadWrite(name, categoryBlobs)
	if err != nil {
		return nil, err
	}
	if err = writeSegmentHeader(f, g); err == nil {
		err = durable.SyncDir(s.opts.FS, s.dir)
	}
	if err != nil {
		f.Close()
		_ = s.opts.FS.Remove(name) // Open passes over it when this fails too
		return nil, err
	}
	g.setFile(f)
	s.mu.Lock()
	s.segments[g.id] = g
	s.mu.Unlock()
	return &lane{seg: g, file: f, salt: g.salt, off: segmentHeader, high: segmentHeader}, nil
}

func writeSegmentHeader(f vfs.File, g *segment) error {
	if _, err := f.WriteAt(encodeSegmentHeader(g.id, g.salt), 0); err != nil {
		return err
	}
	return f.SyncData()
}

// writeAt writes into the lane at pos.
func (l *lane) writeAt(p []byte, pos int64) error {
	l.high = max(l.high, pos+int64(len(p)))
	_, err := l.file.WriteAt(p, pos)
	if err != nil && !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		l.bad = true // that place may never work again; another will
	}
	return err
}

// full reports whether the lane's segment is to be sealed.
func (s *Store) full(l *lane) bool { return l.bad || l.off >= s.opts.SegmentBytes }

// takeLane gives the caller a lane of its own, for a long blob of the account.
// ctx ends the wait for one that others have; a lane that is free is given
// whatever ctx says.
func (s *Store) takeLane(ctx context.Context, a driver.Account) (*lane, error) {
	if err := s.takeShare(ctx, a); err != nil {
		return nil, err
	}
	if err := take(ctx, s.lanes); err != nil {
		s.giveShare(a)
		return nil, err
	}
	s.mu.Lock()
	if n := len(s.free); n > 0 {
		l := s.free[n-1]
		s.free = s.free[:n-1]
		s.mu.Unlock()
		return l, nil
	}
	s.mu.Unlock()
	l, err := s.newLane(false)
	if err != nil {
		<-s.lanes
		s.giveShare(a)
	}
	return l, err
}

// giveLane gives back a lane that the account had.
func (s *Store) giveLane(l *lane, a driver.Account) {
	full := s.full(l) // asked now: once it is free, it is the next writer's
	s.mu.Lock()
	full = full || l.parted()
	switch {
	case l.seg.failed:
		// Nothing more goes there; what is in it stays readable.
	case full:
		s.toSeal = append(s.toSeal, sealing{l.seg, l.high})
	default:
		s.free = append(s.free, l)
	}
	s.mu.Unlock()
	<-s.lanes
	s.giveShare(a)
	if full {
		s.wake()
	}
}

// appendRecord appends a record that is whole in memory (its header's place in
// rec is filled in here) to the shared lane.
func (s *Store) appendRecord(w *writer, rec []byte, h recordHeader) error {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	l := s.shared.lane
	if l != nil && s.hasFailed(l.seg) {
		l = nil
	}
	if l == nil {
		var err error
		if l, err = s.takeSpare(); err != nil {
			return err
		}
		s.shared.lane = l
	}
	at := placeAt(l.seg.id, l.off)
	h.ref = at.ref()
	h.encode(rec, l.salt, at)
	err := l.writeAt(rec, l.off)
	if err == nil {
		l.off += int64(len(rec))
		s.grow(l)
		s.wantSpare(l)
		err = s.publish(l, w, entry{w.account, h.ref, at.off, uint32(len(rec) / alignment)})
	}
	s.retireFull(l)
	return err
}

// retireFull has the shared lane sealed where it is full. s.shared.mu is held.
func (s *Store) retireFull(l *lane) {
	if !s.full(l) {
		return
	}
	s.shared.lane = nil
	s.mu.Lock()
	s.toSeal = append(s.toSeal, sealing{l.seg, l.high})
	s.mu.Unlock()
	s.wake()
}

// wantSpare has the next segment begun before a shared lane is full, so that
// nobody waits for it.
func (s *Store) wantSpare(l *lane) {
	if s.opts.Manual || l.off < s.opts.SegmentBytes/4*3 {
		return
	}
	s.mu.Lock()
	begin := s.spare == nil && !s.spareWanted
	s.spareWanted = s.spareWanted || begin
	s.mu.Unlock()
	if begin {
		s.wake()
	}
}

// prepareSpare begins the next shared lane if that is wanted. Who needs it before
// it is there, or where that fails, begins it without.
func (s *Store) prepareSpare() error {
	s.mu.Lock()
	wanted := s.spareWanted
	s.mu.Unlock()
	if !wanted {
		return nil
	}
	l, err := s.newLane(false)
	s.mu.Lock()
	s.spareWanted = false
	switch {
	case err != nil:
	case s.spare == nil:
		s.spare = l
	default: // another call was faster
		s.free = append(s.free, l)
	}
	s.mu.Unlock()
	return ioError("blobs prepare", err)
}

// takeSpare returns a lane that nobody has written to.
func (s *Store) takeSpare() (*lane, error) {
	s.mu.Lock()
	l := s.spare
	s.spare = nil
	s.mu.Unlock()
	if l != nil {
		return l, nil
	}
	return s.newLane(false)
}

// minGrowth and maxGrowth bound what a shared lane grows by.
const (
	minGrowth = 64 << 10
	maxGrowth = 1 << 20
)

// grow keeps zeros behind the records of the shared lane: a sync of what
// replaces bytes that are on disk has no metadata of the file to write, and
// takes a third of the time. A lane grows by a quarter of what it has, up to
// the size at which it is sealed. Where that fails nothing is lost but time.
func (s *Store) grow(l *lane) {
	if l.off < l.high {
		return
	}
	n := min(max(l.off/4, minGrowth), maxGrowth, s.opts.SegmentBytes-l.off)
	if n <= 0 {
		return
	}
	if s.shared.zeros == nil {
		s.shared.zeros = make([]byte, maxGrowth)
	}
	_ = l.writeAt(s.shared.zeros[:n], l.off)
}

// publish makes a written record known, pinned by its writer and to be synced. It
// fails where the lane's file is gone.
func (s *Store) publish(l *lane, w *writer, e entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.parted() {
		return errParted
	}
	l.seg.setLength(l.high)
	s.clock++
	s.stats.Stored++
	s.stats.Content += w.length
	s.stats.StoredBytes += e.bytes()
	l.seg.entries = append(l.seg.entries, e)
	s.pins[e.ref] = &pin{}
	w.ref = e.ref
	if s.sweeping > 0 {
		s.fresh[e.ref] = true
	}
	if l.seg.failed {
		w.lost = true
		s.lost++
		return nil
	}
	s.dirty[l.seg] = append(s.dirty[l.seg], w)
	return nil
}

// unpin ends the pin of ref and carries out a Delete that had to wait for it.
func (s *Store) unpin(ref driver.Ref) {
	s.mu.Lock()
	p := s.pins[ref]
	delete(s.pins, ref)
	wanted := false
	if p != nil && p.deleted != nil {
		_, wanted = s.addDeadLocked(*p.deleted)
	}
	s.mu.Unlock()
	if wanted {
		s.wake()
	}
}

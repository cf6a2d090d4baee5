package bloblog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/mailstore/driver"
)

// Segments smaller than smallPart of the usual size are merged when there are
// more than manySmall of them: every start of the server begins new ones.
const (
	smallPart = 8
	manySmall = 8
	copyChunk = 256 << 10
)

func (s *Store) tidyLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.kick:
		}
		if err := s.Tidy(ctx); err != nil && ctx.Err() == nil {
			s.opts.Logger.Warn("messages cannot be tidied up; it is tried again", "dir", s.dir, "err", err)
		}
	}
}

// Tidy seals what is full and takes back space until no segment wastes more
// than it may. It runs by itself in the background unless Options.Manual is
// set; calls wait for each other. A crash at any moment loses nothing.
func (s *Store) Tidy(ctx context.Context) error {
	s.tidying.Lock()
	defer s.tidying.Unlock()
	// What cannot be sealed, in a bad place perhaps, keeps nothing else from
	// being tidied up.
	unsealed := s.sealAll()
	for {
		if err := s.check(ctx, "blobs tidy"); err != nil {
			return err
		}
		victims := s.victims()
		if len(victims) == 0 {
			return ioError("blobs seal", unsealed)
		}
		for i, g := range victims {
			if err := s.empty(ctx, g); err != nil {
				for _, g := range victims[i+1:] {
					s.release(g)
				}
				return ioError("blobs tidy", err)
			}
		}
		if err := s.graves.rewrite(false, s.deadEntries); err != nil {
			return ioError("blobs tidy", err)
		}
	}
}

// sealAll seals what nobody writes to any more. What cannot be sealed stays
// readable and is tried again.
func (s *Store) sealAll() error {
	s.mu.Lock()
	list := s.toSeal
	s.toSeal = nil
	s.mu.Unlock()
	var failed error
	for _, job := range list {
		g := job.seg
		s.mu.Lock()
		entries, skip := slices.Clone(g.entries), g.failed
		s.mu.Unlock()
		if skip { // its end cannot be trusted; the next Open reads through it
			continue
		}
		err := g.seal(entries, job.end)
		if err != nil {
			failed = fmt.Errorf("segment %08x: %w", g.id, err)
		}
		if errors.Is(err, errSealSync) {
			s.giveUp(g, nil)
			continue
		}
		s.mu.Lock()
		if err != nil {
			s.toSeal = append(s.toSeal, job)
		} else {
			g.entries = nil
		}
		s.mu.Unlock()
	}
	return failed
}

func (s *Store) wastefulLocked(g *segment) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sealed && float64(g.dead) >= s.opts.MaxWaste*float64(g.size-segmentHeader-trailerLen)
}

// victims returns the segments to empty, and holds them. The newest is never
// among them: its name keeps numbers from being used twice.
func (s *Store) victims() []*segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := uint32(0)
	for id := range s.segments {
		newest = max(newest, id)
	}
	var wasteful, small []*segment
	for _, id := range slices.Sorted(maps.Keys(s.segments)) {
		g := s.segments[id]
		if id == newest || s.stuck[id] || !g.isSealed() {
			continue
		}
		g.mu.Lock()
		size := g.size
		g.mu.Unlock()
		switch {
		case s.wastefulLocked(g):
			wasteful = append(wasteful, s.acquireLocked(id))
		case size < s.opts.SegmentBytes/smallPart:
			small = append(small, g)
		}
	}
	if len(wasteful) == 0 && len(small) > manySmall {
		for _, g := range small {
			wasteful = append(wasteful, s.acquireLocked(g.id))
		}
	}
	return wasteful
}

// empty moves what lives in the segment elsewhere and has the segment removed
// when its last reader is gone. The copies are durable before anybody is sent
// to them, and the originals stay until then.
func (s *Store) empty(ctx context.Context, g *segment) error {
	defer s.release(g)
	all, err := s.allEntries(g)
	if err != nil {
		return err
	}
	live := s.live(g, slices.Clone(all))
	moved := make([]entry, 0, len(live)) // off is the new place
	if len(live) > 0 {
		if err := s.openMover(); err != nil {
			return err
		}
	}
	for _, e := range live {
		if err := ctx.Err(); err != nil {
			return err
		}
		to, err := s.copyRecord(g, e)
		if err == errBadRecord {
			s.opts.Logger.Error("a damaged record keeps its segment from being tidied up", "segment", fmt.Sprintf("%08x", g.id), "blob", fmt.Sprintf("%#x", uint64(e.ref)), "account", e.account)
			s.mu.Lock()
			s.stuck[g.id] = true
			s.stats.Damaged++
			s.mu.Unlock()
			return nil
		}
		if err != nil {
			return err
		}
		e.off = to
		moved = append(moved, e)
	}
	if len(moved) > 0 {
		if err := s.mover.seg.syncData(); err != nil {
			s.giveUp(s.mover.seg, nil)
			s.mover = nil
			return err
		}
	}
	s.publishMoves(g, all, moved)
	if s.mover != nil && s.full(s.mover) {
		s.retireMover()
		return s.sealAll()
	}
	return nil
}

// retireMover has the mover's segment sealed.
func (s *Store) retireMover() {
	s.mu.Lock()
	s.toSeal = append(s.toSeal, sealing{s.mover.seg, s.mover.high})
	s.mu.Unlock()
	s.mover = nil
}

func (s *Store) openMover() (err error) {
	if s.mover != nil && s.laneFailed(s.mover) {
		s.mover = nil
	}
	if s.mover != nil && s.mover.bad {
		s.retireMover()
	}
	if s.mover == nil {
		s.mover, err = s.newLane(true)
	}
	return err
}

// copyRecord copies a record, its content as it is, and returns the new place.
// A damaged content is copied with its old checksums, and stays damaged.
func (s *Store) copyRecord(g *segment, e entry) (off uint32, err error) {
	r, err := s.readRecord(g, place{g.id, e.off}, copyChunk)
	if err != nil {
		return 0, err
	}
	if r.ref != e.ref || r.account != e.account {
		return 0, errBadRecord
	}
	l := s.mover
	to, length := placeAt(l.seg.id, l.off), r.length()
	first := r.head[:min(int64(len(r.head)), length)]
	r.encode(first, l.salt, to)
	if err := l.writeAt(first, l.off); err != nil {
		return 0, err
	}
	if err := copyRange(l, r.file, r.at.pos(), int64(len(first)), length); err != nil {
		return 0, err
	}
	l.off += length
	return to.off, nil
}

// copyRange copies the bytes from done to length of what begins at from.
func copyRange(l *lane, src vfs.File, from, done, length int64) error {
	if done >= length {
		return nil
	}
	buf := make([]byte, copyChunk)
	for done < length {
		p := buf[:min(copyChunk, length-done)]
		if n, err := src.ReadAt(p, from+done); n < len(p) {
			return err
		}
		if err := l.writeAt(p, l.off+done); err != nil {
			return err
		}
		done += int64(len(p))
	}
	return nil
}

// publishMoves sends everybody to the new places, and forgets the segment.
func (s *Store) publishMoves(g *segment, all, moved []entry) {
	s.steady.Lock()
	defer s.steady.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	copied := make(map[driver.Ref]bool, len(moved))
	for _, e := range moved {
		copied[e.ref] = true
	}
	for _, e := range all {
		if !copied[e.ref] {
			s.forgetLocked(e.ref, place{g.id, e.off})
		}
	}
	for _, e := range moved {
		to := s.mover.seg
		s.moves.set(e.ref, place{to.id, e.off})
		to.entries = append(to.entries, e)
		if s.dead.has(e.ref) { // deleted while it was copied
			to.dead += e.bytes()
		}
	}
	if s.mover != nil {
		s.mover.seg.mu.Lock()
		s.mover.seg.size = s.mover.high
		s.mover.seg.mu.Unlock()
	}
	s.stats.Moved += int64(len(moved))
	s.stats.Removed++
	delete(s.segments, g.id)
	g.doomed = true
}

// forgetLocked forgets a record that goes with its segment: a blob that was
// deleted, or a stale copy of one. That the blob is deleted must be known for as
// long as there is another copy, which would come back to life otherwise.
func (s *Store) forgetLocked(ref driver.Ref, at place) {
	here := s.locateLocked(ref) == at
	if s.stale[ref] > 0 {
		if here { // nothing is found there from now on; the stale copy stays dead
			return
		}
		if s.stale[ref]--; s.stale[ref] > 0 {
			return
		}
		delete(s.stale, ref)
		if s.segments[s.locateLocked(ref).segment] != nil {
			return // the blob itself lives on, or is dead, where it is
		}
	} else if !here {
		return
	}
	if s.dead.has(ref) {
		s.dead.remove(ref)
		s.moves.remove(ref)
	}
}

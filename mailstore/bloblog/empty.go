package bloblog

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/mailstore/driver"
)

// A segment is emptied in steps, so that nobody waits long for what they have in
// common with others: the disk, and Store.mu. A step copies up to stepBytes (and
// a record more) or stepRecords; lockedMoves are published with mu held.
const (
	stepBytes   = 1 << 20
	stepRecords = 1024
	lockedMoves = 64
)

// empty moves what lives in the segment elsewhere and has the segment removed
// when its last reader is gone. The copies are durable before anybody is sent
// to them, and the originals stay until then. Whoever else wants the tidying lock
// gets it between the steps.
func (s *Store) empty(ctx context.Context, g *segment, gently bool) error {
	defer s.release(g)
	all, err := s.allEntries(g)
	if err != nil {
		return err
	}
	for rest := all; len(rest) > 0; {
		if !s.has(g) { // another call has emptied it meanwhile
			return nil
		}
		var copied int64
		if rest, copied, err = s.emptyStep(ctx, g, rest); err != nil || rest == nil {
			return err
		}
		if copied == 0 {
			continue
		}
		if err := s.rest(ctx, copied, gently); err != nil {
			return err
		}
	}
	if !s.has(g) {
		return nil
	}
	s.dispose(g, all)
	if s.mover != nil && s.full(s.mover) {
		s.retireMover()
		return s.sealAll()
	}
	return nil
}

func (s *Store) has(g *segment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.segments[g.id] == g
}

// emptyStep moves some of the records in list, and returns the others: nil where
// the segment cannot be emptied.
func (s *Store) emptyStep(ctx context.Context, g *segment, list []entry) (rest []entry, copied int64, err error) {
	n := 0
	for bytes := int64(0); n < min(len(list), stepRecords) && bytes < stepBytes; n++ {
		bytes += list[n].bytes()
	}
	live := s.live(g, slices.Clone(list[:n]))
	moved := make([]entry, 0, len(live)) // off is the new place
	if len(live) > 0 {
		if s.mover != nil && s.full(s.mover) {
			s.retireMover()
			_ = s.sealAll() // tried again
		}
		if err := s.openMover(); err != nil {
			return nil, 0, err
		}
	}
	for _, e := range live {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		to, err := s.copyRecord(g, e)
		if isDamage(err) {
			s.opts.Logger.Error("a damaged record keeps its segment from being tidied up", "segment", fmt.Sprintf("%08x", g.id), "blob", fmt.Sprintf("%#x", uint64(e.ref)), "account", e.account)
			s.mu.Lock()
			s.stuck[g.id] = true
			s.countDamagedLocked(e.ref)
			s.mu.Unlock()
			return nil, 0, nil
		}
		if err != nil {
			return nil, 0, err
		}
		e.off = to
		moved = append(moved, e)
		copied += e.bytes()
	}
	if len(moved) > 0 {
		if err := s.syncSegment(s.mover.seg, nil, vfs.File.SyncData); err != nil {
			s.mover = nil
			return nil, 0, err
		}
	}
	s.publishMoves(g, moved)
	return list[n:], copied, nil
}

// rest lets go of the tidying lock for a moment. gently makes the moment so long
// that no more than Options.TidyRate is copied while others use the store; but
// where nobody has used it since the last step it does not wait, nor where so much
// is wasted that it must be taken back faster than it comes.
func (s *Store) rest(ctx context.Context, copied int64, gently bool) error {
	s.mu.Lock()
	busy := s.clock != s.rested
	s.rested = s.clock
	s.mu.Unlock()
	wait := time.Duration(0)
	if gently && busy && s.opts.TidyRate > 0 && !s.urgent() {
		wait = time.Duration(float64(copied) / float64(s.opts.TidyRate) * float64(time.Second))
	}
	s.tidying.Unlock()
	defer s.tidying.Lock()
	if wait == 0 {
		return s.check(ctx, "blobs tidy")
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return s.check(ctx, "blobs tidy")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// urgent reports whether more is wasted than half of what may be left: with
// MaxWaste of 0.5, three quarters of all.
func (s *Store) urgent() bool {
	s.mu.Lock()
	all, dead := s.sizesLocked()
	s.mu.Unlock()
	return float64(dead) > (1+s.opts.MaxWaste)/2*float64(all)
}

// retireMover has the mover's segment sealed.
func (s *Store) retireMover() {
	s.mu.Lock()
	s.toSeal = append(s.toSeal, sealing{s.mover.seg, s.mover.high})
	s.mu.Unlock()
	s.mover = nil
}

func (s *Store) openMover() (err error) {
	if s.mover != nil && s.hasFailed(s.mover.seg) {
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
	r, err := s.readRecord(g, place{g.id, e.off}, firstRead)
	if err != nil {
		return 0, err
	}
	defer s.reuse(r)
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
	if err := s.copyRange(l, r.file, r.at.pos(), int64(len(first)), length); err != nil {
		return 0, err
	}
	l.off += length
	return to.off, nil
}

// copyRange copies the bytes from done to length of what begins at from.
func (s *Store) copyRange(l *lane, src vfs.File, from, done, length int64) error {
	if done >= length {
		return nil
	}
	room := s.codec.block()
	defer s.codec.blocks.Put(room)
	for done < length {
		p := (*room)[:min(blockSize, length-done)]
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

// publishMoves sends everybody to the new places. The originals stay in their
// segment, as stale copies, until that goes.
func (s *Store) publishMoves(g *segment, moved []entry) {
	for list := range slices.Chunk(moved, lockedMoves) {
		s.steady.Lock()
		s.mu.Lock()
		to := s.mover.seg
		to.setLength(s.mover.high)
		for _, e := range list {
			s.moves.set(e.ref, place{to.id, e.off})
			to.entries = append(to.entries, e)
			s.stale[e.ref]++
			if s.dead.has(e.ref) { // deleted while it was copied
				to.dead += e.bytes()
			} else {
				g.dead += e.bytes()
			}
			s.stats.MovedBytes += e.bytes()
		}
		s.stats.Moved += int64(len(list))
		s.mu.Unlock()
		s.steady.Unlock()
	}
}

// dispose forgets a segment in which nothing lives. Its file goes when its last
// reader is gone.
func (s *Store) dispose(g *segment, all []entry) {
	s.steady.Lock()
	s.mu.Lock()
	delete(s.segments, g.id)
	g.doomed, s.doomed[g] = true, true
	s.stats.Removed++
	s.stats.ReclaimedBytes += g.length()
	s.mu.Unlock()
	s.steady.Unlock()
	for list := range slices.Chunk(all, lockedMoves) {
		s.mu.Lock()
		for _, e := range list {
			s.forgetLocked(e.ref, place{g.id, e.off})
		}
		s.mu.Unlock()
	}
	s.forgetWaste(g)
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

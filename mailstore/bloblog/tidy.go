package bloblog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/internal/durable"
)

// Segments smaller than smallPart of the usual size are merged when there are
// more than manySmall of them: every start of the server begins new ones.
const (
	smallPart = 8
	manySmall = 8
)

func (s *Store) tidyLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.kick:
		}
		err := errors.Join(s.prepareSpare(), s.tidy(ctx, true))
		if err != nil && ctx.Err() == nil {
			s.opts.Logger.Warn("messages cannot be tidied up; it is tried again", "dir", s.dir, "err", err)
		}
	}
}

// Tidy seals what is full and takes back space until no segment wastes more
// than it may, as fast as it can. In the background that runs by itself and holds
// nobody up, unless Options.Manual is set. A crash at any moment loses nothing.
func (s *Store) Tidy(ctx context.Context) error { return s.tidy(ctx, false) }

// tidy is Tidy; gently rests between the steps while others use the store.
func (s *Store) tidy(ctx context.Context, gently bool) error {
	s.tidying.Lock()
	defer s.tidying.Unlock()
	s.removeDoomed()
	s.retireWasteful()
	// What cannot be sealed, in a bad place perhaps, keeps nothing else from
	// being tidied up.
	unsealed := s.sealAll()
	unsealed = errors.Join(unsealed, s.outnumber())
	for {
		if err := s.check(ctx, "blobs tidy"); err != nil {
			return err
		}
		victims := s.victims()
		if len(victims) == 0 {
			return ioError("blobs seal", unsealed)
		}
		for i, g := range victims {
			if err := s.empty(ctx, g, gently); err != nil {
				for _, g := range victims[i+1:] {
					s.release(g)
				}
				return ioError("blobs tidy", err)
			}
		}
		if err := s.deadLog.rewrite(false, s.deadEntries); err != nil {
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
		if !skip && g.unsettled > 0 { // a crash would still need what is not in the index
			s.toSeal = append(s.toSeal, job)
			skip = true
		}
		s.mu.Unlock()
		if skip { // or its end cannot be trusted; the next Open reads through it
			continue
		}
		err := s.seal(g, entries, job.end)
		s.mu.Lock()
		switch {
		case err == nil:
			g.entries = nil
			s.holdLocked(g)
		case !g.failed:
			s.toSeal = append(s.toSeal, job)
		}
		s.mu.Unlock()
		if err == nil {
			s.noteWaste(g)
			s.release(g) // from now on its file may be closed
		} else {
			failed = fmt.Errorf("segment %08x: %w", g.id, err)
		}
	}
	return failed
}

// seal writes the index behind the end of the file, makes all of it durable
// and gives the file its final name. end is behind everything that was ever
// written to the file, so that the index ends it. It may be called again after
// an error, unless the segment has been given up.
func (s *Store) seal(g *segment, entries []entry, end int64) error {
	sorted := slices.SortedFunc(slices.Values(entries), func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.account, b.account), cmp.Compare(a.off, b.off))
	})
	footer := encodeFooter(sorted)
	g.mu.Lock()
	f, moved, sealed := g.file, g.moved, g.sealed
	g.mu.Unlock()
	if sealed { // all but the last step was done
		return durable.SyncDir(g.fs, g.dir)
	}
	if named, err := g.isNamed(); !named {
		return cmp.Or(err, errNotNamed) // Look writes it again
	}
	if _, err := f.WriteAt(footer, align(end)); err != nil {
		return err
	}
	if err := s.syncSegment(g, nil, vfs.File.Sync); err != nil {
		return err
	}
	// Nobody waits for that: the file is open, and stays so until it is sealed.
	if err := g.fs.Rename(g.name(false, moved), g.name(true, moved)); err != nil {
		return err
	}
	g.mu.Lock()
	g.sealed, g.size = true, align(end)+int64(len(footer))
	g.mu.Unlock()
	return durable.SyncDir(g.fs, g.dir)
}

// wastefulLocked reports whether the segment is to be emptied, or to be sealed
// for that.
func (s *Store) wastefulLocked(g *segment) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.sealed && g.size < s.opts.SegmentBytes/smallPart {
		return false
	}
	size := g.size - segmentHeader - trailerLen
	if float64(g.dead) >= s.opts.MaxWaste*float64(size) {
		return true
	}
	room := s.pressed.Load()
	return room > 0 && g.dead >= size/pressedPart && size-g.dead <= room
}

// pressedPart is the part of a segment that is worth taking back when there is
// little room on the disk, though that costs so many times of writing.
const pressedPart = 8

// Press says that there is little room on the disk, of which bytes may be used for
// taking space back: then segments are emptied that waste less than MaxWaste, if
// what lives in them fits there. 0 says that there is room again.
func (s *Store) Press(bytes int64) {
	if s.pressed.Swap(bytes) == 0 && bytes > 0 {
		s.wake()
	}
}

// retireWasteful has segments sealed that nobody writes to at the moment, that
// are not small, and most of which is dead: only what is sealed is emptied.
func (s *Store) retireWasteful() {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	retire := func(l *lane) bool {
		if l == nil || l.seg.failed || !s.wastefulLocked(l.seg) {
			return false
		}
		s.toSeal = append(s.toSeal, sealing{l.seg, l.high})
		return true
	}
	if retire(s.shared.lane) {
		s.shared.lane = nil
	}
	if retire(s.mover) {
		s.mover = nil
	}
	s.free = slices.DeleteFunc(s.free, retire)
}

// outnumber begins a segment behind the newest one where that is to be emptied: the
// name of the newest keeps numbers from being used twice, so that one stays.
func (s *Store) outnumber() error {
	s.mu.Lock()
	g := s.segments[s.newestLocked()]
	wanted := g != nil && !s.stuck[g.id] && g.isSealed() && s.wastefulLocked(g)
	s.spareWanted = s.spareWanted || wanted
	s.mu.Unlock()
	return s.prepareSpare()
}

func (s *Store) newestLocked() (newest uint32) {
	for id := range s.segments {
		newest = max(newest, id)
	}
	return newest
}

// victims returns the segments to empty, and holds them. The newest is never
// among them (see outnumber).
func (s *Store) victims() []*segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := s.newestLocked()
	var wasteful, small []*segment
	for _, id := range slices.Sorted(maps.Keys(s.segments)) {
		g := s.segments[id]
		if id == newest || s.stuck[id] || !g.isSealed() {
			continue
		}
		g.mu.Lock()
		size, gone := g.size, g.gone
		g.mu.Unlock()
		if gone {
			continue
		}
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

package bloblog

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
)

// A group lets callers that wait at the same time share one round of work.
type group struct {
	turn chan struct{} // held by the round that runs

	mu   sync.Mutex
	next *round // the round that callers join; it has not begun
}

type round struct {
	done chan struct{}
	err  error
}

// do returns when a round of work has ended that began after the call. The
// first to join a round runs it, also when its own context ends: others count
// on it.
func (g *group) do(ctx context.Context, work func() error) error {
	g.mu.Lock()
	r := g.next
	leads := r == nil
	if leads {
		r = &round{done: make(chan struct{})}
		g.next = r
	}
	g.mu.Unlock()
	if leads {
		g.turn <- struct{}{}
		g.mu.Lock()
		g.next = nil // who comes now may have written after the work has begun
		g.mu.Unlock()
		r.err = errNoEnd
		defer func() { // also where work panics: the others go on
			<-g.turn
			close(r.done)
		}()
		r.err = work()
		return r.err
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errNoEnd = errors.New("a sync has not come to its end")

var errLostWrites = errors.New("the disk has failed to keep messages that were being stored; they must be stored again")

// Sync implements driver.Blobs. [Store.Ride] is another way to do what it does.
//
// After a failed sync the operating system may have forgotten what it could not
// write, so syncing again proves nothing. The segment is then given up for
// writing, and every Sync fails until the writers of the blobs that were lost
// have been released; after that a new segment serves, and the store has
// recovered by itself.
func (s *Store) Sync(ctx context.Context) error {
	if err := s.check(ctx, "blobs sync"); err != nil {
		return err
	}
	s.syncCalls.Add(1)
	return s.group.do(ctx, s.syncDirty)
}

func (s *Store) syncDirty() error {
	s.mu.Lock()
	s.stats.Syncs++
	dirty := s.dirty
	s.dirty = make(map[*segment][]*writer, 1)
	lost := s.lost
	for g := range dirty {
		s.holdLocked(g) // keeps the file open
	}
	s.mu.Unlock()

	var errs []error
	if lost > 0 {
		errs = append(errs, errLostWrites)
	}
	defer func() { // where something has panicked, the rest is not synced
		for g, writers := range dirty {
			s.giveUp(g, writers)
			s.release(g)
		}
	}()
	for g, writers := range dirty {
		if err := s.syncSegment(g, writers, vfs.File.SyncData); err != nil {
			errs = append(errs, fmt.Errorf("segment %08x: %w", g.id, err))
		}
		delete(dirty, g)
		s.release(g)
	}
	if len(errs) > 0 {
		return imap.E("blobs sync", imap.Unavailable, errors.Join(errs...))
	}
	return nil
}

var errGivenUp = errors.New("a sync of it has failed before")

// syncSegment makes durable what is in the segment, by sync, or gives it up.
// writers are those who count on that, apart from those in Store.dirty.
//
// One sync of a file runs at a time: the operating system tells of what it could
// not write once, so that of two the one may succeed because the other has
// failed.
func (s *Store) syncSegment(g *segment, writers []*writer, sync func(vfs.File) error) error {
	g.syncing.Lock()
	defer g.syncing.Unlock()
	g.mu.Lock()
	f := g.file
	g.mu.Unlock()
	err := errGivenUp
	switch {
	case s.hasFailed(g):
	case f == nil: // sealed and closed since then, which has synced it
		return nil
	default:
		err = sync(f)
	}
	if err == nil {
		return nil
	}
	s.giveUp(g, writers)
	return err
}

func (s *Store) hasFailed(g *segment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return g.failed
}

// giveUp has nothing more written to a segment whose sync has failed. Those of
// the writers that are not released yet have lost their blobs, and so has who
// wrote to it since.
func (s *Store) giveUp(g *segment, writers []*writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !g.failed {
		s.opts.Logger.Error("a segment cannot be synced: it is given up", "segment", fmt.Sprintf("%08x", g.id))
	}
	g.failed = true
	writers = append(writers, s.dirty[g]...)
	delete(s.dirty, g)
	for _, w := range writers {
		if _, pinned := s.pins[w.ref]; pinned && !w.lost {
			w.lost = true
			s.lost++
		}
	}
	s.free = deleteLane(s.free, g)
}

func deleteLane(lanes []*lane, g *segment) []*lane {
	kept := lanes[:0]
	for _, l := range lanes {
		if l.seg != g {
			kept = append(kept, l)
		}
	}
	return kept
}

// forgive is told that a writer is released: what it lost is nobody's concern
// any more.
func (s *Store) forgive(w *writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.lost {
		w.lost = false
		s.lost--
	}
}

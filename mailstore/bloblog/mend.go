package bloblog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/internal/durable"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// Accounts returns the accounts that have blobs, living or dead, as far as
// segments can be read.
func (s *Store) Accounts(ctx context.Context) ([]driver.Account, error) {
	if err := s.check(ctx, "blobs accounts"); err != nil {
		return nil, err
	}
	known := make(map[driver.Account]bool)
	for _, id := range s.ids() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		g := s.acquire(id)
		if g == nil {
			continue
		}
		entries, err := s.allEntries(g)
		s.release(g)
		if err != nil && !isDamage(err) {
			return nil, ioError("blobs accounts", err)
		}
		for _, e := range entries {
			known[e.account] = true
		}
	}
	return slices.Sorted(maps.Keys(known)), nil
}

func (s *Store) ids() []uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.segments))
}

// SetAside moves what can be read of damaged segments (those whose header or
// index does not match its checksum) into a new segment, and the files into the
// folder to, which is made where that is needed. What cannot be read is gone
// from the store then; the file has it still. A crash at any moment loses
// nothing: the copies are durable before the originals go. It returns the names
// of the files.
func (s *Store) SetAside(ctx context.Context, to string) (files []string, err error) {
	if err := s.check(ctx, "blobs set aside"); err != nil {
		return nil, err
	}
	s.tidying.Lock()
	defer s.tidying.Unlock()
	for _, id := range s.ids() {
		g := s.acquire(id)
		if g == nil {
			continue
		}
		damaged, err := damagedSegment(g)
		if err != nil || !damaged {
			s.release(g)
			if err != nil {
				return files, ioError("blobs set aside", err)
			}
			continue
		}
		g.mu.Lock()
		name := path.Base(g.name(g.sealed, g.moved))
		g.mu.Unlock()
		if err := s.setAside(ctx, g, s.opts.FS.PathJoin(to, name)); err != nil {
			return files, ioError("blobs set aside", fmt.Errorf("%s: %w", name, err))
		}
		files = append(files, name)
	}
	return files, ioError("blobs set aside", errors.Join(s.sealAll(), durable.SyncDir(s.opts.FS, s.dir)))
}

// damagedSegment reports whether a segment's header or index is damaged.
func damagedSegment(g *segment) (bool, error) {
	_, _, err := g.open()
	if err == nil && g.isSealed() {
		_, err = g.readFooter()
	}
	if isDamage(err) {
		return true, nil
	}
	return false, err
}

// setAside does it for one segment, which is held, and lets go of it.
func (s *Store) setAside(ctx context.Context, g *segment, to string) error {
	defer s.release(g)
	all, err := s.allEntries(g)
	if err != nil && !isDamage(err) {
		return err
	}
	// There is always a new one: its name keeps numbers from being used twice.
	if err := s.openMover(); err != nil {
		return err
	}
	moved := make([]entry, 0, len(all))
	for _, e := range s.live(g, slices.Clone(all)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		off, err := s.copyRecord(g, e)
		if isDamage(err) {
			continue
		}
		if err != nil {
			return err
		}
		e.off = off
		moved = append(moved, e)
	}
	if err := s.syncSegment(s.mover.seg, nil, vfs.File.SyncData); err != nil {
		s.mover = nil
		return err
	}
	s.publishMoves(g, moved)
	if err := s.keepFile(g, to); err != nil {
		return err
	}
	s.dispose(g, all)
	return nil
}

// keepFile gives a segment's file a second name, which it keeps.
func (s *Store) keepFile(g *segment, to string) error {
	disk := s.opts.FS
	dir := disk.PathDir(to)
	if err := disk.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := durable.SyncDir(disk, disk.PathDir(dir)); err != nil {
		return err
	}
	g.mu.Lock()
	from := g.name(g.sealed, g.moved)
	g.mu.Unlock()
	_ = disk.Remove(to) // of a run that was interrupted
	if err := disk.Link(from, to); err != nil {
		return err
	}
	return durable.SyncDir(disk, dir)
}

package bloblog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// Delete implements driver.Blobs.
func (s *Store) Delete(ctx context.Context, a driver.Account, refs []driver.Ref) error {
	if err := s.check(ctx, "blobs delete"); err != nil {
		return err
	}
	entries := make([]entry, 0, len(refs))
	for _, ref := range refs {
		r, err := s.find(a, ref, 0, false)
		switch kind := imap.KindOf(err); {
		case err == nil:
			entries = append(entries, entry{a, ref, r.at.off, uint32(r.length() / alignment)})
			s.release(r.seg)
		case kind == imap.NotFound:
		default: // Sweep gets it: it does not need the record
			s.opts.Logger.Warn("a blob cannot be deleted now", "account", a, "blob", fmt.Sprintf("%#x", uint64(ref)), "err", err)
		}
	}
	s.markDead(entries)
	return nil
}

// markDead marks records as dead, those that are pinned when their pin ends.
func (s *Store) markDead(entries []entry) {
	s.mu.Lock()
	wanted, pinned := false, false
	entries = slices.DeleteFunc(entries, func(e entry) bool {
		if p := s.pins[e.ref]; p != nil {
			known := p.deleted != nil
			p.deleted = &e
			pinned = pinned || !known
			return known
		}
		added, wasteful := s.addDeadLocked(e)
		wanted = wanted || wasteful
		return !added
	})
	s.mu.Unlock()
	if len(entries) == 0 {
		return
	}
	err := s.deadLog.append(entries)
	if err == nil && pinned {
		// Nothing has named them, so nothing else would say that they are no mail.
		err = s.deadLog.sync()
	}
	if err != nil {
		s.opts.Logger.Warn("deleted messages are not noted: their space is taken back after the next sweep only", "err", err)
	}
	if wanted {
		s.wake()
	}
}

// addDeadLocked marks one record as dead, unless it was before, and reports whether
// its segment is to be emptied.
func (s *Store) addDeadLocked(e entry) (added, wasteful bool) {
	if !s.dead.add(e.ref, e.length) {
		return false, false
	}
	if g := s.segments[s.locateLocked(e.ref).segment]; g != nil {
		g.dead += e.bytes()
		return true, s.wastefulLocked(g)
	}
	return true, false
}

// entriesOf returns the account's records in the segment, dead ones too.
func (s *Store) entriesOf(g *segment, a driver.Account) ([]entry, error) {
	if list, ok := s.inMemory(g); ok {
		return slices.DeleteFunc(list, func(e entry) bool { return e.account != a }), nil
	}
	list, err := g.entriesOf(a)
	if errors.Is(err, errBadFooter) {
		list, err = s.rescan(g)
		list = slices.DeleteFunc(slices.Clone(list), func(e entry) bool { return e.account != a })
	}
	return list, err
}

// allEntries returns all records in the segment.
func (s *Store) allEntries(g *segment) ([]entry, error) {
	if list, ok := s.inMemory(g); ok {
		return list, nil
	}
	list, err := g.readFooter()
	if errors.Is(err, errBadFooter) {
		return s.rescan(g)
	}
	return list, err
}

// inMemory returns a copy of the entries of a segment that is not sealed, or
// whose index is damaged.
func (s *Store) inMemory(g *segment) ([]entry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.entries == nil && g.isSealed() {
		return nil, false
	}
	return slices.Clone(g.entries), true
}

// rescan makes up for a damaged index.
func (s *Store) rescan(g *segment) ([]entry, error) {
	s.opts.Logger.Error("a segment's index is damaged; the segment is read instead", "segment", fmt.Sprintf("%08x", g.id))
	list, _, err := g.scan()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Damaged++
	g.entries = append([]entry{}, list...)
	return list, nil
}

// collect returns the account's blobs, each once, whatever moves meanwhile.
func (s *Store) collect(ctx context.Context, a driver.Account) ([]entry, error) {
	s.steady.RLock()
	defer s.steady.RUnlock()
	s.mu.Lock()
	var segments []*segment
	for id := range s.segments {
		segments = append(segments, s.acquireLocked(id))
	}
	s.mu.Unlock()
	defer func() {
		for _, g := range segments {
			s.release(g)
		}
	}()
	var all []entry
	for _, g := range segments {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		list, err := s.entriesOf(g, a)
		if imap.KindOf(ioError("", err)) == imap.Corruption {
			s.opts.Logger.Error("a damaged segment is left out", "segment", fmt.Sprintf("%08x", g.id), "err", err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("segment %08x: %w", g.id, err)
		}
		all = append(all, s.live(g, list)...)
	}
	return all, nil
}

// live drops the entries that are deleted or have moved elsewhere.
func (s *Store) live(g *segment, list []entry) []entry {
	kept := list[:0]
	for part := range slices.Chunk(list, lockedLooks) {
		s.mu.Lock()
		for _, e := range part {
			if s.livesLocked(g, e) {
				kept = append(kept, e)
			}
		}
		s.mu.Unlock()
	}
	return kept
}

// lockedLooks is how many entries are looked up with Store.mu held.
const lockedLooks = 512

func (s *Store) livesLocked(g *segment, e entry) bool {
	return !s.goneLocked(e.ref) && s.locateLocked(e.ref) == place{g.id, e.off}
}

// Sweep implements driver.Blobs.
func (s *Store) Sweep(ctx context.Context, a driver.Account, named func(driver.Ref) bool) error {
	if err := s.check(ctx, "blobs sweep"); err != nil {
		return err
	}
	spared := make(map[driver.Ref]bool)
	s.mu.Lock()
	for ref := range s.pins {
		spared[ref] = true
	}
	s.sweeping++
	s.mu.Unlock()

	list, err := s.collect(ctx, a)

	s.mu.Lock()
	list = slices.DeleteFunc(list, func(e entry) bool { return spared[e.ref] || s.fresh[e.ref] })
	if s.sweeping--; s.sweeping == 0 {
		clear(s.fresh)
	}
	s.mu.Unlock()
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return ioError("blobs sweep", err)
	}
	s.markDead(slices.DeleteFunc(list, func(e entry) bool { return named(e.ref) }))
	return nil
}

// List implements driver.Blobs. Records that are damaged are left out, and
// logged: a crash may have left some that nobody names.
func (s *Store) List(ctx context.Context, a driver.Account, fn func(driver.Ref, driver.BlobInfo) error) error {
	if err := s.check(ctx, "blobs list"); err != nil {
		return err
	}
	list, err := s.collect(ctx, a)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return ioError("blobs list", err)
	}
	for _, e := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		info, err := s.info(a, e.ref)
		switch imap.KindOf(err) {
		case imap.NotFound: // deleted meanwhile
			continue
		case imap.Corruption:
			s.opts.Logger.Warn("a damaged blob is left out of a list", "err", err)
			continue
		}
		if err != nil {
			return err
		}
		if err := fn(e.ref, info); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) info(a driver.Account, ref driver.Ref) (driver.BlobInfo, error) {
	r, err := s.find(a, ref, 0, false)
	if err != nil {
		return driver.BlobInfo{}, s.named("blobs list", a, ref, err)
	}
	defer s.release(r.seg)
	meta, _, err := r.tail()
	if err != nil {
		return driver.BlobInfo{}, s.named("blobs list", a, ref, err)
	}
	return driver.BlobInfo{Size: r.size, Meta: meta}, nil
}

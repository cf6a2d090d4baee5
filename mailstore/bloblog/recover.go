package bloblog

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/durable"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// recover reads the folder. It opens only the segments that a crash has left
// unsealed and the indexes of those that hold moved blobs.
func (s *Store) recover() error {
	fs := s.opts.FS
	if err := fs.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if err := durable.SyncDir(fs, fs.PathDir(s.dir)); err != nil {
		return err
	}
	names, err := fs.List(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.recoverSegment(name); err != nil {
			return fmt.Errorf("segment %s: %w", name, err)
		}
	}
	ids := slices.Sorted(maps.Keys(s.segments))
	for _, id := range ids { // in order: the newest copy of a blob counts
		if err := s.recoverMoves(s.segments[id]); err != nil {
			return fmt.Errorf("segment %08x: %w", id, err)
		}
	}
	return s.recoverDead()
}

// recoverSegment takes up the segment of one file name, if it is one.
func (s *Store) recoverSegment(name string) error {
	base, ext, _ := strings.Cut(name, ".")
	id, err := strconv.ParseUint(base, 16, 32)
	if err == nil && len(base) == 8 && strings.HasSuffix(ext, copySuffix) {
		return s.opts.FS.Remove(s.opts.FS.PathJoin(s.dir, name)) // Look did not come to its end
	}
	if err != nil || len(base) != 8 || ext != "log" && ext != "seg" && ext != "mov" {
		return nil // the dead log, or none of ours
	}
	g := &segment{id: uint32(id), fs: s.opts.FS, dir: s.dir, opened: &s.opened, sealed: ext != "log", moved: ext == "mov"}
	s.lastID = max(s.lastID, g.id)
	info, err := g.fs.Stat(g.name(g.sealed, g.moved))
	if err != nil {
		return err
	}
	g.size = info.Size()
	if !g.sealed {
		kept, err := s.recoverLane(g)
		if err != nil || !kept {
			return err
		}
	}
	s.segments[g.id] = g
	return nil
}

// recoverLane reads through a segment that was being written. One whose header
// never reached the disk has never had a record, and is left out.
func (s *Store) recoverLane(g *segment) (kept bool, err error) {
	f, err := g.fs.OpenReadWrite(g.name(false, false), categoryBlobs)
	if err != nil {
		return false, err
	}
	head := make([]byte, segmentHeader)
	_, err = f.ReadAt(head, 0)
	if err == nil || err == io.EOF {
		g.salt, err = decodeSegmentHeader(head, g.id)
	}
	if err != nil {
		f.Close()
	}
	switch {
	case err == errBadHeader && g.size <= segmentHeader:
		return false, g.fs.Remove(g.name(false, false))
	case err == errBadHeader: // it was whole once: reading from it will say so
		s.opts.Logger.Error("a segment's header is damaged: its messages cannot be read", "segment", fmt.Sprintf("%08x", g.id))
		s.stats.Damaged++
		return true, nil
	case err != nil:
		return false, err
	}
	g.setFile(f)
	var riders []entry
	if g.entries, riders, err = g.scan(); err == nil {
		err = s.recoverRiders(g, riders)
	}
	if err != nil {
		g.closeFile()
		return false, err
	}
	g.moved = slices.ContainsFunc(g.entries, func(e entry) bool { return e.ref != place{g.id, e.off}.ref() })
	s.toSeal = append(s.toSeal, sealing{g, max(g.size, segmentHeader)})
	return true, nil
}

// recoverMoves learns where the moved blobs of a segment are. A crash may have
// left an older copy; then one of the two is stale. It is the older one, unless
// the newer one was not synced and is torn.
func (s *Store) recoverMoves(g *segment) error {
	if !g.moved {
		return nil
	}
	entries, err := s.allEntries(g)
	if imap.KindOf(ioError("", err)) == imap.Corruption {
		s.opts.Logger.Error("a segment is damaged: where its messages are is not known", "segment", fmt.Sprintf("%08x", g.id), "err", err)
		s.stats.Damaged++
		s.lostMoves = true
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		at := place{g.id, e.off}
		if e.ref == at.ref() {
			continue
		}
		stale := s.segments[s.locateLocked(e.ref).segment]
		if stale != nil && !g.sealed && s.verify(g, at) != nil {
			stale = g
		} else {
			s.moves.set(e.ref, at)
		}
		if stale != nil {
			stale.dead += e.bytes()
			s.stale[e.ref]++
		}
	}
	if g.sealed {
		return g.closeFile()
	}
	return nil
}

// verify reads a record and checks all of it.
func (s *Store) verify(g *segment, at place) error {
	r, err := s.readRecord(g, at, firstRead)
	if err != nil {
		return err
	}
	defer s.reuse(r)
	_, list, err := r.tail()
	if err != nil {
		return err
	}
	room := s.codec.block()
	defer s.codec.blocks.Put(room)
	for i := range blocks(r.size) {
		if err := list.load(s.codec, i, r.size, (*room)[:min(blockSize, r.size-i*blockSize)], r.readContent); err != nil {
			return err
		}
	}
	return nil
}

// recoverDead learns what was deleted.
func (s *Store) recoverDead() error {
	s.deadLog = newDeadLog(s.opts.FS, s.dir)
	whole, err := s.deadLog.load(func(ref driver.Ref, length uint32) {
		// The newest segment may have been lost: its number is not used again, or
		// new blobs would be taken for deleted ones.
		s.lastID = max(s.lastID, placeOf(ref).segment)
		g := s.segments[s.locateLocked(ref).segment]
		if g != nil && s.dead.add(ref, length) && !g.isRider(ref) {
			g.dead += entry{length: length}.bytes()
		}
	})
	if err != nil {
		return err
	}
	return s.deadLog.rewrite(!whole, s.deadEntries)
}

// Skip implements driver.Blobs: segments that are begun from now on have numbers
// above that of used.
func (s *Store) Skip(ctx context.Context, used driver.Ref) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return imap.E("blobs skip", imap.Closed, nil)
	}
	s.lastID = max(s.lastID, placeOf(used).segment)
	return nil
}

// deadEntries returns the dead set as the dead log has it, with what is dead as
// soon as it is not pinned any more.
func (s *Store) deadEntries() []entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]entry, 0, s.dead.len())
	for segment, dead := range s.dead {
		for _, g := range dead {
			list = append(list, entry{ref: place{segment, g.off}.ref(), length: g.length})
		}
	}
	for _, p := range s.pins {
		if p.deleted != nil {
			list = append(list, *p.deleted)
		}
	}
	return list
}

// scan finds the records of a segment by their headers alone, messages and riders
// apart. Where there is none it looks for the next: a crash may have lost one record
// and kept what was written behind it.
func (g *segment) scan() (entries, riders []entry, err error) {
	f, salt, err := g.open()
	if err != nil {
		return nil, nil, err
	}
	size := g.length()
	head := make([]byte, recordHeadLen)
	for pos := int64(segmentHeader); pos+recordHeadLen <= size; {
		if _, err := f.ReadAt(head, pos); err != nil {
			return nil, nil, err
		}
		at := placeAt(g.id, pos)
		h, err := decodeRecordHeader(head, salt, at)
		if err != errBadRecord && h.stored <= size && h.tailLen() <= size && pos+h.length() <= size {
			e := entry{h.account, h.ref, at.off, uint32(h.length() / alignment)}
			if h.flags == flagRider {
				riders = append(riders, e)
			} else {
				entries = append(entries, e)
			}
			pos += h.length()
			continue
		}
		if pos, err = g.nextRecord(f, salt, pos+alignment, size); err != nil {
			return nil, nil, err
		}
	}
	return entries, riders, nil
}

// nextRecord returns the first place at or behind pos where a record begins, or
// size.
func (g *segment) nextRecord(f vfs.File, salt uint64, pos, size int64) (int64, error) {
	magic := binary.LittleEndian.AppendUint32(nil, recordMagic)
	buf := make([]byte, 256<<10)
	for pos+recordHeadLen <= size {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), size-pos)], pos)
		if err != nil && err != io.EOF || n < recordHeadLen {
			return size, err
		}
		p := buf[:n]
		for i := 0; i+recordHeadLen <= n; i += alignment {
			if !bytes.HasPrefix(p[i:], magic) {
				continue
			}
			if _, err := decodeRecordHeader(p[i:], salt, placeAt(g.id, pos+int64(i))); err != errBadRecord {
				return pos + int64(i), nil
			}
		}
		if n < len(buf) {
			return size, nil
		}
		pos += int64(n - recordHeadLen + alignment) // a multiple of alignment
	}
	return size, nil
}

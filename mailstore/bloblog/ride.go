package bloblog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// A rider is a record that is no message: bytes of somebody else's that are to be
// durable together with the messages before them, by the one sync that makes the
// messages durable. So that waste stays small beside the mail, they ride with messages
// that are larger than they are. The index's log rides so; see package pebblekv, which knows what
// the bytes mean. A rider is waste from the beginning: it is of use after a crash only,
// in a segment that was not sealed, which is read through then anyhow.
//
// A crash may keep a rider and lose what is before it. So a rider says where the
// records begin that were not durable when it was written, and the last one of a
// segment is sure only where all of them are whole; those before it are proven by the
// next one, which was written when their sync had come to its end.

// riderMeta is the meta of a rider: where the records before it begin that its sync
// made durable.
const riderMeta = 8

// A rider is one that is not settled yet. It is sure that all it came with is whole, but
// for the last one that a crash has left in a segment.
type rider struct {
	seg  *segment
	at   place
	sure bool
}

// Ride makes durable all blobs that are finished, as Sync does, and p with them, for
// [Store.Riders]. It does so where that takes one sync of one file: took is false where
// it does not, or there is nothing to make durable but p; then nothing has happened.
// p may be used again when Ride has returned. An error means what it means of Sync, and
// that p may or may not be found after a crash.
//
// A segment with riders is not sealed until [Store.Settled] is called.
func (s *Store) Ride(ctx context.Context, p []byte) (took bool, err error) {
	const op = "blobs ride"
	if err := s.check(ctx, op); err != nil {
		return false, err
	}
	select {
	case s.group.turn <- struct{}{}: // nothing that is dirty is being synced by others
	case <-ctx.Done():
		return false, ctx.Err()
	}
	defer func() { <-s.group.turn }()
	r, writers := s.writeRider(p)
	if r.seg == nil {
		return false, nil
	}
	defer s.release(r.seg)
	if err := s.syncSegment(r.seg, writers, vfs.File.SyncData); err != nil {
		return false, imap.E(op, imap.Unavailable, fmt.Errorf("segment %08x: %w", r.seg.id, err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.riders = append(s.riders, r)
	return true, nil
}

// writeRider writes a rider behind the messages that are to be synced, which it takes
// from Store.dirty, and holds the segment. Without a segment it has done nothing.
func (s *Store) writeRider(p []byte) (r rider, writers []*writer) {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	l := s.shared.lane
	if l == nil {
		return r, nil
	}
	writers, first := s.takeDirty(l, len(p))
	if writers == nil {
		return r, nil
	}
	at := placeAt(l.seg.id, l.off)
	rec := encodeRider(s.shared.rider[:0], p, first, l.salt, at)
	s.shared.rider = rec
	err := l.writeAt(rec, l.off)
	s.mu.Lock()
	if err == nil && !l.parted() {
		r = rider{l.seg, at, true}
		l.off += int64(len(rec))
		l.seg.noteRiders(at, int64(len(rec)), 1)
		s.holdLocked(l.seg)
		s.stats.Syncs++
		s.stats.Rides++
		s.stats.RideBytes += int64(len(rec))
	} else { // who syncs them without a rider finds out what is wrong
		s.dirty[l.seg] = append(writers, s.dirty[l.seg]...)
	}
	s.mu.Unlock()
	if err == nil {
		s.grow(l)
		l.seg.setLength(l.high)
	}
	s.retireFull(l)
	return r, writers
}

// takeDirty takes the writers of the shared lane from Store.dirty if nothing else is dirty,
// nothing is lost, and so many bytes may ride with their records. first is where the first
// of these begins; they end where the lane goes on.
func (s *Store) takeDirty(l *lane, bytes int) (writers []*writer, first int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	writers = s.dirty[l.seg]
	if len(writers) == 0 || len(s.dirty) > 1 || s.lost > 0 || l.seg.failed {
		return nil, 0
	}
	first = placeOf(writers[0].ref).pos()
	for _, w := range writers {
		first = min(first, placeOf(w.ref).pos())
	}
	if float64(bytes) > s.opts.RideShare*float64(l.off-first) {
		return nil, 0
	}
	delete(s.dirty, l.seg)
	return writers, first
}

// noteRiders counts a rider, and all that is not settled. Store.mu is held.
func (g *segment) noteRiders(at place, bytes int64, unsettled int) {
	if g.ridden == 0 {
		g.rider = at.off
	}
	g.ridden += bytes
	g.dead += bytes
	g.unsettled += unsettled
}

// encodeRider appends the record of a rider to rec.
func encodeRider(rec, p []byte, first int64, salt uint64, at place) []byte {
	var list blockList
	list.addAll(p)
	tail := append(binary.LittleEndian.AppendUint64(make([]byte, 0, riderMeta+len(list.raw)), uint64(first)), list.raw...)
	h := recordHeader{
		flags: flagRider, ref: at.ref(), size: int64(len(p)), stored: int64(len(p)),
		meta: riderMeta, tailSum: sum(tail),
	}
	rec = append(rec, make([]byte, recordHeadLen)...)
	h.encode(rec, salt, at)
	return appendPadded(append(append(rec, p...), tail...))
}

// Riders calls fn with each rider that is not settled, in no particular order: those
// that a crash has left, and those since the last call of [Store.Settled]. One is not
// sure where a crash has torn what it came with, or that was damaged later: who knows of
// another one that was written after Ride had returned for this one knows that it was
// the latter. What fn is given is valid until it returns. Riders that are damaged
// themselves are left out, and logged.
func (s *Store) Riders(ctx context.Context, fn func(p []byte, sure bool) error) error {
	const op = "blobs riders"
	if err := s.check(ctx, op); err != nil {
		return err
	}
	s.mu.Lock()
	list := slices.Clone(s.riders)
	for _, r := range list {
		s.holdLocked(r.seg)
	}
	s.mu.Unlock()
	defer func() {
		for _, r := range list {
			s.release(r.seg)
		}
	}()
	for _, r := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		p, _, err := s.readRider(r.seg, r.at)
		if isDamage(err) {
			s.opts.Logger.Error("a part of the index's log that was kept beside messages is damaged", "segment", fmt.Sprintf("%08x", r.seg.id), "err", err)
			continue
		}
		if err == nil {
			err = fn(p, r.sure)
		}
		if err != nil {
			return ioError(op, err)
		}
	}
	return nil
}

// Settled says that nobody will ask for the riders that there are: what was in them is
// durable elsewhere. Their segments may be sealed.
func (s *Store) Settled() {
	s.mu.Lock()
	for _, r := range s.riders {
		r.seg.unsettled--
	}
	s.riders = s.riders[:0]
	wanted := len(s.toSeal) > 0
	s.mu.Unlock()
	if wanted {
		s.wake()
	}
}

// readRider reads a rider, checked, and where the records before it begin that it came
// with.
func (s *Store) readRider(g *segment, at place) (p []byte, first int64, err error) {
	r, err := s.readRecord(g, at, firstRead)
	if err != nil {
		return nil, 0, err
	}
	defer s.reuse(r)
	meta, list, err := r.tail()
	if err != nil {
		return nil, 0, err
	}
	if r.flags != flagRider || len(meta) != riderMeta {
		return nil, 0, errBadRecord
	}
	p = make([]byte, r.size)
	for i := range blocks(r.size) {
		if err := list.load(s.codec, i, r.size, p[i*blockSize:min(r.size, (i+1)*blockSize)], r.readContent); err != nil {
			return nil, 0, err
		}
	}
	return p, int64(binary.LittleEndian.Uint64(meta)), nil
}

// recoverRiders takes up the riders that a crash has left in a segment whose records
// are in g.entries. What they came with must be durable before anybody rests on them: a
// process that was killed has synced nothing.
func (s *Store) recoverRiders(g *segment, riders []entry) error {
	if len(riders) == 0 {
		return nil
	}
	g.mu.Lock()
	f := g.file
	g.mu.Unlock()
	for i, e := range riders {
		r := rider{g, place{g.id, e.off}, true}
		unsettled := 1
		if i == len(riders)-1 {
			first, there, whole, err := s.cameWhole(g, e)
			if err == nil && whole {
				err = rewrite(f, first, r.at.pos()+e.bytes())
			}
			if err != nil {
				return err
			}
			if r.sure = whole; !there {
				unsettled = 0
			}
		}
		if unsettled > 0 {
			s.riders = append(s.riders, r)
		}
		g.noteRiders(r.at, e.bytes(), unsettled)
	}
	return f.SyncData()
}

// rewrite writes a part of a file again, as it is. Where a sync has failed before,
// the system may have the bytes and take them for written, and a sync alone would not
// bring them to the disk.
func rewrite(f vfs.File, from, to int64) error {
	p := make([]byte, min(to-from, 256<<10))
	for ; from < to; from += int64(len(p)) {
		p = p[:min(int64(len(p)), to-from)]
		if _, err := f.ReadAt(p, from); err != nil && err != io.EOF {
			return err
		}
		_, err := f.WriteAt(p, from)
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			return nil // a disk that writes nothing over: mostly they are there
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// cameWhole reports whether a rider is whole itself, so that it is there, and whether all
// records are that it came with, which begin at first.
func (s *Store) cameWhole(g *segment, e entry) (first int64, there, whole bool, err error) {
	end := place{g.id, e.off}
	if _, first, err = s.readRider(g, end); err != nil {
		if isDamage(err) {
			err = nil
		}
		return 0, false, false, err
	}
	pos := first
	for _, m := range g.entries {
		at := place{g.id, m.off}
		if at.pos() < first || m.off > e.off {
			continue
		}
		if at.pos() != pos {
			return first, true, false, nil
		}
		err := s.verify(g, at)
		if isDamage(err) {
			return first, true, false, nil
		}
		if err != nil { // no crash leaves that
			s.opts.Logger.Error("a message that was stored last before a crash cannot be read; it is taken for one that is there", "segment", fmt.Sprintf("%08x", g.id), "err", err)
		}
		pos += m.bytes()
	}
	return first, true, pos == end.pos(), nil
}

// noteWaste has the dead log say how much of a segment that was sealed is riders, under
// the place of the first: the segment's index leaves them out. Where that fails, space
// is taken back later than it might be.
func (s *Store) noteWaste(g *segment) {
	s.mu.Lock()
	e := entry{ref: place{g.id, g.rider}.ref(), off: g.rider, length: uint32(g.ridden / alignment)}
	added := g.ridden > 0 && s.dead.add(e.ref, e.length)
	s.mu.Unlock()
	if !added {
		return
	}
	if err := s.deadLog.append([]entry{e}); err != nil {
		s.opts.Logger.Warn("how much of a segment is of no use is not noted", "segment", fmt.Sprintf("%08x", g.id), "err", err)
	}
}

// isRider reports whether riders that were found in the segment are counted under a Ref.
func (g *segment) isRider(ref driver.Ref) bool {
	return g.ridden > 0 && ref == place{g.id, g.rider}.ref()
}

// forgetWaste forgets what was noted of a segment that is gone: what is dead, and is
// neither a record of it nor elsewhere.
func (s *Store) forgetWaste(g *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range slices.Clone(s.dead[g.id]) {
		ref := place{g.id, d.off}.ref()
		if _, moved := s.moves.find(ref); !moved && s.stale[ref] == 0 {
			s.dead.remove(ref)
		}
	}
}

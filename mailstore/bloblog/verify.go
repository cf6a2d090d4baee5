package bloblog

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// Verify checks what finding blobs rests on: the header and the index of every
// segment, and the header of every record. found is called for what is damaged.
// With contents it reads all that is in the records, too, which is of use where
// nobody knows their names; otherwise that is verified when a blob is read.
// Verify may run beside anything.
func (s *Store) Verify(ctx context.Context, contents bool, found func(Damage)) error {
	if err := s.check(ctx, "blobs verify"); err != nil {
		return err
	}
	s.mu.Lock()
	ids := slices.Sorted(maps.Keys(s.segments))
	s.mu.Unlock()
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return err
		}
		g := s.acquire(id)
		if g == nil {
			continue // taken away meanwhile
		}
		err := s.verifySegment(ctx, g, contents, found)
		s.release(g)
		if err != nil {
			return ioError("blobs verify", err)
		}
	}
	return nil
}

// Damage is a part of a segment that does not match its checksum.
type Damage struct {
	File string // in the folder of the store
	// Account and Ref name the blob; both are 0 where the damage is not in a
	// record, but in the file's header or index.
	Account uint64
	Ref     uint64
	Live    bool // nobody has deleted the blob
	Err     error
}

func (s *Store) verifySegment(ctx context.Context, g *segment, contents bool, found func(Damage)) error {
	g.mu.Lock()
	name := path.Base(g.name(g.sealed, g.moved))
	g.mu.Unlock()
	if _, _, err := g.open(); err != nil {
		found(Damage{File: name, Err: err})
		return nil
	}
	if g.isSealed() {
		if _, err := g.readFooter(); isDamage(err) {
			found(Damage{File: name, Err: err})
		} else if err != nil {
			return err
		}
	}
	entries, err := s.allEntries(g)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, err := s.readRecord(g, place{g.id, e.off}, recordHeadLen)
		if err == nil && (r.account != e.account || r.ref != e.ref || r.length() != e.bytes()) {
			err = errBadRecord
		}
		if err == nil && contents {
			err = s.verify(g, place{g.id, e.off})
		}
		if isDamage(err) {
			s.mu.Lock()
			live := s.livesLocked(g, e)
			s.mu.Unlock()
			found(Damage{File: name, Account: uint64(e.account), Ref: uint64(e.ref), Live: live, Err: err})
		} else if err != nil {
			return err
		}
	}
	return nil
}

// Holds reports whether the segment that a blob is in is there. It reads nothing.
func (s *Store) Holds(ref driver.Ref) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.segments[s.locateLocked(ref).segment]
	return g != nil && !g.isLost() || s.lostMoves
}

// Deleted reports whether a blob is known to have been deleted. The store forgets that
// when it takes the space back.
func (s *Store) Deleted(ref driver.Ref) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead.has(ref)
}

// FileOf names the file that a blob is in, or was in when it was last heard of,
// without what follows the dot.
func (s *Store) FileOf(ref driver.Ref) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("%08x", s.locateLocked(ref).segment)
}

func isDamage(err error) bool {
	return err != nil && imap.KindOf(ioError("", err)) == imap.Corruption
}

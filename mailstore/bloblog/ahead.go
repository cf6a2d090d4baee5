package bloblog

import (
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// What is fetched in order mostly lies in order, one record behind the other. So
// who opens the record behind one that was opened shortly before gets it out of
// a window: a piece of the segment that is read at once, for all who pass there.
const (
	windowBytes = 128 << 10
	windowsKept = 8  // windows that are kept though nobody reads in them
	windowsMost = 32 // when so many exist nothing is read ahead: 4 MB
	endsKept    = 64 // records that count as opened shortly before
)

// readAhead has the windows of a store.
type readAhead struct {
	rooms sync.Pool // *window, to be filled again

	mu   sync.Mutex
	kept []*window // the latest first
	all  int       // windows that are kept or in use
	ends [endsKept]recordEnd
	next int // in ends
}

// A window is a piece of a segment as it was once. What was appended later may
// be missing in it, so where a record in it is not as it should be, the file
// decides.
type window struct {
	segment uint32
	from    int64
	data    []byte
	users   int // readers, and readAhead.kept; guarded by readAhead.mu
	room    [windowBytes]byte
}

type recordEnd struct {
	segment uint32
	pos     int64
}

// find returns the window in which the header of the record at pos is, for
// release, or else whether to read one because of what was opened before.
func (ra *readAhead) find(segment uint32, pos int64) (w *window, worth bool) {
	ra.mu.Lock()
	defer ra.mu.Unlock()
	for _, w := range ra.kept {
		if w.segment == segment && w.from <= pos && pos+recordHeadLen <= w.from+int64(len(w.data)) {
			w.users++
			return w, true
		}
	}
	if ra.all >= windowsMost {
		return nil, false
	}
	for _, e := range ra.ends {
		if e.segment == segment && e.pos == pos {
			return nil, true
		}
	}
	return nil, false
}

// read makes a window of what is at pos, for release.
func (ra *readAhead) read(f vfs.File, segment uint32, pos int64) (*window, error) {
	w, _ := ra.rooms.Get().(*window)
	if w == nil {
		w = new(window)
	}
	n, err := f.ReadAt(w.room[:], pos)
	if err != nil && err != io.EOF {
		return nil, err
	}
	w.segment, w.from, w.data, w.users = segment, pos, w.room[:n], 2
	ra.mu.Lock()
	defer ra.mu.Unlock()
	ra.all++
	if len(ra.kept) == windowsKept {
		ra.releaseLocked(ra.kept[windowsKept-1])
		ra.kept = ra.kept[:windowsKept-1]
	}
	ra.kept = append(ra.kept, nil)
	copy(ra.kept[1:], ra.kept)
	ra.kept[0] = w
	return w, nil
}

func (ra *readAhead) release(w *window) {
	ra.mu.Lock()
	defer ra.mu.Unlock()
	ra.releaseLocked(w)
}

func (ra *readAhead) releaseLocked(w *window) {
	if w.users--; w.users == 0 {
		ra.all--
		ra.rooms.Put(w)
	}
}

// opened notes where a record ends that was opened.
func (ra *readAhead) opened(segment uint32, end int64) {
	ra.mu.Lock()
	ra.ends[ra.next%endsKept] = recordEnd{segment, end}
	ra.next++
	ra.mu.Unlock()
}

// readAhead is readRecord out of a window; nil where there is none for it.
func (s *Store) readAhead(g *segment, at place) (*record, error) {
	f, salt, err := g.open()
	if err != nil {
		return nil, err
	}
	w, worth := s.ahead.find(g.id, at.pos())
	for fresh := false; worth && !fresh; {
		if w == nil {
			if w, err = s.ahead.read(f, g.id, at.pos()); err != nil {
				return nil, err
			}
			fresh = true
		}
		r := &record{seg: g, file: f, at: at, win: w, head: w.data[at.pos()-w.from:]}
		r.recordHeader, err = decodeRecordHeader(r.head, salt, at)
		if err == nil && r.length() <= int64(len(r.head)) {
			return r, nil
		}
		s.ahead.release(w)
		if err == nil && r.length() > windowBytes {
			return nil, nil
		}
		w = nil // it ends in the record, or was read before the record was there
	}
	return nil, nil
}

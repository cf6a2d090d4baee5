package bloblog

import (
	"context"
	"io"
	"maps"
	"path"
	"slices"
)

// A Hold keeps the files of a store from being taken away, so that they can be
// copied while the store goes on. It is used by one goroutine.
type Hold struct {
	// Files has all segments. Copies of them, in a folder of their own, are a
	// store with every blob that was durable and not deleted when the moment of
	// the Hold was, and perhaps with others, which Sweep finds.
	Files []HeldFile

	store    *Store
	segments []*segment
}

// A HeldFile is a segment.
type HeldFile struct {
	Name string // in the folder of the store
	Size int64  // what was in it at the moment of the Hold, and is to be copied
	// Sealed files never change, so that a link does as well as a copy. The
	// others are being written: they are copied by way of Open.
	Sealed bool

	seg *segment
}

// Hold holds the store. While moment runs no blob changes its place and no
// space is taken back: an index that is copied in it names no blob that is not
// in Files. New blobs are written all the while. The caller calls Release.
func (s *Store) Hold(ctx context.Context, moment func() error) (*Hold, error) {
	if err := s.check(ctx, "blobs hold"); err != nil {
		return nil, err
	}
	s.tidying.Lock()
	defer s.tidying.Unlock()
	if err := moment(); err != nil {
		return nil, err
	}
	if err := s.check(ctx, "blobs hold"); err != nil {
		return nil, err
	}
	h := &Hold{store: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(s.segments)) {
		g := s.acquireLocked(id)
		h.segments = append(h.segments, g)
		g.mu.Lock()
		h.Files = append(h.Files, HeldFile{Name: path.Base(g.name(g.sealed, g.moved)), Size: g.size, Sealed: g.sealed, seg: g})
		g.mu.Unlock()
	}
	return h, nil
}

// Open returns the content of the file, damaged or not. It is closed before the
// Hold is released.
func (f *HeldFile) Open() (io.ReadCloser, error) {
	file, _, err := f.seg.open()
	if err == nil {
		return io.NopCloser(io.NewSectionReader(file, 0, f.Size)), nil
	}
	if !isDamage(err) {
		return nil, ioError("blobs copy", err)
	}
	file, err = f.seg.fs.Open(f.seg.fs.PathJoin(f.seg.dir, f.Name))
	if err != nil {
		return nil, ioError("blobs copy", err)
	}
	return file, nil
}

// Verify reads all that is in a file and compares it with its checksums; found is
// called for what is damaged.
func (h *Hold) Verify(ctx context.Context, f *HeldFile, found func(Damage)) error {
	return ioError("blobs verify", h.store.verifySegment(ctx, f.seg, true, found))
}

// Release lets the store go on as before.
func (h *Hold) Release() {
	for _, g := range h.segments {
		h.store.release(g)
	}
	h.segments = nil
}

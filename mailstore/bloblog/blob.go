package bloblog

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// firstRead is what Open reads at once: a record of average length is in it.
const firstRead = 16 << 10

// A record is one found in a segment, with the segment held for its reader.
type record struct {
	recordHeader
	seg  *segment
	file vfs.File
	at   place
	head []byte  // the first bytes of the record, as far as they were read
	full *[]byte // head's memory, where it comes from Store.heads
	win  *window // head's memory, where it was read ahead
}

// find locates the blob and reads its header and up to size bytes in all, with
// ahead perhaps out of a window. Afterwards the segment is held, unless there is
// an error.
func (s *Store) find(a driver.Account, ref driver.Ref, size int, ahead bool) (*record, error) {
	s.mu.Lock()
	at := s.locateLocked(ref)
	gone := s.goneLocked(ref)
	var g *segment
	if !gone {
		g = s.acquireLocked(at.segment)
	}
	lost := s.lostMoves && at.segment <= s.lastID && ref != 0
	s.mu.Unlock()
	if g == nil && !gone && lost {
		return nil, errBadFooter // it may be where nothing can be found
	}
	if g == nil {
		return nil, imap.E("blob open", imap.NotFound, nil)
	}
	var r *record
	var err error
	if ahead {
		r, err = s.readAhead(g, at)
	}
	if r == nil && err == nil {
		r, err = s.readRecord(g, at, size)
	}
	if err == errBadRecord {
		err = s.explain(g, a, ref, at)
	}
	if err == nil && (r.account != a || r.ref != ref || r.flags == flagRider) {
		err = imap.E("blob open", imap.NotFound, nil)
	}
	if err != nil {
		s.release(g)
		return nil, err
	}
	return r, nil
}

// explain tells a record that is damaged from one that never was.
func (s *Store) explain(g *segment, a driver.Account, ref driver.Ref, at place) error {
	entries, err := s.entriesOf(g, a)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.ref == ref && e.off == at.off {
			return errBadRecord
		}
	}
	return imap.E("blob open", imap.NotFound, nil)
}

// goneLocked reports whether ref was deleted, or will be when its pin ends.
func (s *Store) goneLocked(ref driver.Ref) bool {
	p := s.pins[ref]
	return p != nil && p.deleted != nil || s.dead.has(ref)
}

func (s *Store) locateLocked(ref driver.Ref) place {
	if at, ok := s.moves.find(ref); ok {
		return at
	}
	return placeOf(ref)
}

// readRecord reads what find says. The memory of firstRead bytes is used again.
func (s *Store) readRecord(g *segment, at place, size int) (*record, error) {
	f, salt, err := g.open()
	if err != nil {
		return nil, err
	}
	if at.pos() < segmentHeader {
		return nil, errBadRecord
	}
	r := &record{seg: g, file: f, at: at}
	if size == firstRead {
		r.full, _ = s.heads.Get().(*[]byte)
	}
	if r.full == nil {
		p := make([]byte, max(size, recordHeadLen))
		r.full = &p
	}
	n, err := f.ReadAt(*r.full, at.pos())
	if err == nil || err == io.EOF {
		r.head = (*r.full)[:n]
		r.recordHeader, err = decodeRecordHeader(r.head, salt, at)
	}
	if err == nil && at.pos()+r.length() > g.length() {
		err = errBadTail // the file ends before the record does
	}
	if err != nil {
		s.reuse(r)
		return nil, err
	}
	return r, nil
}

// reuse takes back the memory that the record's beginning was read into. It may
// be called twice.
func (s *Store) reuse(r *record) {
	if r.full != nil && len(*r.full) == firstRead {
		s.heads.Put(r.full)
	}
	if r.win != nil {
		s.ahead.release(r.win)
	}
	r.full, r.head, r.win = nil, nil, nil
}

// read fills p from the record, pos bytes behind its beginning.
func (r *record) read(p []byte, pos int64) error {
	n := 0
	if pos < int64(len(r.head)) {
		n = copy(p, r.head[pos:])
	}
	if n == len(p) {
		return nil
	}
	if m, err := r.file.ReadAt(p[n:], r.at.pos()+pos+int64(n)); n+m < len(p) {
		if err == io.EOF {
			return errBadTail
		}
		return err
	}
	return nil
}

// tail reads meta and the entries of the blocks.
func (r *record) tail() (meta []byte, list blockList, err error) {
	p := make([]byte, r.tailLen())
	if err := r.read(p, recordHeadLen+r.stored); err != nil {
		return nil, list, err
	}
	if sum(p) != r.tailSum {
		return nil, list, errBadTail
	}
	return p[:r.meta:r.meta], blockList{r.flags&flagZstd != 0, p[r.meta:]}, nil
}

// readContent fills p from the content as it is in the file.
func (r *record) readContent(p []byte, pos int64) error {
	if pos+int64(len(p)) > r.stored {
		return errBadTail
	}
	return r.read(p, recordHeadLen+pos)
}

// A short blob is one block, and a driver.Blobs promises to check those at once.
const _ = uint(blockSize - driver.CheckedAtOpen)

// Open implements driver.Blobs. A blob of up to one block (64 kB) is read and
// checked at once; of a longer one each block is checked when it is read.
func (s *Store) Open(ctx context.Context, a driver.Account, ref driver.Ref) (driver.Blob, error) {
	if err := s.check(ctx, "blob open"); err != nil {
		return nil, err
	}
	b, ahead, err := s.open(a, ref, true)
	if err != nil && ahead {
		b, _, err = s.open(a, ref, false) // it may have been read while it was written
	}
	if err != nil {
		return nil, s.named("blob open", a, ref, err)
	}
	return b, nil
}

// open is Open; ahead says that it may take a window, and has done so.
func (s *Store) open(a driver.Account, ref driver.Ref, ahead bool) (*blob, bool, error) {
	r, err := s.find(a, ref, firstRead, ahead)
	if err != nil {
		return nil, false, err
	}
	ahead = r.win != nil
	b := &blob{store: s, r: r, a: a, ref: ref, cached: -1}
	if _, b.list, err = r.tail(); err == nil {
		err = b.settle()
	}
	if err != nil {
		s.reuse(r)
		s.release(r.seg)
		return nil, ahead, err
	}
	s.ahead.opened(r.at.segment, r.at.pos()+r.length())
	return b, ahead, nil
}

// named counts what is damaged, and puts the blob's name to the error.
func (s *Store) named(op string, a driver.Account, ref driver.Ref, err error) error {
	err = ioError(op, err)
	kind := imap.KindOf(err)
	if kind == imap.Corruption {
		s.mu.Lock()
		s.countDamagedLocked(ref)
		s.mu.Unlock()
	}
	return imap.E(op, kind, fmt.Errorf("blob %#x of account %d: %w", uint64(ref), a, err))
}

// maxDamaged bounds the damaged blobs that are told apart: with so many, one more is
// no news.
const maxDamaged = 100_000

// countDamagedLocked counts a damaged blob, once.
func (s *Store) countDamagedLocked(ref driver.Ref) {
	if _, known := s.damaged[ref]; known || len(s.damaged) >= maxDamaged {
		return
	}
	s.damaged[ref] = struct{}{}
	s.stats.Damaged++
}

// blob is an open blob: a short one has its content in data and holds no
// segment.
type blob struct {
	store *Store
	r     *record
	a     driver.Account
	ref   driver.Ref
	list  blockList
	data  []byte  // all of a short blob
	room  *[]byte // data's memory, where it comes from the codec's blocks

	mu     sync.Mutex
	closed bool
	cached int64   // the block that is in block, or -1
	block  *[]byte // the last block of which only a part was asked for; of the codec's
}

// short reports whether the blob is read and checked when it is opened.
func (b *blob) short() bool { return b.r.size <= blockSize }

// settle reads a short blob whole and lets go of its segment.
func (b *blob) settle() error {
	if !b.short() {
		b.store.reuse(b.r)
		return nil
	}
	switch {
	case b.r.size == 0:
		b.data = []byte{}
	case !b.list.packed && int64(len(b.r.head)) >= recordHeadLen+b.r.stored:
		b.data = b.r.head[recordHeadLen : recordHeadLen+b.r.stored]
		if ofStored, _ := b.list.sums(0); sum(b.data) != ofStored {
			return errBadContent
		}
	default:
		b.room = b.store.codec.block()
		b.data = (*b.room)[:b.r.size]
		if err := b.load(0, b.data); err != nil {
			b.giveRoom()
			return err
		}
		b.store.reuse(b.r)
	}
	b.store.release(b.r.seg)
	return nil
}

func (b *blob) giveRoom() {
	if b.room != nil {
		b.store.codec.blocks.Put(b.room)
		b.room, b.data = nil, nil
	}
}

// Size implements driver.Blob.
func (b *blob) Size() int64 { return b.r.size }

// ReadAt implements io.ReaderAt.
func (b *blob) ReadAt(p []byte, off int64) (int, error) {
	total := 0
	for total < len(p) && off < b.r.size {
		n, err := b.readBlock(p[total:], off)
		total += n
		off += int64(n)
		if err != nil {
			return total, b.store.named("blob read", b.a, b.ref, err)
		}
	}
	if total < len(p) {
		return total, io.EOF
	}
	return total, nil
}

// readBlock reads from one block, checked.
func (b *blob) readBlock(p []byte, off int64) (int, error) {
	if b.short() {
		if b.data == nil {
			return 0, imap.E("blob read", imap.ServerBug, os.ErrClosed)
		}
		return copy(p, b.data[off:]), nil
	}
	i := off / blockSize
	begin := i * blockSize
	length := min(blockSize, b.r.size-begin)
	if off == begin && int64(len(p)) >= length { // the whole block is wanted
		if err := b.load(i, p[:length]); err != nil {
			return 0, err // p has bytes that nobody may take for the content
		}
		return int(length), nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cached != i {
		if b.block == nil {
			b.block = b.store.codec.block()
		}
		b.cached = -1
		if err := b.load(i, (*b.block)[:length]); err != nil {
			return 0, err
		}
		b.cached = i
	}
	return copy(p, (*b.block)[off-begin:length]), nil
}

func (b *blob) load(i int64, p []byte) error {
	return b.list.load(b.store.codec, i, b.r.size, p, b.r.readContent)
}

// Close implements io.Closer.
func (b *blob) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	if !b.short() {
		b.store.release(b.r.seg)
	}
	b.data = nil
	b.giveRoom()
	if b.block != nil {
		b.store.codec.blocks.Put(b.block)
		b.block, b.cached = nil, -1
	}
	b.store.reuse(b.r)
	return nil
}

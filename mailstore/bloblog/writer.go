package bloblog

import (
	"context"
	"errors"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// A writer gathers a blob in buf, behind room for the record's header, until it
// is longer than smallMax. Then it takes a lane and writes whole blocks there,
// compressed where the store does so; buf keeps what is not written yet.
type writer struct {
	store   *Store
	account driver.Account
	want    int64           // the size that was announced, or -1
	ctx     context.Context // Create's: how long to wait for a lane

	buf     []byte // recordHeadLen bytes of room, then content
	flushed int64  // content bytes that are in the lane
	stored  int64  // what they take there
	list    blockList
	lane    *lane   // nil for a short blob
	start   int64   // where the record begins in the lane
	read    *[]byte // the last block of the lane that was read back, and
	readIs  int64   // its number

	ref      driver.Ref // not 0 once finished
	err      error      // the write that failed: nothing else will succeed
	released bool       // by Free or Release
	unpinned bool
	lost     bool // guarded by Store.mu: a failed sync has lost the blob

	kept   *segment // holds a finished long blob, for ReadAt
	length int64    // of the finished content
}

var (
	errDone    = errors.New("the blob is finished or released already")
	errSize    = errors.New("the content is not as long as was said at the beginning")
	errMetaLen = errors.New("meta is longer than 4 kB")
)

// Create implements driver.Blobs.
func (s *Store) Create(ctx context.Context, a driver.Account, size int64) (driver.Writer, error) {
	if err := s.check(ctx, "blob create"); err != nil {
		return nil, err
	}
	room := int64(4 << 10)
	if size >= 0 {
		// Meta and checksums mostly fit as well. What is only announced takes
		// no more than this.
		room = min(size, firstRoom) + 512
	}
	w := &writer{store: s, account: a, want: size, ctx: ctx, buf: s.takeBuf(recordHeadLen + int(room))}
	w.list.packed = s.codec.enc != nil
	return w, nil
}

// keepBuf bounds the buffers that are kept for other writers.
const keepBuf = 2 * firstRoom

// takeBuf returns a buffer with room for a record's header, and for size bytes in
// all, or more.
func (s *Store) takeBuf(size int) []byte {
	if b, ok := s.bufs.Get().(*[]byte); ok && cap(*b) >= size {
		buf := (*b)[:recordHeadLen]
		clear(buf)
		return buf
	}
	return make([]byte, recordHeadLen, size)
}

func (s *Store) putBuf(buf []byte) {
	if cap(buf) <= keepBuf {
		s.bufs.Put(&buf)
	}
}

func (w *writer) pending() []byte { return w.buf[recordHeadLen:] }

func (w *writer) size() int64 { return w.flushed + int64(len(w.pending())) }

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	if w.ref != 0 || w.released {
		return 0, imap.E("blob write", imap.ServerBug, errDone)
	}
	if w.err != nil {
		return 0, w.err
	}
	if w.want >= 0 && w.size()+int64(len(p)) > w.want {
		return 0, imap.E("blob write", imap.ServerBug, errSize)
	}
	written := 0
	for len(p) > 0 {
		if len(w.pending()) == smallMax {
			if err := w.flush(smallMax); err != nil {
				w.err = ioError("blob write", err)
				return written, w.err
			}
		}
		n := min(len(p), smallMax-len(w.pending()))
		w.buf = append(w.buf, p[:n]...)
		p = p[n:]
		written += n
	}
	return written, nil
}

// flush writes the first n pending bytes into the lane. n is a multiple of
// blockSize, or all that is left.
func (w *writer) flush(n int) error {
	if w.lane == nil {
		l, err := w.store.takeLane(w.ctx, w.account)
		if err != nil {
			return err
		}
		w.lane, w.start = l, l.off
	}
	content := w.pending()[:n]
	if err := w.writeBlocks(content); err != nil {
		return err
	}
	w.flushed += int64(n)
	rest := copy(w.pending(), w.pending()[n:])
	w.buf = w.buf[:recordHeadLen+rest]
	return nil
}

// writeBlocks writes content into the lane, with one write.
func (w *writer) writeBlocks(content []byte) error {
	stored, entries := content, len(w.list.raw)
	if w.list.packed {
		room := w.store.codec.room()
		defer w.store.codec.rooms.Put(room)
		*room = w.list.pack(w.store.codec, (*room)[:0], content)
		stored = *room
	} else {
		w.list.addAll(content)
	}
	if err := w.lane.writeAt(stored, w.start+recordHeadLen+w.stored); err != nil {
		w.list.raw = w.list.raw[:entries]
		return err
	}
	w.stored += int64(len(stored))
	return nil
}

// Finish implements driver.Writer.
func (w *writer) Finish(meta []byte) (driver.Ref, error) {
	switch {
	case w.ref != 0 || w.released:
		return 0, imap.E("blob finish", imap.ServerBug, errDone)
	case w.err != nil:
		return 0, w.err
	case w.want >= 0 && w.size() != w.want:
		return 0, imap.E("blob finish", imap.ServerBug, errSize)
	case len(meta) > maxMeta:
		return 0, imap.E("blob finish", imap.ServerBug, errMetaLen)
	}
	if err := w.store.check(context.Background(), "blob finish"); err != nil {
		return 0, err
	}
	finish := w.finishShort
	if w.lane != nil {
		finish = w.finishLong
	}
	w.length = w.size()
	if err := finish(meta); err != nil {
		w.err = ioError("blob finish", err)
		return 0, w.err
	}
	return w.ref, nil
}

// header is that of the finished record; its tail is meta and the list.
func (w *writer) header(meta []byte) (h recordHeader, tail []byte) {
	tail = append(append(make([]byte, 0, len(meta)+len(w.list.raw)+alignment), meta...), w.list.raw...)
	h = recordHeader{account: w.account, size: w.length, stored: w.stored, meta: uint32(len(meta)), tailSum: sum(tail)}
	if w.list.packed {
		h.flags = flagZstd
	}
	return h, tail
}

// finishShort makes a record of the content in buf and appends it to the shared
// lane. Where nothing is compressed, buf itself becomes the record.
func (w *writer) finishShort(meta []byte) error {
	if w.list.packed && w.length >= packFrom {
		room := w.store.codec.room()
		defer w.store.codec.rooms.Put(room)
		*room = w.list.pack(w.store.codec, append((*room)[:0], w.buf[:recordHeadLen]...), w.pending())
		w.stored = int64(len(*room) - recordHeadLen)
		if h, tail := w.header(meta); h.length() < align(recordHeadLen+w.length+int64(len(meta))+plainEntry*blocks(w.length)) {
			*room = appendPadded(append(*room, tail...))
			return w.store.appendRecord(w, *room, h)
		}
	}
	w.list = blockList{}
	w.list.addAll(w.pending())
	w.stored = w.length
	h, tail := w.header(meta)
	rec := appendPadded(append(w.buf, tail...))
	w.buf = rec[:len(w.buf)]
	return w.store.appendRecord(w, rec, h)
}

// appendPadded adds what makes a record's length a multiple of alignment.
func appendPadded(rec []byte) []byte {
	for len(rec)%alignment != 0 {
		rec = append(rec, 0)
	}
	return rec
}

// finishLong writes what is missing, the header last, and sees to it that little
// is left for the Sync to do that all others wait for.
func (w *writer) finishLong(meta []byte) error {
	if err := w.flush(len(w.pending())); err != nil {
		return err
	}
	if w.stored == w.flushed { // nothing got smaller
		w.list.unpack()
	}
	h, tail := w.header(meta)
	l, at := w.lane, placeAt(w.lane.seg.id, w.start)
	h.ref = at.ref()
	for (recordHeadLen+h.stored+int64(len(tail)))%alignment != 0 {
		tail = append(tail, 0)
	}
	if err := l.writeAt(tail, w.start+recordHeadLen+h.stored); err != nil {
		return err
	}
	head := make([]byte, recordHeadLen)
	h.encode(head, l.salt, at)
	if err := l.writeAt(head, w.start); err != nil {
		return err
	}
	if err := w.store.syncSegment(l.seg, nil, vfs.File.SyncData); err != nil {
		return err
	}
	w.kept = w.store.acquire(l.seg.id)
	l.off = w.start + h.length()
	if err := w.store.publish(l, w, entry{w.account, h.ref, at.off, uint32(h.length() / alignment)}); err != nil {
		return err
	}
	w.lane = nil
	w.store.giveLane(l, w.account)
	return nil
}

// ReadAt implements io.ReaderAt.
func (w *writer) ReadAt(p []byte, off int64) (int, error) {
	if w.released {
		return 0, imap.E("blob read back", imap.ServerBug, errDone)
	}
	n := 0
	if off < w.flushed && len(p) > 0 {
		seg, m := w.kept, min(int64(len(p)), w.flushed-off)
		if seg == nil {
			seg = w.lane.seg
		}
		f, _, err := seg.open()
		if err == nil {
			n, err = w.readFlushed(f, p[:m], off)
		}
		if int64(n) < m {
			return n, ioError("blob read back", err)
		}
	}
	if rest := off + int64(n) - w.flushed; rest >= 0 && rest < int64(len(w.pending())) {
		n += copy(p[n:], w.pending()[rest:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readFlushed reads what is in the lane's file.
func (w *writer) readFlushed(f vfs.File, p []byte, off int64) (n int, err error) {
	if !w.list.packed {
		return f.ReadAt(p, w.start+recordHeadLen+off)
	}
	if w.read == nil {
		w.read, w.readIs = w.store.codec.block(), -1
	}
	for n < len(p) {
		i := (off + int64(n)) / blockSize
		block := (*w.read)[:min(blockSize, w.flushed-i*blockSize)]
		if w.readIs != i {
			w.readIs = -1
			err := w.list.load(w.store.codec, i, w.flushed, block, func(p []byte, pos int64) error {
				if n, err := f.ReadAt(p, w.start+recordHeadLen+pos); n < len(p) {
					return err
				}
				return nil
			})
			if err != nil {
				return n, err
			}
			w.readIs = i
		}
		n += copy(p[n:], block[off+int64(n)-i*blockSize:])
	}
	return n, nil
}

// Release implements driver.Writer.
func (w *writer) Release() {
	w.Free()
	if w.ref != 0 && !w.unpinned {
		w.unpinned = true
		w.store.unpin(w.ref)
		w.store.forgive(w)
	}
}

// Free is Release but for the pin of a finished blob, which lasts until Release. So
// who has to keep the pin for a while, since a failed sync may lose the blob yet,
// keeps little memory with it. Only Release may follow.
func (w *writer) Free() {
	if w.released {
		return
	}
	w.released = true
	if w.lane != nil { // not finished: the next record goes over it
		w.store.giveLane(w.lane, w.account)
		w.lane = nil
	}
	if w.kept != nil {
		w.store.release(w.kept)
		w.kept = nil
	}
	if w.read != nil {
		w.store.codec.blocks.Put(w.read)
		w.read = nil
	}
	w.store.putBuf(w.buf)
	w.buf, w.list, w.ctx = nil, blockList{}, nil
}

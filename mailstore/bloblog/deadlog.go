package bloblog

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/internal/durable"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// A deadLog keeps on disk which blobs were deleted, so that a restart knows
// without asking how much of each segment is dead. It is written without syncs, but
// for blobs that were never named: what a crash takes from it, Sweep finds again.
// What it says is true all the same, since a Delete comes after the commit that took
// the last name away, and since a place is never used for another blob.
//
// The file is a row of frames: length and checksum of what follows, then refs
// (8 bytes) with the lengths of their records (4 bytes).
type deadLog struct {
	fs        vfs.FS
	dir, path string

	mu      sync.Mutex
	file    vfs.File
	off     int64
	entries int // in the file
}

const (
	deadLen      = 12
	frameHead    = 8
	deadPerFrame = 4096
	// rewriteAbove is the number of entries below which the file is left alone,
	// however few of them are still of use.
	rewriteAbove = 16 << 10
)

func newDeadLog(fs vfs.FS, dir string) *deadLog {
	return &deadLog{fs: fs, dir: dir, path: fs.PathJoin(dir, "deleted")}
}

// load calls fn for each entry, and reports whether the file was whole.
func (d *deadLog) load(fn func(ref driver.Ref, length uint32)) (whole bool, err error) {
	f, err := d.fs.OpenReadWrite(d.path, categoryBlobs)
	if err != nil {
		return false, err
	}
	d.file = f
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	p := make([]byte, info.Size())
	if _, err := f.ReadAt(p, 0); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	for len(p) >= frameHead {
		n := int(binary.LittleEndian.Uint32(p))
		if n == 0 || n%deadLen != 0 || n > len(p)-frameHead || binary.LittleEndian.Uint32(p[4:]) != sum(p[frameHead:frameHead+n]) {
			break
		}
		for q := p[frameHead : frameHead+n]; len(q) > 0; q = q[deadLen:] {
			fn(driver.Ref(binary.LittleEndian.Uint64(q)), binary.LittleEndian.Uint32(q[8:]))
			d.entries++
		}
		p = p[frameHead+n:]
		d.off += int64(frameHead + n)
	}
	return len(p) == 0, nil
}

func appendFrames(p []byte, entries []entry) []byte {
	for len(entries) > 0 {
		n := min(len(entries), deadPerFrame)
		at := len(p)
		p = append(p, make([]byte, frameHead)...)
		for _, e := range entries[:n] {
			p = binary.LittleEndian.AppendUint64(p, uint64(e.ref))
			p = binary.LittleEndian.AppendUint32(p, e.length)
		}
		binary.LittleEndian.PutUint32(p[at:], uint32(n*deadLen))
		binary.LittleEndian.PutUint32(p[at+4:], sum(p[at+frameHead:]))
		entries = entries[n:]
	}
	return p
}

func (d *deadLog) append(entries []entry) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := appendFrames(nil, entries)
	if _, err := d.file.WriteAt(p, d.off); err != nil {
		return err // the next frame goes over it
	}
	d.off += int64(len(p))
	d.entries += len(entries)
	return nil
}

// sync makes durable what was appended.
func (d *deadLog) sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.file.SyncData()
}

// rewrite replaces the file by one with what all returns, if that is much
// shorter or force is set.
func (d *deadLog) rewrite(force bool, all func() []entry) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !force && d.entries < rewriteAbove {
		return nil
	}
	keep := all()
	if !force && d.entries < 2*len(keep) {
		return nil
	}
	tmp := d.path + ".new"
	f, err := d.fs.Create(tmp, categoryBlobs)
	if err != nil {
		return err
	}
	p := appendFrames(nil, keep)
	if _, err = f.Write(p); err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = d.fs.Rename(tmp, d.path)
	}
	if err != nil {
		return err
	}
	next, err := d.fs.OpenReadWrite(d.path, categoryBlobs)
	if err != nil {
		return err
	}
	d.file.Close() // replaced
	d.file, d.off, d.entries = next, int64(len(appendFrames(nil, keep))), len(keep)
	return durable.SyncDir(d.fs, d.dir)
}

// restore writes the file anew where it is gone. Before that it calls prepare with
// what it was.
func (d *deadLog) restore(prepare func(vfs.File) error, all func() []entry) (gone bool, err error) {
	d.mu.Lock()
	named, err := durable.Names(d.fs, d.path, d.file)
	if !named && err == nil {
		gone, err = true, prepare(d.file)
	}
	d.mu.Unlock()
	if gone && err == nil {
		err = d.rewrite(true, all)
	}
	return gone, err
}

func (d *deadLog) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.file.Sync()
	if e := d.file.Close(); err == nil {
		err = e
	}
	return err
}

package reserve

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"runtime"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/internal/durable"
)

// An index cannot be opened, nor closed in order, without writing something. So a
// part of the reserve may be a file, the ballast, which nobody reads: where
// something else has filled the disk, it is removed, and makes the room that a
// start, an end or an opening after a failure needs.

// Bounds of the ballast: an eighth of the reserve, so that less than half of what
// is kept for the index is in it.
const (
	ballastPart  = 8
	mostBallast  = 32 << 20
	leastBallast = 1 << 20
)

const ballastCategory vfs.DiskWriteCategory = "rookery-reserve"

// ballastBytes is how large the ballast of a reserve is, 0 for none.
func ballastBytes(reserve int64) int64 {
	n := min(reserve/ballastPart, mostBallast)
	if n < leastBallast {
		return 0
	}
	return n
}

// DropBallast removes the ballast where less of the disk is free than it takes,
// and reports whether it did. It is for when something must be written, and
// there may be no room for it.
func (g *Guard) DropBallast() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ballast == 0 {
		return false
	}
	usage, err := g.opts.FS.GetDiskUsage(g.opts.Path)
	if err != nil || usage.AvailBytes >= uint64(g.ballast) {
		return false
	}
	if err := g.opts.FS.Remove(g.opts.Ballast); err != nil {
		g.opts.Logger.Warn("the file that keeps room for a full disk cannot be removed", "file", g.opts.Ballast, "err", err)
		return false
	}
	g.syncFolder() // some file systems have the room only then
	g.opts.Logger.Warn("the disk is full: the room that was kept for the index is given to it", "file", g.opts.Ballast, "mib", g.ballast>>20)
	g.ballast = 0
	return true
}

// TakeBallast makes the ballast where it is missing, once everything is taken
// again. Where that fails there is none, which takes nothing from the reserve.
func (g *Guard) TakeBallast() {
	if g.opts.Ballast == "" {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.findBallast() // somebody may have removed it
	if g.opts.Bytes < 0 && g.ballast > 0 && g.opts.FS.Remove(g.opts.Ballast) == nil {
		g.ballast = 0 // of a time when there was a reserve
	}
	if g.ballast != 0 {
		return
	}
	keep, err := g.keep()
	want := ballastBytes(keep)
	if err != nil || want == 0 {
		return
	}
	if _, level := g.look(want); level != room {
		return
	}
	if err := g.fill(want); err != nil {
		g.opts.Logger.Warn("no room can be kept for a full disk; it is tried again", "file", g.opts.Ballast, "err", err)
		_ = g.opts.FS.Remove(g.opts.Ballast) // a part of it helps nobody
		return
	}
	g.ballast = want
}

// keep is how much is kept free, in bytes.
func (g *Guard) keep() (int64, error) {
	if g.opts.Bytes != 0 {
		return g.opts.Bytes, nil
	}
	usage, err := g.opts.FS.GetDiskUsage(g.opts.Path)
	if err != nil {
		return 0, err
	}
	return keepOf(usage), nil
}

// fill writes a file that really takes n bytes of the disk.
func (g *Guard) fill(n int64) error {
	f, err := g.opts.FS.Create(g.opts.Ballast, ballastCategory)
	if err != nil {
		return err
	}
	if runtime.GOOS == "linux" && f.Preallocate(0, n) == nil {
		_, err = f.WriteAt([]byte{0}, n-1)
	} else {
		err = noise(f, n)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		g.syncFolder()
	}
	return err
}

// noise writes n bytes that no file system makes smaller.
func noise(f vfs.File, n int64) error {
	random := rand.NewChaCha8([32]byte{})
	p := make([]byte, 256<<10)
	for n > 0 {
		p = p[:min(n, int64(len(p)))]
		_, _ = random.Read(p) // never fails
		if _, err := f.Write(p); err != nil {
			return err
		}
		n -= int64(len(p))
	}
	return nil
}

// syncFolder makes it durable that the ballast is there or gone; nothing is lost
// where it cannot.
func (g *Guard) syncFolder() {
	_ = durable.SyncDir(g.opts.FS, g.opts.FS.PathDir(g.opts.Ballast))
}

// findBallast looks whether there is ballast. g.mu is held, or g is new.
func (g *Guard) findBallast() {
	g.ballast = 0
	if g.opts.Ballast == "" {
		return
	}
	info, err := g.opts.FS.Stat(g.opts.Ballast)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			g.opts.Logger.Warn("the file that keeps room for a full disk cannot be found", "file", g.opts.Ballast, "err", err)
		}
		return
	}
	g.ballast = info.Size()
}

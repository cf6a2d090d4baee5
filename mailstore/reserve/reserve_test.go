package reserve_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/driver/drivertest"
	"github.com/rookery-mail/rookery/mailstore/memkv"
	"github.com/rookery-mail/rookery/mailstore/reserve"
)

const mib = 1 << 20

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newGuard(bytes int64) (*vfs.MemFS, *reserve.Guard) {
	fs := vfs.NewMem()
	setFree(fs, 2048)
	return fs, reserve.New(reserve.Options{FS: fs, Path: "/", Bytes: bytes, Logger: quiet()})
}

func setFree(fs *vfs.MemFS, free uint64) {
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: free * mib, TotalBytes: 4096 * mib, UsedBytes: (4096 - free) * mib})
}

func TestDriver(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		_, g := newGuard(0)
		return drivertest.Harness{
			OpenKV:    func(*testing.T) driver.KV { return g.KV(memkv.NewKV()) },
			OpenBlobs: func(*testing.T) driver.Blobs { return g.Blobs(memkv.NewBlobs()) },
		}
	})
}

func write(b driver.Blobs, announced, size int64) error {
	w, err := b.Create(context.Background(), 1, announced)
	if err != nil {
		return err
	}
	defer w.Release()
	_, err = w.Write(make([]byte, size))
	return err
}

func set(kv driver.KV, a driver.Account) error {
	return kv.Update(context.Background(), a, func(tx driver.Txn) error { return tx.Set([]byte("k"), nil) })
}

// On a small disk a twentieth is less than the index and its journal may take at
// any moment.
func TestSmallDisk(t *testing.T) {
	for _, c := range []struct {
		total, free   uint64 // MiB
		blobs, update bool
	}{
		{150, 60, true, true},
		{150, 45, false, true},
		{150, 10, false, false},
		{1024, 70, true, true},
		{1024, 60, false, true},
		{1024, 15, false, false},
	} {
		fs := vfs.NewMem()
		g := reserve.New(reserve.Options{FS: fs, Path: "/", Logger: quiet()})
		fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: c.free * mib, TotalBytes: c.total * mib, UsedBytes: (c.total - c.free) * mib})
		if err := g.Room(mib); (err == nil) != c.blobs {
			t.Errorf("%+v: a message gave %v", c, err)
		}
		if err := set(g.KV(memkv.NewKV()), 1); (err == nil) != c.update {
			t.Errorf("%+v: a change gave %v", c, err)
		}
	}
}

func TestLevels(t *testing.T) {
	for _, c := range []struct {
		free          uint64 // MiB
		bytes         int64
		message       int64
		blobs, update bool
	}{
		{2000, 0, mib, true, true},
		{206, 0, mib, true, true}, // a twentieth of the disk: 204
		{206, 0, 3 * mib, false, true},
		{200, 0, 10, false, true},
		{60, 0, 10, false, true},
		{50, 0, 10, false, false},
		{100, 90 * mib, mib, true, true},
		{80, 90 * mib, mib, false, true},
		{20, 90 * mib, mib, false, false},
		{0, -1, mib, true, true},
	} {
		fs, g := newGuard(c.bytes)
		kv, blobs := g.KV(memkv.NewKV()), g.Blobs(memkv.NewBlobs())
		setFree(fs, c.free)
		want := func(what string, err error, ok bool) {
			t.Helper()
			if ok && err != nil || !ok && imap.KindOf(err) != imap.Unavailable {
				t.Errorf("%+v: %s gave %v", c, what, err)
			}
		}
		want("a blob", write(blobs, c.message, c.message), c.blobs)
		want("a blob of unknown length", write(blobs, -1, c.message), c.blobs)
		want("room", g.Room(c.message), c.blobs)
		want("an update", set(kv, 1), c.update)
		nothing := func(tx driver.Txn) error { _, _, err := tx.Get([]byte("k")); return err }
		want("an update that changes nothing", kv.Update(context.Background(), 1, nothing), true)
		want("the store's own update", set(kv, 0), true)
		want("a view", kv.View(context.Background(), 1, func(driver.Reader) error { return nil }), true)
		setFree(fs, 2048)
		want("a blob, with room again", write(blobs, c.message, c.message), true)
		want("an update, with room again", set(kv, 1), true)
	}
}

// Messages that are on their way count.
func TestManyAtOnce(t *testing.T) {
	fs, g := newGuard(100 * mib)
	blobs := g.Blobs(memkv.NewBlobs())
	setFree(fs, 125)
	var open []driver.Writer
	for i := range 2 {
		w, err := blobs.Create(context.Background(), 1, 10*mib)
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		open = append(open, w)
	}
	if err := write(blobs, 10*mib, 0); imap.KindOf(err) != imap.Unavailable {
		t.Errorf("the third gave %v", err)
	}
	for _, w := range open {
		w.Release()
		w.Release()
	}
	if err := write(blobs, 10*mib, 10*mib); err != nil {
		t.Error(err)
	}
}

// The ballast is a part of the reserve: it is made where there is room, given up
// where the disk is full, and made again.
func TestBallast(t *testing.T) {
	fs := vfs.NewMem()
	open := func(bytes int64) *reserve.Guard {
		return reserve.New(reserve.Options{FS: fs, Path: "/", Bytes: bytes, Ballast: "/BALLAST", Logger: quiet()})
	}
	size := func() int64 {
		info, err := fs.Stat("/BALLAST")
		if err != nil {
			return 0
		}
		return info.Size()
	}
	want := func(what string, bytes int64) {
		t.Helper()
		if got := size(); got != bytes {
			t.Errorf("%s: the ballast has %d bytes, want %d", what, got, bytes)
		}
	}
	const keep, part = 64 * mib, 8 * mib
	g := open(keep)
	setFree(fs, 60)
	g.TakeBallast()
	want("below the reserve", 0)
	setFree(fs, 68)
	g.TakeBallast()
	want("where it would not fit", 0)
	setFree(fs, 2048)
	g.TakeBallast()
	want("with room", part)
	if g.DropBallast() {
		t.Error("it was given up though there is room")
	}
	for range 2 { // the second time as after a restart
		setFree(fs, 59)
		if err := g.Room(mib); err != nil {
			t.Errorf("it does not count as free for messages: %v", err)
		}
		setFree(fs, 9)
		if err := set(g.KV(memkv.NewKV()), 1); err != nil {
			t.Errorf("it does not count as free for changes: %v", err)
		}
		g = open(keep)
	}
	setFree(fs, 7)
	if !g.DropBallast() || g.DropBallast() {
		t.Error("it was not given up once on a full disk")
	}
	want("on a full disk", 0)
	setFree(fs, 7+part/mib) // where it was
	if err := set(g.KV(memkv.NewKV()), 1); imap.KindOf(err) != imap.Unavailable {
		t.Errorf("it was given to those who change something: %v", err)
	}
	g.TakeBallast()
	want("on a disk that is still full", 0)
	setFree(fs, 2048)
	g.TakeBallast()
	want("with room again", part)
	if err := fs.Remove("/BALLAST"); err != nil {
		t.Fatal(err)
	}
	g.TakeBallast()
	want("where somebody has removed it", part)
	open(-1).TakeBallast()
	want("without a reserve", 0)
}

// Whoever takes space back hears how much of it may be used for that.
func TestPressed(t *testing.T) {
	fs := vfs.NewMem()
	told := int64(-1)
	g := reserve.New(reserve.Options{FS: fs, Path: "/", Bytes: 64 * mib, Logger: quiet(), Pressed: func(n int64) { told = n }})
	for i, c := range []struct {
		free uint64
		size int64
		want int64
	}{
		{100, 1, 0}, {60, 1, 44 * mib}, {17, 1, mib}, {10, 1, 0}, {30, 1, 14 * mib}, {70, 1, 0},
		{66, 3 * mib, 50 * mib}, {66, mib, 50 * mib}, {68, mib, 0}, {66, mib, 0}, // until the one that was refused fits
	} {
		setFree(fs, c.free)
		_ = g.Room(c.size)
		if told != c.want {
			t.Errorf("step %d, %+v: it was told %d", i, c, told)
		}
	}
}

// askedFS counts how often it is asked for room.
type askedFS struct {
	vfs.FS
	asked int
}

func (f *askedFS) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	f.asked++
	return f.FS.GetDiskUsage(path)
}

// TestPlenty: a disk with plenty of room is not asked about before each write, but
// again before what was free can be gone.
func TestPlenty(t *testing.T) {
	mem := vfs.NewMem()
	fs := &askedFS{FS: mem}
	g := reserve.New(reserve.Options{FS: fs, Path: "/", Logger: quiet()})
	usage := func(free uint64) {
		mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: free, TotalBytes: 1 << 40, UsedBytes: 1<<40 - free})
	}
	ask := func(times int, size int64) (asked int) {
		t.Helper()
		before := fs.asked
		for range times {
			if err := g.Room(size); err != nil {
				t.Fatal(err)
			}
		}
		return fs.asked - before
	}
	usage(100 << 30)
	ask(1, 0)
	const times = 1000
	if n := ask(times, 6000); n > times/2 {
		t.Errorf("asked %d times for %d messages", n, times)
	}
	if n := ask(4, 300<<20); n < 2 {
		t.Errorf("asked %d times for 1.2 GB", n)
	}
	usage(1 << 30)
	if n := ask(1, 600<<20) + ask(10, 6000); n < 10 {
		t.Errorf("with 1 GB left asked %d times", n)
	}
}

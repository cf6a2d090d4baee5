package bloblog_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

func riders(t *testing.T, s *bloblog.Store) (list []string) {
	t.Helper()
	must(t, s.Riders(context.Background(), func(p []byte, sure bool) error {
		text := fmt.Sprintf("%.10s, %d bytes", p, len(p))
		if !sure {
			text += ", not sure"
		}
		list = append(list, text)
		return nil
	}))
	slices.Sort(list)
	return list
}

// wantRiders wants these riders. Those that are not to be sure have a question mark behind.
func wantRiders(t *testing.T, s *bloblog.Store, want ...string) {
	t.Helper()
	for i, p := range want {
		p, unsure := strings.CutSuffix(p, "?")
		if want[i] = fmt.Sprintf("%.10s, %d bytes", p, len(p)); unsure {
			want[i] += ", not sure"
		}
	}
	slices.Sort(want)
	if got := riders(t, s); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("riders %q, want %q", got, want)
	}
}

func ride(t *testing.T, s *bloblog.Store, p string, want bool) {
	t.Helper()
	if took, err := s.Ride(context.Background(), []byte(p)); took != want || err != nil {
		t.Errorf("a ride of %.20q: %v, %v", p, took, err)
	}
}

// wantMail wants these blobs and no other, by every way to find blobs.
func wantMail(t *testing.T, s *bloblog.Store, want map[driver.Ref][]byte) {
	t.Helper()
	listed := 0
	must(t, s.List(context.Background(), 1, func(ref driver.Ref, _ driver.BlobInfo) error {
		if listed++; want[ref] == nil {
			t.Errorf("a blob is listed that nobody has stored: %#x", uint64(ref))
		}
		return nil
	}))
	if listed != len(want) {
		t.Errorf("%d blobs are listed, want %d", listed, len(want))
	}
	for ref, data := range want {
		wantBytes(t, s, ref, data)
	}
	must(t, s.Verify(context.Background(), true, func(d bloblog.Damage) { t.Errorf("damage: %+v", d) }))
	if accounts, err := s.Accounts(context.Background()); err != nil || len(accounts) != 1 || accounts[0] != 1 {
		t.Errorf("accounts %v, %v", accounts, err)
	}
}

// TestRide: what rides is found after a crash until it is settled, keeps its segment from
// being sealed as long, and is never taken for mail.
func TestRide(t *testing.T) {
	ctx := context.Background()
	fs := crashfs.New()
	opts := bloblog.Options{FS: fs, Manual: true, SegmentBytes: 40_000, RideShare: 1e6}
	s := open(t, "blobs", opts)
	ride(t, s, "nothing to ride with", false)
	kept := make(map[driver.Ref][]byte)
	store := func(size int) driver.Ref {
		t.Helper()
		data := text(len(kept), size)
		ref, w, err := write(s, 1, data)
		must(t, err)
		t.Cleanup(w.Release)
		kept[ref] = data
		return ref
	}
	long := string(bytes.Repeat([]byte("two blocks "), 6500))
	store(1000)
	store(3000)
	ride(t, s, "first", true)
	ride(t, s, "nothing new", false)
	store(300_000) // a file of its own
	ride(t, s, "two files", false)
	must(t, s.Sync(ctx))
	ride(t, s, "nothing new", false)
	store(1)
	ride(t, s, long, true) // the segment is full now
	store(10)
	ride(t, s, "third", true)
	wantRiders(t, s, "first", long, "third")
	if st := s.Stats(); st.Rides != 3 || st.RideBytes != st.DeadBytes {
		t.Errorf("%+v", st)
	}
	must(t, s.Tidy(ctx))
	wantMail(t, s, kept)
	for _, c := range fs.Clones() {
		s := open(t, "blobs", bloblog.Options{FS: c.FS, Manual: true, SegmentBytes: 40_000})
		wantRiders(t, s, "first", long, "third")
		wantMail(t, s, kept)
		must(t, s.Tidy(ctx))
		must(t, s.Close())
		s = open(t, "blobs", bloblog.Options{FS: c.FS, Manual: true})
		wantRiders(t, s, "first", long, "third") // not settled
		s.Settled()
		wantRiders(t, s)
		must(t, s.Tidy(ctx))
		must(t, s.Close())
		s = open(t, "blobs", bloblog.Options{FS: c.FS, Manual: true})
		wantRiders(t, s)
		wantMail(t, s, kept)
		must(t, s.Close())
	}
	s.Settled()
	wantRiders(t, s)
	if _, err := fs.Stat("blobs/00000001.log"); err != nil {
		t.Errorf("it was sealed before: %v", err)
	}
	must(t, s.Tidy(ctx)) // seals it, and takes back its space, of which most is waste
	if _, err := fs.Stat("blobs/00000001.log"); err == nil {
		t.Error("it is not sealed")
	}
	wantMail(t, s, kept)
	must(t, s.Close())
}

// TestRiderComesWithItsMail cuts the power at every operation while blobs are stored and
// riders come with them that name them. Those that were taken are there, and of those
// that are there the blobs are whole.
func TestRiderComesWithItsMail(t *testing.T) {
	rode := false
	crashfs.EveryCut(t, 1, func() crashfs.Scenario {
		taken := 0
		blobOf := make(map[driver.Ref][]byte)
		return crashfs.Scenario{
			Run: func(t *testing.T, fs *crashfs.FS) {
				s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true, SegmentBytes: 60_000})
				for n := range 12 {
					var p []byte
					for i := range n%3 + 1 {
						data := text(10*n+i, 100+3000*i+n*700)
						ref, w, err := write(s, 1, data)
						must(t, err)
						defer w.Release()
						blobOf[ref] = data
						p = binary.BigEndian.AppendUint64(p, uint64(ref))
					}
					took, err := s.Ride(context.Background(), append(binary.BigEndian.AppendUint64(nil, uint64(n)), p...))
					must(t, err)
					rode = rode || took
					if !took {
						must(t, s.Sync(context.Background()))
					} else if fs.Alive() {
						taken |= 1 << n
					}
				}
				must(t, s.Close())
			},
			Check: func(t *testing.T, fs *crashfs.FS) {
				s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
				found := 0
				must(t, s.Riders(context.Background(), func(p []byte, sure bool) error {
					if !sure {
						return nil
					}
					found |= 1 << binary.BigEndian.Uint64(p)
					for p = p[8:]; len(p) > 0; p = p[8:] {
						ref := driver.Ref(binary.BigEndian.Uint64(p))
						wantBytes(t, s, ref, blobOf[ref])
					}
					return nil
				}))
				if found&taken != taken {
					t.Errorf("riders %b were taken, %b are there", taken, found)
				}
				// What was found is durable, whoever kept it until now.
				for _, c := range fs.Clones()[:1] {
					again := open(t, "blobs", bloblog.Options{FS: c.FS, Manual: true})
					if n := len(riders(t, again)); n != len(riders(t, s)) {
						t.Errorf("%d riders after another power cut, %d before", n, len(riders(t, s)))
					}
					must(t, again.Close())
				}
				s.Settled()
				must(t, s.Close())
			},
		}
	})
	if !rode {
		t.Error("nothing has ridden")
	}
}

// TestTornRider: the last rider is not sure where what it came with is not whole, and those
// before it are.
func TestTornRider(t *testing.T) {
	all := []string{"rider 0", "rider 1", "rider 2"}
	for torn, want := range [][]string{all, all, {"rider 0", "rider 1", "rider 2?"}} {
		fs := crashfs.New()
		s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
		var refs []driver.Ref
		for n, p := range all {
			ref, w, err := write(s, 1, text(n, 6000))
			must(t, err)
			defer w.Release()
			refs = append(refs, ref)
			ride(t, s, p, true)
		}
		disk := fs.Clones()[0].FS
		f, err := disk.OpenReadWrite("blobs/00000001.log", vfs.WriteCategoryUnspecified)
		must(t, err)
		_, err = f.WriteAt([]byte("torn"), int64(uint32(refs[torn]))*8+3000)
		must(t, err)
		must(t, f.Close())
		again := open(t, "blobs", bloblog.Options{FS: disk, Manual: true})
		wantRiders(t, again, slices.Clone(want)...)
		again.Settled()
		must(t, again.Close())
		s.Settled()
		must(t, s.Close())
	}
}

// TestRideFails: where the sync fails the blobs are lost, as with Sync, and what rode
// before is still there.
func TestRideFails(t *testing.T) {
	ctx := context.Background()
	fs := crashfs.New()
	s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
	first, w, err := write(s, 1, text(1, 1000))
	must(t, err)
	w.Release()
	ride(t, s, "kept", true)
	_, w, err = write(s, 1, text(2, 1000))
	must(t, err)
	fs.Fail(crashfs.Nth(1, 1, syscall.EIO, crashfs.Syncs))
	if took, err := s.Ride(ctx, []byte("lost")); took || !errors.Is(err, imap.Unavailable) {
		t.Errorf("a ride on a bad disk: %v, %v", took, err)
	}
	fs.Fail(nil)
	ride(t, s, "while a blob is lost", false)
	if err := s.Sync(ctx); !errors.Is(err, imap.Unavailable) {
		t.Errorf("while a lost blob has a writer, Sync gave %v", err)
	}
	w.Release()
	wantRiders(t, s, "kept")
	_, w, err = write(s, 1, text(3, 1000)) // in another segment
	must(t, err)
	w.Release()
	ride(t, s, "later", true)
	wantRiders(t, s, "kept", "later")
	wantBytes(t, s, first, text(1, 1000))
	s.Settled()
	must(t, s.Close())

	// Which of those whose sync has failed are there after a start is chance, but what
	// they came with is whole.
	s = open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
	wantRiders(t, s, "kept", "lost")
	s.Settled()
	must(t, s.Close())

	// A write that fails is nothing that a Sync would not find out.
	s = open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
	ref, w, err := write(s, 1, text(4, 1000))
	must(t, err)
	defer w.Release()
	fs.Fail(crashfs.Nth(1, 1, syscall.ENOSPC, crashfs.Changes))
	ride(t, s, "no room", false)
	fs.Fail(nil)
	wantRiders(t, s)
	must(t, s.Sync(ctx))
	wantBytes(t, s, ref, text(4, 1000))
	must(t, s.Close())
}

// TestRidersAreWaste: what riders take is known of after a restart, and is taken back
// like what was deleted.
func TestRidersAreWaste(t *testing.T) {
	ctx := context.Background()
	fs := crashfs.New()
	opts := bloblog.Options{FS: fs, Manual: true, RideShare: 100}
	s := open(t, "blobs", opts)
	kept := make(map[driver.Ref][]byte)
	for n := range 5 {
		ref, w, err := write(s, 1, text(n, 1000))
		must(t, err)
		w.Release()
		kept[ref] = text(n, 1000)
		ride(t, s, string(text(n, 3000)), true)
	}
	waste := s.Stats().RideBytes
	s.Settled()
	must(t, s.Close())
	for range 2 {
		s = open(t, "blobs", opts)
		if st := s.Stats(); st.DeadBytes != waste || waste < 15_000 {
			t.Errorf("%d bytes are dead, riders took %d", st.DeadBytes, waste)
		}
		must(t, s.Close())
	}
	opts.MaxWaste, opts.SegmentBytes = 0.2, 10_000 // of what is there much is zeros
	s = open(t, "blobs", opts)
	must(t, s.Tidy(ctx))
	if st := s.Stats(); st.DeadBytes != 0 || st.Removed != 1 || st.Moved != 5 {
		t.Errorf("%+v", st)
	}
	wantMail(t, s, kept)
	must(t, s.Close())
	s = open(t, "blobs", opts)
	if st := s.Stats(); st.DeadBytes != 0 {
		t.Errorf("%+v", st)
	}
	wantMail(t, s, kept)
	must(t, s.Close())
}

// TestRideShare: what would be more waste than mail does not ride.
func TestRideShare(t *testing.T) {
	s := open(t, "blobs", bloblog.Options{FS: vfs.NewMem(), Manual: true})
	_, w, err := write(s, 1, text(1, 900))
	must(t, err)
	defer w.Release()
	ride(t, s, string(text(1, 1000)), false)
	_, w, err = write(s, 1, text(2, 1000))
	must(t, err)
	defer w.Release()
	ride(t, s, string(text(1, 1000)), true) // with both
	s.Settled()
	must(t, s.Close())
}

// forgetful is a disk that drops what it could not write at a sync that fails, as Linux
// does: it can be read as long as it is in memory, and later syncs leave it out.
type forgetful struct {
	vfs.FS
	fails         bool
	dirty, missed []bool // each byte of the first segment
}

const firstSegment = "blobs/00000001.log"

func (f *forgetful) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	g, err := f.FS.OpenReadWrite(name, c, opts...)
	if err == nil && name == firstSegment {
		g = forgetfulFile{g, f}
	}
	return g, err
}

type forgetfulFile struct {
	vfs.File
	fs *forgetful
}

func (f forgetfulFile) WriteAt(p []byte, off int64) (int, error) {
	for i := range p {
		f.fs.dirty[int(off)+i] = true
	}
	return f.File.WriteAt(p, off)
}

func (f forgetfulFile) SyncData() error {
	for i, dirty := range f.fs.dirty {
		f.fs.missed[i] = f.fs.missed[i] && !dirty || f.fs.fails && dirty
	}
	clear(f.fs.dirty)
	if f.fs.fails {
		return syscall.EIO
	}
	return f.File.SyncData()
}

// forget lets go of what no sync has written.
func (f *forgetful) forget(t *testing.T) {
	t.Helper()
	g, err := f.FS.OpenReadWrite(firstSegment, vfs.WriteCategoryUnspecified)
	must(t, err)
	for i, missed := range f.missed {
		if missed {
			_, err := g.WriteAt([]byte{0}, int64(i))
			must(t, err)
		}
	}
	must(t, g.Close())
}

// TestRiderOfAFailedSync: the sync of a rider fails, and the process is killed before
// anything else. What the next one believes is on the disk, whatever the sync has left out.
func TestRiderOfAFailedSync(t *testing.T) {
	for _, inMemory := range []bool{false, true} {
		fs := &forgetful{FS: vfs.NewMem(), dirty: make([]bool, 1<<20), missed: make([]bool, 1<<20)}
		opts := bloblog.Options{FS: fs, Manual: true}
		s := open(t, "blobs", opts)
		_, w, err := write(s, 1, text(1, 6000))
		must(t, err)
		w.Release()
		ride(t, s, "before", true)
		second, w, err := write(s, 1, text(2, 60_000))
		must(t, err)
		defer w.Release()
		fs.fails = true
		if took, err := s.Ride(context.Background(), []byte("failed")); took || err == nil {
			t.Errorf("a ride on a bad disk: %v, %v", took, err)
		}
		fs.fails = false
		want := []string{"before"}
		if inMemory {
			want = append(want, "failed")
			wantRiders(t, open(t, "blobs", opts), slices.Clone(want)...)
		}
		fs.forget(t)
		last := open(t, "blobs", opts)
		wantRiders(t, last, want...)
		if inMemory {
			wantBytes(t, last, second, text(2, 60_000))
		}
	}
}

// TestRiderWithABadSector: where a message cannot be read that the last rider came with,
// the store can be opened all the same, and the rider counts: no crash leaves that.
func TestRiderWithABadSector(t *testing.T) {
	fs := crashfs.New()
	s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
	ref, w, err := write(s, 1, text(1, 60_000))
	must(t, err)
	defer w.Release()
	ride(t, s, "rider", true)
	disk := fs.Clones()[0].FS
	bad := int64(uint32(ref))*8 + 100
	disk.Fail(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileReadAt && op.Path == firstSegment && op.Offset > bad && op.Offset < bad+50_000 {
			return syscall.EIO
		}
		return nil
	})
	again := open(t, "blobs", bloblog.Options{FS: disk, Manual: true})
	wantRiders(t, again, "rider")
	again.Settled()
	must(t, again.Close())
}

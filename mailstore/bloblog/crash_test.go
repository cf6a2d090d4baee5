package bloblog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// small makes segments and blobs change their ways within a short test.
func small(fs *crashfs.FS) bloblog.Options {
	return bloblog.Options{FS: fs, SegmentBytes: 30_000, MaxWaste: 0.3, OpenFiles: 2}
}

func text(seed, n int) []byte {
	p := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(n), byte(n >> 8)})
	rng.Read(p)
	if seed%2 == 1 { // as text is: it can be compressed
		for i := range p {
			p[i] = 'a' + p[i]%16
		}
	}
	return p
}

func write(s driver.Blobs, a driver.Account, data []byte) (driver.Ref, driver.Writer, error) {
	w, err := s.Create(context.Background(), a, -1)
	if err != nil {
		return 0, nil, err
	}
	if _, err = w.Write(data); err == nil {
		var ref driver.Ref
		if ref, err = w.Finish([]byte("meta")); err == nil {
			return ref, w, nil
		}
	}
	w.Release()
	return 0, nil, err
}

func readAll(s driver.Blobs, a driver.Account, ref driver.Ref) ([]byte, error) {
	b, err := s.Open(context.Background(), a, ref)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
}

// A ledger is what a client knows: the blobs that it was told are durable. It
// plays the part of the KV, too: what it has is what is named.
type ledger struct {
	mu    sync.Mutex
	kept  map[driver.Ref][]byte
	given map[driver.Ref]bool
}

func newLedger() *ledger {
	return &ledger{kept: map[driver.Ref][]byte{}, given: map[driver.Ref]bool{}}
}

func (l *ledger) refs() []driver.Ref {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.kept))
}

// life writes, deletes and reads blobs of account 1 with several goroutines.
// alive says whether what just happened counts. Errors are handed to failed.
func (l *ledger) life(s *bloblog.Store, seed, rounds int, alive func() bool, failed func(error)) {
	var wg sync.WaitGroup
	for worker := range 2 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(seed), uint64(worker)))
			for i := range rounds {
				size := []int{100, 5000, 9000, 70_000, 300_000}[(i+worker)%5]
				data := text(worker*1000+i, size)
				ref, w, err := write(s, 1, data)
				if err != nil {
					failed(err)
					continue
				}
				if err := s.Sync(context.Background()); err != nil {
					failed(err)
				} else if alive() {
					l.mu.Lock()
					l.kept[ref], l.given[ref] = data, true
					l.mu.Unlock()
				}
				w.Release()
				if rng.IntN(2) == 0 {
					l.deleteOne(s, rng, failed)
				}
			}
		})
	}
	wg.Wait()
}

// deleteOne takes a name away, then deletes. A cut in between leaves garbage.
func (l *ledger) deleteOne(s *bloblog.Store, rng *rand.Rand, failed func(error)) {
	refs := l.refs()
	if len(refs) == 0 {
		return
	}
	ref := refs[rng.IntN(len(refs))]
	l.mu.Lock()
	delete(l.kept, ref)
	l.mu.Unlock()
	if err := s.Delete(context.Background(), 1, []driver.Ref{ref}); err != nil {
		failed(err)
	}
}

// check compares the store with the ledger: before and after a sweep, and after
// space was taken back.
func (l *ledger) check(t *testing.T, s *bloblog.Store) {
	t.Helper()
	l.checkKept(t, s, "after the restart")
	err := s.Sweep(context.Background(), 1, func(ref driver.Ref) bool { return l.kept[ref] != nil })
	if err != nil {
		t.Fatalf("Sweep: %v", err)
	}
	listed := 0
	err = s.List(context.Background(), 1, func(ref driver.Ref, info driver.BlobInfo) error {
		if listed++; int64(len(l.kept[ref])) != info.Size || string(info.Meta) != "meta" {
			t.Errorf("blob %#x is listed with %d bytes", ref, info.Size)
		}
		return nil
	})
	if err != nil || listed != len(l.kept) {
		t.Errorf("%d blobs are listed, want %d (%v)", listed, len(l.kept), err)
	}
	ref, w, err := write(s, 1, []byte("new"))
	if err != nil {
		t.Fatal(err)
	}
	if l.given[ref] {
		t.Errorf("ref %#x was given out before", ref)
	}
	l.kept[ref] = []byte("new")
	if err := s.Sync(context.Background()); err != nil {
		t.Error(err)
	}
	w.Release()
	if err := s.Tidy(context.Background()); err != nil {
		t.Errorf("Tidy: %v", err)
	}
	l.checkKept(t, s, "after space was taken back")
	delete(l.kept, ref)
}

func (l *ledger) checkKept(t *testing.T, s *bloblog.Store, when string) {
	t.Helper()
	for ref, want := range l.kept {
		got, err := readAll(s, 1, ref)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: blob %#x of %d bytes is lost: %v", when, ref, len(want), err)
		}
	}
}

func TestCutAtEveryOperation(t *testing.T) { cutAtEveryOperation(t, 3, small) }

func TestCutAtEveryOperationCompressed(t *testing.T) {
	cutAtEveryOperation(t, 4, func(fs *crashfs.FS) bloblog.Options {
		opts := small(fs)
		opts.Compress = bloblog.Zstd
		return opts
	})
}

func cutAtEveryOperation(t *testing.T, step int, opts func(*crashfs.FS) bloblog.Options) {
	crashfs.EveryCut(t, step, func() crashfs.Scenario {
		l := newLedger()
		return crashfs.Scenario{
			Run: func(t *testing.T, fs *crashfs.FS) {
				s := open(t, "blobs", opts(fs))
				for part := range 3 {
					l.life(s, part, 5, fs.Alive, func(err error) { t.Error(err) })
					if err := s.Tidy(context.Background()); err != nil {
						t.Error(err)
					}
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			},
			Check: func(t *testing.T, fs *crashfs.FS) {
				s := open(t, "blobs", opts(fs))
				l.check(t, s)
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				s = open(t, "blobs", opts(fs))
				l.checkKept(t, s, "after the second restart")
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			},
		}
	})
}

// TestFaultAtEveryOperation fails one operation after the other, once or for
// good, and then heals the disk: nothing that was acknowledged is lost, and the
// store goes on by itself.
func TestFaultAtEveryOperation(t *testing.T) {
	step := 5
	if testing.Short() {
		step = 40
	}
	for _, tc := range []struct {
		times int
		err   error
	}{{1, syscall.EIO}, {3, syscall.ENOSPC}, {1 << 30, syscall.ENOSPC}} {
		for n := 1; ; n += step {
			fs := crashfs.New()
			s := open(t, "blobs", small(fs))
			begun := fs.Ops()
			fs.Fail(crashfs.Nth(n, tc.times, tc.err, crashfs.Changes))
			l := newLedger()
			l.life(s, n, 8, func() bool { return true }, func(err error) {
				if !errors.Is(err, imap.Unavailable) {
					t.Errorf("fault %d: error of another kind: %v", n, err)
				}
			})
			ended := fs.Ops() - begun
			fs.Fail(nil)
			t.Run(fmt.Sprintf("n=%d,times=%d", n, tc.times), func(t *testing.T) {
				l.check(t, s)
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				s = open(t, "blobs", small(fs))
				l.check(t, s)
				s.Close()
			})
			if t.Failed() || n > ended {
				break
			}
		}
	}
}

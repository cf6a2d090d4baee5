package pebblekv

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rookery-mail/rookery/internal/crashfs"
)

func newListener(fs vfs.FS) *listener {
	log := slog.New(slog.DiscardHandler)
	in := &instance{dir: "kv", log: log, failed: make(chan struct{})}
	in.disk = newFreezeFS(fs, "kv", in)
	return &listener{log: log, in: in}
}

// TestFlushesThatFail: only flushes that fail one after the other are an end,
// whatever else fails between them.
func TestFlushesThatFail(t *testing.T) {
	var (
		failed = errors.New("no room")
		empty  = errors.New("empty table") // how a flush of nothing ends
		other  = errors.New("statistics")
	)
	for _, c := range []struct {
		flushes []error
		end     bool
	}{
		{[]error{failed, failed, failed}, true},
		{[]error{failed, failed, nil, failed, failed}, false},
		{[]error{failed, failed, empty, failed, failed}, false},
		{[]error{empty, empty, empty}, false},
		{[]error{nil, failed, failed, failed}, true},
	} {
		l := newListener(crashfs.New())
		for _, err := range c.flushes {
			l.flushEnd(pebble.FlushInfo{Err: err})
			l.backgroundError(other)
			if err == failed {
				l.backgroundError(fmt.Errorf("flush: %w", err))
				l.backgroundError(err) // of the same sort, and no flush
			}
		}
		if got := l.in.failure() != nil; got != c.end {
			t.Errorf("flushes that end with %v are the end: %v, want %v", c.flushes, got, c.end)
		}
	}
}

// TestBackgroundTellsAtOnce: what goes wrong besides flushes is told without a
// lock. It is the race detector that says whether this is right.
func TestBackgroundTellsAtOnce(t *testing.T) {
	l := newListener(crashfs.New())
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for range 100 {
				l.backgroundError(syscall.EIO)
				l.compactionEnd(pebble.CompactionInfo{Err: syscall.EIO})
			}
		})
	}
	for range 100 {
		l.flushEnd(pebble.FlushInfo{})
		l.compactionEnd(pebble.CompactionInfo{})
	}
	all.Wait()
	if err := l.in.failure(); err != nil {
		t.Errorf("the store has failed: %v", err)
	}
}

// TestDiskUsageUnknown: a disk that does not say how full it is lets Pebble's
// work go on; Pebble knows one error for that.
func TestDiskUsageUnknown(t *testing.T) {
	fs := crashfs.New()
	fs.Space(1<<20, 1<<30)
	l := newListener(fs)
	if usage, err := l.in.disk.GetDiskUsage("kv"); err != nil || usage.AvailBytes != 1<<20 {
		t.Errorf("a disk with 1 MiB left says %+v, %v", usage, err)
	}
	fs.Fail(crashfs.Nth(1, 1<<30, syscall.EIO, func(errorfs.Op) bool { return true }))
	if _, err := l.in.disk.GetDiskUsage("kv"); err != vfs.ErrUnsupported {
		t.Errorf("a disk that fails says %v", err)
	}
}

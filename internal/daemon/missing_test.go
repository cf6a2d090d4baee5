package daemon

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// lockedBuffer is a log that others write to meanwhile.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestMissingSegments: a store that has lost single files of messages serves the
// others, and says so at its start, in the log and in its numbers.
func TestMissingSegments(t *testing.T) {
	ctx := context.Background()
	disk := vfs.NewMem()
	_, end := lived(t, disk, 3, 100)
	end()
	removed := 0
	for _, path := range files(t, disk, home+"/messages") {
		if removed == 0 && strings.HasSuffix(path, ".seg") {
			removed++
			if err := disk.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	if left := files(t, disk, home+"/messages"); removed == 0 || len(left) < 2 {
		t.Fatalf("%d files are removed, left are %v", removed, left)
	}
	var log lockedBuffer
	s, err := openTuned(ctx, home, tuning{log: slog.New(slog.NewTextHandler(&log, nil)), fs: disk})
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); !strings.Contains(log.String(), "files of messages are gone"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the log says nothing: %s", log.String())
		}
	}
	if s.stats().mail.Missing == 0 {
		t.Error("the numbers say nothing")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	dir, err := openDir(disk, home)
	if err != nil {
		t.Fatal(err)
	}
	if s, err = look(ctx, dir); err != nil {
		t.Fatal(err)
	}
	if n, accounts, err := s.store.CountMissing(ctx); err != nil || n == 0 || len(accounts) == 0 {
		t.Errorf("without a server: %d of %v, %v", n, accounts, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// bound reads the bound of references to messages, 0 for none.
func bound(t *testing.T, disk vfs.FS, remove bool) (value []byte) {
	t.Helper()
	kv, err := pebblekv.Open(home+"/index", pebblekv.Options{FS: disk, Logger: slog.New(slog.DiscardHandler), Derived: mailstore.DerivedRange, Journal: home + "/journal"})
	if err != nil {
		t.Fatal(err)
	}
	err = kv.Update(context.Background(), 0, func(tx driver.Txn) error {
		data, _, err := tx.Get([]byte{'B'})
		value = bytes.Clone(data)
		if remove {
			return tx.Delete([]byte{'B'})
		}
		return err
	})
	if err == nil {
		err = kv.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// TestBoundIsKept: references to messages are bounded in a store that an earlier release
// has written from its first start on, and after a repair that knows nothing of it.
func TestBoundIsKept(t *testing.T) {
	disk := vfs.NewMem()
	_, end := lived(t, disk, 3, 60)
	end()
	if len(bound(t, disk, true)) == 0 {
		t.Fatal("a store at work has no bound")
	}
	s := openHome(t, disk)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if len(bound(t, disk, true)) == 0 {
		t.Error("an older store has no bound after its start")
	}
	// The index names messages, and its counters say nonsense.
	spoilOther(t, disk)
	if got := repair(t, disk); !got.Needed {
		t.Fatal("nothing was repaired")
	}
	if len(bound(t, disk, false)) == 0 {
		t.Error("a repaired store has no bound")
	}
}

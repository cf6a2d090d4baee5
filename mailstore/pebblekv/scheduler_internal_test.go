package pebblekv

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// A backlog is a store with compactions that wait.
type backlog struct {
	mu      sync.Mutex
	allowed int
	waiting int
	begun   []pebble.CompactionGrantHandle
}

func (b *backlog) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func (b *backlog) get() (waiting, begun int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting, len(b.begun)
}

func (b *backlog) GetAllowedWithoutPermission() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.allowed
}

func (b *backlog) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting > 0, pebble.WaitingCompaction{}
}

func (b *backlog) Schedule(h pebble.CompactionGrantHandle) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting == 0 {
		return false
	}
	b.waiting--
	b.begun = append(b.begun, h)
	return true
}

func TestScheduler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &backlog{allowed: 1, waiting: 5}
		s := newScheduler()
		s.Register(2, db)
		if ok, _ := s.TrySchedule(); !ok {
			t.Fatal("one may run, and is refused")
		}
		if ok, _ := s.TrySchedule(); ok {
			t.Fatal("a second one is let run")
		}
		s.Done()
		if waiting, begun := db.get(); waiting != 4 || begun != 1 {
			t.Fatalf("when one has ended %d wait and %d have begun; want 4 and 1", waiting, begun)
		}
		// A flush says that more may run.
		db.set(func() { db.allowed = 2 })
		s.UpdateGetAllowedWithoutPermission()
		synctest.Wait()
		if _, begun := db.get(); begun != 2 {
			t.Fatalf("with two allowed %d have begun", begun)
		}
		// It has become more, and nobody has said so.
		db.set(func() { db.allowed = 3 })
		time.Sleep(grantPause + time.Millisecond)
		synctest.Wait()
		if _, begun := db.get(); begun != 3 {
			t.Fatalf("with three allowed %d have begun", begun)
		}
		for {
			_, begun := db.get()
			if begun == 0 {
				break
			}
			var h pebble.CompactionGrantHandle
			db.set(func() { h, db.begun = db.begun[0], db.begun[1:] })
			h.Done()
		}
		if waiting, _ := db.get(); waiting != 0 {
			t.Fatalf("%d still wait", waiting)
		}
		s.Unregister()
		if ok, _ := s.TrySchedule(); ok {
			t.Fatal("one is let run when the store is closed")
		}
	})
}

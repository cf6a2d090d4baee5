package pebblekv

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// A scheduler says how many compactions may run side by side: as many as Pebble
// itself thinks right. Pebble's own scheduler asks ten times a second whether that
// has become more, for as long as the store is open, which is nearly all that an
// idle server does. Nothing can be granted late while nothing runs, so this one asks
// only while a compaction does.
type scheduler struct {
	db pebble.DBForCompaction

	mu       sync.Mutex
	turn     *sync.Cond // granting has become false
	running  int
	allowed  int  // when it was looked at last
	granting bool // by one at a time, without mu
	ended    bool
	again    *time.Timer // grants; set while compactions run
}

// grantPause is how often it is asked while compactions run.
const grantPause = 100 * time.Millisecond

func newScheduler() *scheduler {
	s := new(scheduler)
	s.turn = sync.NewCond(&s.mu)
	return s
}

// Register implements pebble.CompactionScheduler.
func (s *scheduler) Register(_ int, db pebble.DBForCompaction) { s.db = db }

// Unregister implements pebble.CompactionScheduler.
func (s *scheduler) Unregister() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if s.again != nil {
		s.again.Stop()
	}
	for s.granting {
		s.turn.Wait()
	}
}

// TrySchedule implements pebble.CompactionScheduler. The store's lock is held.
func (s *scheduler) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allowed = s.db.GetAllowedWithoutPermission()
	if s.ended || s.running >= s.allowed {
		return false, nil
	}
	s.begun()
	return true, s
}

// UpdateGetAllowedWithoutPermission implements pebble.CompactionScheduler. The
// store's lock is held, so somebody else grants.
func (s *scheduler) UpdateGetAllowedWithoutPermission() {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.allowed
	s.allowed = s.db.GetAllowedWithoutPermission()
	if s.allowed > was && s.running > 0 && !s.ended {
		s.again.Reset(0)
	}
}

// begun notes that a compaction begins. mu is held.
func (s *scheduler) begun() {
	s.running++
	switch {
	case s.again == nil:
		s.again = time.AfterFunc(grantPause, s.tick)
	case s.running == 1:
		s.again.Reset(grantPause)
	}
}

// tick grants, and comes again while compactions run.
func (s *scheduler) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grant()
	if s.running > 0 && !s.ended {
		s.again.Reset(grantPause)
	}
}

// Done implements pebble.CompactionGrantHandle: a compaction has ended.
func (s *scheduler) Done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	s.grant()
}

// grant lets compactions that wait begin, as many as may. It is called with mu held,
// and gives it up meanwhile.
func (s *scheduler) grant() {
	for s.granting {
		s.turn.Wait()
	}
	if s.ended {
		return
	}
	s.allowed = s.db.GetAllowedWithoutPermission()
	s.granting = true
	for free := s.allowed - s.running; free > 0 && s.grantOne(); free-- {
		s.begun()
	}
	s.granting = false
	s.turn.Broadcast()
}

// grantOne lets one begin, if one waits. The store takes its own lock for that, which
// comes before mu.
func (s *scheduler) grantOne() bool {
	s.mu.Unlock()
	defer s.mu.Lock()
	waits, _ := s.db.GetWaitingCompaction()
	return waits && s.db.Schedule(s)
}

// Started implements pebble.CompactionGrantHandle.
func (*scheduler) Started() {}

// MeasureCPU implements pebble.CompactionGrantHandle.
func (*scheduler) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats implements pebble.CompactionGrantHandle.
func (*scheduler) CumulativeStats(pebble.CompactionGrantHandleStats) {}

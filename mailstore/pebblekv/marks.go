package pebblekv

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// marks writes a record without anything to the log, a moment after commits. Each
// piece of the log says up to where the log was on disk when it was written: so
// what proves a commit is what comes behind it, and nothing would prove the last
// ones of a store at rest. A store at rest writes none.
type marks struct {
	due atomic.Bool // a commit has come since the last mark

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

// markDelay is how long a commit goes without proof, at least.
const markDelay = time.Second

// commit takes note that a commit is on disk.
func (m *marks) commit(kv *KV) {
	if kv.opts.Relaxed > 0 || m.due.Swap(true) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.stopped:
	case m.timer == nil:
		m.timer = time.AfterFunc(markDelay, kv.mark)
	default:
		m.timer.Reset(markDelay)
	}
}

// stop ends that. A store that was closed in order has an end that is proven.
func (m *marks) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopped = true
	if m.timer != nil {
		m.timer.Stop()
	}
}

// mark writes one. Where it fails, the log has failed, and others say so.
func (kv *KV) mark() {
	acct, in, err := kv.enter("index mark", 0)
	if err != nil {
		kv.marks.due.Store(false)
		return
	}
	defer kv.leave(0, acct)
	kv.marks.due.Store(false) // what comes from here on may come behind it
	_ = in.db.LogData(nil, pebble.Sync)
}

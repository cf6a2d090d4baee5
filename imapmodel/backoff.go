package imapmodel

import (
	"sync"
	"time"
)

// A model that fails is asked again after a second, then after two, and so on.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// backoff says when to ask a model again that has failed. Its zero value has
// not failed. It is safe for concurrent use.
type backoff struct {
	mu    sync.Mutex
	fails int
	until time.Time
}

// failed notes a failure, and returns how long to wait.
func (b *backoff) failed(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	wait := retryAfter(b.fails)
	b.fails++
	b.until = now.Add(wait)
	return wait
}

// retryAfter returns how long to wait after something that had failed fails
// times before has failed again.
func retryAfter(fails int) time.Duration {
	wait := firstRetry
	for ; fails > 0 && wait < lastRetry; fails-- {
		wait *= 2
	}
	return min(wait, lastRetry)
}

// reset forgets all failures.
func (b *backoff) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fails, b.until = 0, time.Time{}
}

// waiting reports whether it is too early to ask again.
func (b *backoff) waiting(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fails > 0 && now.Before(b.until)
}

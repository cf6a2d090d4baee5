package mailstore

import "time"

// Queued returns how many changes of an account wait for a commit to end.
func Queued(a *Account) int {
	a.queueMu.Lock()
	defer a.queueMu.Unlock()
	return len(a.queue)
}

// Derived waits until nothing is being derived, and returns up to which message
// the columns are.
func Derived(a *Account) uint64 {
	for {
		a.mu.Lock()
		running := a.deriving.running
		a.mu.Unlock()
		if !running {
			return a.derivedUpTo(1) // the columns, which are made of the texts
		}
		time.Sleep(time.Millisecond)
	}
}

// Gone has everything tidied that was derived, as if many messages had gone.
func Gone(a *Account) { a.gone(tidyAfter) }

// InMemory returns how many accounts are in memory, and about how many bytes
// those take that the store keeps.
func InMemory(s *Store) (accounts int, kept int64) { return len(s.live()), s.indexed.Load() }

// Reaping reports whether rows of expunged messages are being taken away.
func Reaping(a *Account) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.reaping
}

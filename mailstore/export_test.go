package mailstore

// Queued returns how many changes of an account wait for a commit to end.
func Queued(a *Account) int {
	a.queueMu.Lock()
	defer a.queueMu.Unlock()
	return len(a.queue)
}

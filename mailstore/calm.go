package mailstore

import "time"

// What an account has missed in the background (a restart came between) waits when it
// is read, until nobody has come to it for two units of Options.DeriveDelay, or for
// twenty of them: those who have waited for the server come first.
const (
	calmDelay    = 2
	calmPatience = 20
)

// beginCalm has steps wait: an account with mail has been read. a.mu is held.
func (a *account) beginCalm() {
	a.deriving.calmEnd = time.Now().Add(calmPatience * a.store.opts.DeriveDelay)
	a.visited()
}

// visited notes that somebody has come to the account. a.mu is held.
func (a *account) visited() {
	d := &a.deriving
	if d.calmEnd.IsZero() {
		return
	}
	if d.calm = time.Now().Add(calmDelay * a.store.opts.DeriveDelay); d.calm.After(d.calmEnd) {
		d.calm = d.calmEnd
	}
}

// calmFor returns how long steps still wait for those who have come. a.mu is held.
func (a *account) calmFor() time.Duration {
	d := &a.deriving
	if d.calmEnd.IsZero() {
		return 0
	}
	wait := time.Until(d.calm)
	if wait <= 0 {
		d.calmEnd = time.Time{}
	}
	return max(wait, 0)
}

// calms reports whether steps wait for those who have come.
func (a *account) calms() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calmFor() > 0
}

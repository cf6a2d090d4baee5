package mailstore

import (
	"cmp"
	"runtime"
	"slices"
	"weak"

	"github.com/rookery-mail/rookery/mailstore/driver"
)

// Accounts and the indexes of their mailboxes stay in memory when they have
// been used, as far as Options.IndexMemory goes. What has not been used for the
// longest time is then let go of: the index of a mailbox that nobody has open,
// and an account of which nobody has a mailbox open.
//
// There must never be two values of one account, since sessions hear of each
// other through it. An account that has been let go of is therefore still found
// as long as anybody holds it (an Account, a Mailbox, a goroutine that commits
// or tidies up), and is read anew only when it has gone for good: the garbage
// collector is what counts the holders.

// seat is where the store finds an account. The store's mu guards it.
type seat struct {
	account weak.Pointer[account]
	kept    *account // the same, or nil where it has been let go of
}

// get returns the account of a seat, nil where there is none. The store's mu is
// held.
func (p *seat) get() *account {
	if p == nil {
		return nil
	}
	return p.account.Value()
}

// admit makes a new account findable. s.mu is held.
func (s *Store) admit(a *account) {
	found := weak.Make(a)
	s.accounts[a.num] = &seat{account: found}
	// The runtime holds what a cleanup holds: not the store, which keeps a.
	store := weak.Make(s)
	runtime.AddCleanup(a, func(num driver.Account) {
		s := store.Value()
		if s == nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if p := s.accounts[num]; p != nil && p.account == found {
			delete(s.accounts, num)
		}
	}, a.num)
}

// watch has the engine report what other processes change, without being held
// by it.
func (a *account) watch() (stop func()) {
	found := weak.Make(a)
	stop = a.store.kv.Watch(a.num, func() {
		if a := found.Value(); a != nil {
			a.refresh()
		}
	})
	runtime.AddCleanup(a, func(stop func()) { stop() }, stop)
	return stop
}

// keep notes that the account is in use. a.mu is held.
func (a *account) keep() {
	a.lastUse = a.store.clock.Add(1)
	if a.kept {
		return
	}
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	if p := a.store.accounts[a.num]; p.get() == a {
		p.kept, a.kept = a, true
		a.store.indexed.Add(a.bytes)
	}
}

// letGo leaves the account to those who hold it; without always set only where
// none of them has a mailbox open.
func (a *account) letGo(always bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.kept || a.open() && !always {
		return
	}
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	a.kept = false
	a.store.indexed.Add(-a.bytes)
	if p := a.store.accounts[a.num]; p.get() == a {
		p.kept = nil
	}
}

// open reports whether anybody has a mailbox open. a.mu is held.
func (a *account) open() bool {
	for _, b := range a.boxes {
		if len(b.handles) > 0 {
			return true
		}
	}
	return false
}

// grow notes that the account takes more memory, or less. a.mu is held.
func (a *account) grow(bytes int64) {
	a.bytes += bytes
	if a.kept {
		a.store.indexed.Add(bytes)
	}
}

// memory is about how many bytes an account takes without its indexes.
func (t *tree) memory() int64 {
	return 4096 + 1024*int64(len(t.byName)) + 64*int64(len(t.subs))
}

// live returns all accounts that are in memory.
func (s *Store) live() []*account {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*account, 0, len(s.accounts))
	for _, p := range s.accounts {
		if a := p.get(); a != nil {
			list = append(list, a)
		}
	}
	return list
}

// evict lets go of what nobody has open, the longest unused first, until the
// rest is well below the budget.
func (s *Store) evict() {
	if s.indexed.Load() <= s.opts.IndexMemory {
		return
	}
	type idle struct {
		a     *account
		b     *box // nil for the account itself
		use   uint64
		bytes int64
	}
	var list []idle
	for _, a := range s.live() {
		a.mu.Lock()
		for _, b := range a.boxes {
			if a.kept && b.indexed > 0 && len(b.handles) == 0 {
				list = append(list, idle{a, b, b.lastUse, b.indexed})
			}
		}
		if a.kept && !a.open() {
			list = append(list, idle{a, nil, a.lastUse, a.base})
		}
		a.mu.Unlock()
	}
	slices.SortFunc(list, func(x, y idle) int { return cmp.Compare(x.use, y.use) })
	excess := s.indexed.Load() - s.opts.IndexMemory + s.opts.IndexMemory/8
	for _, i := range list {
		if excess <= 0 {
			return
		}
		excess -= i.bytes
		if i.b == nil {
			i.a.letGo(false)
		} else {
			i.a.forget(i.b)
		}
	}
}

// forget drops the index of a mailbox if nobody has opened it meanwhile.
func (a *account) forget(b *box) {
	a.post(&op{alone: func() error {
		st := a.working.boxes[b.num]
		a.mu.Lock()
		inUse := len(b.handles) > 0
		a.mu.Unlock()
		if inUse || st == nil || st.snap == nil {
			return nil
		}
		bare := *st
		bare.snap = nil
		st = &bare
		a.working.boxes[b.num] = st
		a.publish(changed{b.num: st})
		return nil
	}})
}

package mailstore

import (
	"sync"
	"time"
)

// recall remembers for a moment what was looked up in the store's own records, which
// each delivery would ask for again: the number of an account, and that no user has
// a name. What this process changes is forgotten at once; what another one changes
// is noticed after recallFor, which is sooner than a session that is open notices
// it. Its methods are safe for concurrent use.
type recall struct {
	mu    sync.Mutex
	epoch uint64 // grows when all is forgotten
	known map[string]recalled
}

type recalled struct {
	value uint64
	until time.Time
}

const (
	recallFor  = time.Second
	recallMost = 4096 // entries; a stranger may ask for many names
)

// get returns what is known of a key; where that is nothing, the epoch is for put.
func (c *recall) get(key []byte) (value uint64, known bool, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.known[string(key)]
	return r.value, ok && time.Now().Before(r.until), c.epoch
}

// put notes what was read after get, unless something has changed since.
func (c *recall) put(key []byte, value, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch != c.epoch {
		return
	}
	if c.known == nil || len(c.known) >= recallMost {
		c.known = make(map[string]recalled)
	}
	c.known[string(key)] = recalled{value, time.Now().Add(recallFor)}
}

// forget is called when something has changed.
func (c *recall) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	c.known = nil
}

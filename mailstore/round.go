package mailstore

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// round is what one transaction makes durable: ops that were queued when it began
// and, where it is open, those that come until it ends.
type round struct {
	ops    []*op
	weight int
	until  time.Time // when it ends, though ops are expected; zero where it is not open
}

// nextRound takes the ops of the next transaction from the queue.
func (a *account) nextRound() *round {
	r := &round{until: time.Now().Add(gatherFor)}
	a.queueMu.Lock()
	defer a.queueMu.Unlock()
	a.take(r)
	return r
}

// take moves ops from the queue to a round, as long as they fit into its
// transaction. An op that runs without one is a round of its own. queueMu is held.
func (a *account) take(r *round) {
	for len(a.queue) > 0 && !r.until.IsZero() {
		o := a.queue[0]
		if len(r.ops) > 0 && (o.alone != nil || r.weight+o.weight > a.store.opts.TxnBytes) {
			r.until = time.Time{}
			return
		}
		if o.alone != nil {
			r.until = time.Time{}
		}
		o.started = true
		r.weight += o.weight
		r.ops = append(r.ops, o)
		a.queue[0] = nil
		a.queue = a.queue[1:]
	}
}

// gatherFor is how long a round waits for those who were answered just now: less
// than a sync takes, of which they would need one of their own.
const gatherFor = 50 * time.Microsecond

// join waits for ops that are expected, while the round is open, and takes what
// has come. As many are expected as were under way when the last round ended, if
// those were several: so sessions that change one mailbox at the same time share
// each sync, instead of being two groups that take turns.
func (a *account) join(r *round) (more bool) {
	n := len(r.ops)
	for !r.until.IsZero() {
		a.queueMu.Lock()
		a.take(r)
		expects := a.crowd > 1 && len(r.ops) < a.crowd
		a.queueMu.Unlock()
		if len(r.ops) > n {
			return true
		}
		if !expects || !time.Now().Before(r.until) {
			r.until = time.Time{}
			return false
		}
		runtime.Gosched()
	}
	return false
}

// commitLoop commits until nothing waits.
func (a *account) commitLoop() {
	for a.commitRound() {
	}
}

// commitRound commits the first of what waits, and reports whether more does:
// then it must be called again. It runs once per account at a time, for who has
// set committing.
func (a *account) commitRound() (more bool) {
	r := a.nextRound()
	switch {
	case len(r.ops) == 0: // whoever waited has given up
	case r.ops[0].alone != nil:
		r.ops[0].err = guard(r.ops[0].alone)
	default:
		err := a.known(func() error {
			a.commit(r)
			return nil
		})
		for _, o := range r.ops {
			o.err = cmp.Or(err, o.err)
		}
	}
	for _, o := range r.ops {
		close(o.done)
	}
	return !a.rest(len(r.ops))
}

// known runs what commits, and returns its error. Where it panics nobody can say
// whether it has committed: the error is of kind ServerBug then and has
// driver.ErrUnknown in its chain, and what is shown is what is on disk.
func (a *account) known(fn func() error) error {
	returned := false
	err := guard(func() error {
		err := fn()
		returned = true
		return err
	})
	if returned {
		return err
	}
	a.store.unswept.Store(true)
	err = fmt.Errorf("%w: %w", driver.ErrUnknown, err)
	if rerr := guard(a.reload); rerr != nil {
		err = errors.Join(err, rerr) // the next change notices, and reads again
	}
	return imap.E("mailstore: commit", imap.ServerBug, err)
}

// rest ends the committing where nothing waits. done is how many ops the round
// has answered.
func (a *account) rest(done int) bool {
	a.queueMu.Lock()
	defer a.queueMu.Unlock()
	a.crowd = done + len(a.queue)
	if len(a.queue) > 0 {
		return false
	}
	a.queue, a.committing = nil, false
	a.idle.Broadcast()
	return true
}

package mailstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// An op is one change that waits to be committed. The committer of its account
// gathers all ops that wait into one transaction.
type op struct {
	// run makes the change. It may be called again, and must begin anew then;
	// what it returns spoils no other op of the transaction. It returns
	// errLarge where the change needs more than one transaction.
	run func(t *opTx) error
	// large makes the change in several transactions, alone.
	large func() error
	// alone runs without a transaction, between others.
	alone func() error
	// weight is about how many bytes run will write.
	weight int

	err     error
	started bool // under committer.mu
	done    chan struct{}
}

var (
	errLarge = errors.New("mailstore: the change is too large for one transaction")
	errLater = errors.New("mailstore: the transaction is full")
	errStale = errors.New("mailstore: another process has changed the account")
)

// submit queues an op and waits until it is durable and published, or failed.
// When ctx ends before the op has begun, it is not done at all.
func (a *account) submit(ctx context.Context, o *op) error {
	o.done = make(chan struct{})
	a.queueMu.Lock()
	if a.closed {
		a.queueMu.Unlock()
		return imap.E("mailstore: change an account", imap.Closed, nil)
	}
	a.queue = append(a.queue, o)
	leads := !a.committing
	a.committing = true
	a.queueMu.Unlock()
	if leads {
		// It commits itself: another goroutine would have to be woken, and to
		// wake this one. Who comes meanwhile waits for the next round.
		if a.commitRound() {
			go a.commitLoop()
		}
		return o.err
	}

	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
	}
	a.queueMu.Lock()
	if !o.started {
		for i, q := range a.queue {
			if q == o {
				a.queue = append(a.queue[:i], a.queue[i+1:]...)
				break
			}
		}
		a.queueMu.Unlock()
		return ctx.Err()
	}
	a.queueMu.Unlock()
	<-o.done
	return o.err
}

// maxPosted bounds the queue for ops that may be left out.
const maxPosted = 64

// post queues an op that nobody waits for. Where much waits already, it is
// left out: it must be one that somebody will ask for again.
func (a *account) post(o *op) {
	o.done = make(chan struct{})
	a.queueMu.Lock()
	defer a.queueMu.Unlock()
	if a.closed || len(a.queue) > maxPosted {
		return
	}
	a.queue = append(a.queue, o)
	if !a.committing {
		a.committing = true
		go a.commitLoop()
	}
}

// shutdown refuses new ops and waits for those that are queued.
func (a *account) shutdown() {
	a.queueMu.Lock()
	a.closed = true
	for a.committing {
		a.idle.Wait()
	}
	stop := a.stopWatch
	a.stopWatch = nil
	a.queueMu.Unlock()
	if stop != nil {
		stop()
	}
}

// maxTxnBytes is what one transaction writes at most, with some room for what
// the engine adds.
const maxTxnBytes = driver.MaxTxnBytes * 3 / 4

// commit runs a round in one transaction, and those of its ops that turn out to be
// too large for it after that.
func (a *account) commit(r *round) {
	err := a.transactRound(r, true)
	if err != nil {
		for _, o := range r.ops {
			// An op that failed by itself keeps its own error.
			if o.err == nil || errors.Is(o.err, errLarge) || errors.Is(o.err, errLater) {
				o.err = err
			}
		}
		return
	}
	var later []*op
	for _, o := range r.ops {
		switch {
		case errors.Is(o.err, errLater):
			later = append(later, o)
		case errors.Is(o.err, errLarge) && o.large != nil:
			o.err = a.known(o.large)
		case errors.Is(o.err, errLarge):
			o.err = imap.E("mailstore: commit", imap.Limit, o.err)
		}
	}
	if len(later) > 0 {
		a.commit(&round{ops: later})
	}
}

// transact runs ops in one transaction and, with publish set, shows the
// outcome. Each op has its own error; the error returned is that of all.
func (a *account) transact(ops []*op, publish bool) error {
	return a.transactRound(&round{ops: ops}, publish)
}

func (a *account) transactRound(r *round, publish bool) error {
	if err := a.dropVoid(); err != nil && !errors.Is(err, errStale) {
		return imap.E("mailstore: commit", imap.Other, err)
	}
	b, err := a.update(r)
	if errors.Is(err, errStale) {
		if err = a.reload(); err == nil {
			b, err = a.update(r)
		}
	}
	if errors.Is(err, driver.ErrUnknown) {
		a.store.unswept.Store(true)
		// The commit may have happened: what we show must be what is there.
		if rerr := a.reload(); rerr != nil {
			// Then the next change notices, and reads again.
			err = errors.Join(err, rerr)
		}
		return imap.E("mailstore: commit", imap.Unavailable, err)
	}
	if err != nil {
		return imap.E("mailstore: commit", imap.Other, err)
	}
	if publish {
		a.publish(b.changed)
	}
	return nil
}

// working is the state of an account that the next op starts from. Between
// transactions it is what is on disk. It belongs to the committer.
type working struct {
	rec   accountRec
	tree  *tree
	boxes map[boxNum]*boxState
	ids   knownIDs
}

// changed are the states of mailboxes that a change has looked at or made; nil
// for those that are gone.
type changed map[boxNum]*boxState

// batch is one run of a transaction.
type batch struct {
	a       *account
	tx      driver.Txn
	rec     accountRec
	tree    *tree
	changed changed
	counted []boxNum // mailboxes whose counters have changed
	graves  []grave
	threads []knownThread
	wrote   bool
	size    int // bytes of what was written
}

// update runs one transaction and, when it is committed, makes its outcome the
// working state. A transaction that would write nothing is not committed.
func (a *account) update(r *round) (*batch, error) {
	var b *batch
	err := a.store.kv.Update(a.store.ctx, a.num, func(tx driver.Txn) error {
		b = &batch{a: a, tx: tx, rec: a.working.rec, tree: a.working.tree}
		if err := a.checkGeneration(tx); err != nil {
			return err
		}
		for i := 0; i < len(r.ops) || a.join(r); i++ {
			if err := b.run(r.ops[i]); err != nil {
				return err
			}
		}
		if !b.wrote {
			return errNothing
		}
		if err := b.setCounters(); err != nil {
			return err
		}
		b.rec.generation++
		b.rec.user = cmp.Or(b.rec.user, a.user)
		return tx.Set([]byte{keyAccount}, b.rec.encode())
	})
	if err != nil && !errors.Is(err, errNothing) {
		return nil, err
	}
	if err == nil {
		a.store.counts.commits.Add(1)
		a.store.counts.operations.Add(int64(len(r.ops)))
	}
	a.working.rec, a.working.tree = b.rec, b.tree
	for num, st := range b.changed {
		if st == nil {
			delete(a.working.boxes, num)
		} else {
			a.working.boxes[num] = st
		}
	}
	a.bury(b.graves)
	a.working.ids.remember(b.threads)
	return b, nil
}

// run runs an op, which keeps its own error; the one returned is the
// transaction's.
func (b *batch) run(o *op) error {
	o.err = nil
	t := &opTx{a: b.a, b: b, rec: b.rec, tree: b.tree}
	t.takeRoom()
	defer t.giveRoom()
	if o.err = guard(func() error { return o.run(t) }); o.err != nil {
		return nil
	}
	if b.size+t.size > maxTxnBytes {
		// It would not fit; alone it has the whole transaction.
		o.err = errLater
		if b.size == 0 {
			o.err = errLarge
		}
		return nil
	}
	return t.flush()
}

// setCounters writes the counters of the mailboxes that have changed: once,
// however many ops have changed them.
func (b *batch) setCounters() error {
	slices.Sort(b.counted)
	for _, num := range slices.Compact(b.counted) {
		st := b.changed[num]
		if st == nil {
			continue // an op behind has removed the mailbox
		}
		if err := b.tx.Set(boxKey(keyCounters, num), st.c.encode()); err != nil {
			return err
		}
	}
	return nil
}

// errNothing keeps a transaction that wrote nothing from being committed.
var errNothing = errors.New("mailstore: nothing to commit")

func (a *account) checkGeneration(tx driver.Reader) error {
	data, ok, err := tx.Get([]byte{keyAccount})
	if err != nil {
		return err
	}
	var rec accountRec
	if ok {
		if rec, err = decodeAccount(data); err != nil {
			return err
		}
	}
	if rec.generation != a.working.rec.generation {
		return errStale
	}
	return nil
}

// guard runs fn and makes a panic an error: one bad op must not end the
// process.
func guard(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = imap.E("mailstore: commit", imap.ServerBug, fmt.Errorf("panic: %v\n%s", r, debug.Stack()))
		}
	}()
	return fn()
}

// opTx is what an op works on: the state after the ops before it, and a list
// of writes that take effect when the op succeeds.
type opTx struct {
	a       *account
	b       *batch
	rec     accountRec
	tree    *tree
	changed changed
	counted []boxNum // mailboxes whose counters have changed
	graves  []grave
	threads []knownThread // that were looked up or written
	writes  []write
	room    *[roomForWrites]write // where they begin
	seen    []int                 // indexes in writes of what this op may read again,
	overlay map[string]int        // and by key, what it wrote before it last read
	size    int
}

// roomForWrites is for how many writes memory is kept.
const roomForWrites = 64

func (t *opTx) takeRoom() {
	room, ok := t.a.store.writes.Get().(*[roomForWrites]write)
	if !ok {
		room = new([roomForWrites]write)
	}
	t.room, t.writes = room, room[:0]
}

func (t *opTx) giveRoom() {
	clear(t.room[:min(len(t.writes), roomForWrites)])
	t.a.store.writes.Put(t.room)
}

// change notes the new state of a mailbox, nil where it is gone.
func (t *opTx) change(num boxNum, st *boxState) {
	if t.changed == nil {
		t.changed = make(changed)
	}
	t.changed[num] = st
}

// state returns the state of a mailbox, nil where it is gone.
func (t *opTx) state(num boxNum) *boxState {
	if st, ok := t.changed[num]; ok {
		return st
	}
	if st, ok := t.b.changed[num]; ok {
		return st
	}
	return t.a.working.boxes[num]
}

type write struct {
	key, value []byte
	del        bool
	to         []byte // with del: the end of a range
}

func (t *opTx) set(key, value []byte) {
	t.writes = append(t.writes, write{key: key, value: value})
	t.size += len(key) + len(value)
}

func (t *opTx) delete(key []byte) {
	t.writes = append(t.writes, write{key: key, del: true})
	t.size += len(key)
}

func (t *opTx) deleteRange(from, to []byte) {
	t.writes = append(t.writes, write{key: from, to: to, del: true})
	t.size += len(from) + len(to)
}

// setSeen is set for a key that this op may read with get later.
func (t *opTx) setSeen(key, value []byte) {
	t.seen = append(t.seen, len(t.writes))
	t.set(key, value)
}

// get reads a key: what this op has written with setSeen, what ops before it
// have written, or what is stored.
func (t *opTx) get(key []byte) ([]byte, bool, error) {
	if len(t.seen) > 0 && t.overlay == nil {
		t.overlay = make(map[string]int, len(t.seen))
	}
	for _, i := range t.seen {
		t.overlay[string(t.writes[i].key)] = i
	}
	t.seen = t.seen[:0]
	if i, ok := t.overlay[string(key)]; ok {
		return t.writes[i].value, true, nil
	}
	return t.b.tx.Get(key)
}

// manyWrites is from how many writes on they are put into order.
const manyWrites = 32

// order puts many writes into the order of their keys: those of one kind are
// neighbours then, and the engine finds the place of one from that of the last.
func (t *opTx) order() {
	isRange := func(w write) bool { return w.to != nil }
	if len(t.writes) < manyWrites || slices.ContainsFunc(t.writes, isRange) {
		return
	}
	slices.SortStableFunc(t.writes, func(a, b write) int { return bytes.Compare(a.key, b.key) })
}

// flush hands the op's writes to the transaction and its state to the batch.
func (t *opTx) flush() error {
	t.order()
	for i := range t.writes {
		w := &t.writes[i]
		var err error
		switch {
		case w.to != nil:
			err = t.b.tx.DeleteRange(w.key, w.to)
		case w.del:
			err = t.b.tx.Delete(w.key)
		default:
			err = t.b.tx.Set(w.key, w.value)
		}
		if err != nil {
			return err
		}
	}
	t.b.wrote = t.b.wrote || len(t.writes) > 0 || len(t.counted) > 0
	t.b.counted = append(t.b.counted, t.counted...)
	t.b.size += t.size
	t.b.rec, t.b.tree = t.rec, t.tree
	if t.b.changed == nil {
		t.b.changed = t.changed
	} else {
		maps.Copy(t.b.changed, t.changed)
	}
	t.b.graves = append(t.b.graves, t.graves...)
	t.b.threads = append(t.b.threads, t.threads...)
	return nil
}

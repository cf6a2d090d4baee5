package mailstore

import (
	"context"
	"errors"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// What can be derived from messages and is not needed to acknowledge them is
// built in the background, by derivers: the header columns that SEARCH reads,
// for one. One loop per account serves all of them. It is told how far the
// numbers of messages reach, after each commit and when the account is read,
// and compares that with a mark on disk for each deriver: the last message that
// is derived. The mark moves in the transaction that writes what was derived,
// so that a crash loses work and never truth.
//
// What readers may rely on: messages above the mark are not derived yet, and
// have to be answered from their own records. Those up to it are, except where
// a message's records could not be read.
//
// The first deriver makes the texts of messages (textkeep.go); the others are told
// of messages that have theirs.
//
// To add a deriver, implement the interface below and put it into newDerivers.
// Its keys go into layout.go, and prefixes names them.

// deriver builds something from the messages of an account. One value serves
// all accounts of a store; its methods are called from several goroutines, but
// never twice at a time for one account.
type deriver interface {
	// what names in the log what is built, in the plural.
	what() string
	// id names the mark on disk, for good.
	id() byte
	// version is that of what is built. What is found under another one is
	// deleted and built anew, so what it depends on belongs into it (such as
	// message.Version).
	version() uint64
	// prefixes are the beginnings of the keys that this deriver owns.
	prefixes() [][]byte

	// due reports whether a step is worth its while when there are waiting
	// numbers between the mark and the last message. It decides how small a
	// step may be; it is called with account.mu held, and with each commit.
	due(waiting uint64) bool
	// derive prepares a step: it reads messages with numbers above mark and up
	// to last, as many as make a small step (some ms of work, some 100 kB to
	// write), and returns what is to be written. It holds no lock and may take
	// its time, but returns soon after ctx ends. Numbers may be missing, even
	// millions in a row (use account.messagesAbove). nil means that this number
	// of messages makes no step: it is asked again when there are more. An error
	// has it called again later, one of derivedDamage after all is deleted.
	derive(ctx context.Context, a *account, mark, last uint64) (*derivation, error)
	// tidy takes back space from what was derived up to mark, where most of the
	// messages that it came from are gone: one small step from the place next
	// on, which is 0 at first. It returns where the step after that begins, and
	// 0 at the end. It is called when many messages have gone. The derivation
	// is nil where nothing is to be written; its upTo is ignored.
	tidy(ctx context.Context, a *account, next, mark uint64) (d *derivation, then uint64, err error)
}

// newDerivers returns all derivers of a store.
func newDerivers(o *Options) []deriver {
	return []deriver{textKeeper{}, newColumnBuilder(o.ColumnRows), newTextDeriver(o.TextBatch)}
}

// derivation is a step of a deriver: what is to be written.
type derivation struct {
	upTo   uint64 // the new mark: all messages up to it are derived
	weight int    // about how many bytes run writes
	// run writes. Other changes wait meanwhile, so it only writes what has been
	// prepared. It may be called again and must begin anew then.
	run func(t *opTx) error
}

// progress is what an account knows of one deriver's work. It is under
// account.mu.
type progress struct {
	version uint64
	mark    uint64
	asked   uint64 // the last message when the deriver was asked and did not want more
	gone    uint64 // messages that have been removed since something was tidied
	tidied  uint64 // where tidying goes on, 0 where none is under way
	tidying bool
	broken  bool // what was derived is damaged
}

// tidyAfter is how many removed messages begin a tidying.
const tidyAfter = 10_000

// deriving is the state of an account's loop. It is under account.mu.
type deriving struct {
	running bool
	resting bool       // running, but there is nothing to do yet
	last    uint64     // the greatest number of a message, 0 before the account is read
	all     []progress // as Store.derivers; nil before the account is read

	// Until calm steps wait for those who have come just now; not beyond calmEnd,
	// which is zero where nothing waits so.
	calm, calmEnd time.Time

	// Of the texts (textkeep.go):
	released uint64    // up to this message they may be made now
	noted    uint64    // last, when arrived was called
	latest   time.Time // when the last message came
	since    time.Time // when the first one came that is not released, or before that
	failedAt uint64    // the mark above which steps have failed
	failures int       // how many
}

// encode and decodeProgress are the mark on disk.
func (p *progress) encode() []byte { return appendUints(nil, p.version, p.mark) }

func decodeProgress(data []byte) (progress, error) {
	d := decoder{data: data}
	p := progress{version: d.uint(), mark: d.uint()}
	if d.bad {
		p = progress{}
	}
	return p, d.err("mark of what is derived")
}

func markKey(d deriver) []byte { return []byte{keyDerived, d.id()} }

// readProgress reads the marks of all derivers. A damaged one means that
// nothing is derived.
func (a *account) readProgress(r driver.Reader) ([]progress, error) {
	all := make([]progress, len(a.store.derivers))
	for i, d := range a.store.derivers {
		key := markKey(d)
		data, ok, err := r.Get(key)
		if _, texts := d.(textKeeper); texts && err == nil && !ok {
			// Of a release that had the text of each message from the start.
			data, _, err = r.Get(markKey(new(textDeriver)))
			p, _ := decodeProgress(data)
			all[i].mark = p.mark
		}
		if err != nil {
			return nil, err
		}
		if !ok {
			all[i].version = d.version()
		} else {
			all[i], _ = decodeProgress(data)
		}
	}
	return all, nil
}

// reread returns what is known when the marks have been read anew: a step that is
// under way, and what has been noted since it began, is not on disk. account.mu
// is held.
func (d *deriving) reread(all []progress) []progress {
	if len(all) > 0 {
		d.released = max(d.released, all[0].mark)
	}
	for i, old := range d.all {
		all[i].gone, all[i].tidied, all[i].tidying, all[i].broken = old.gone, old.tidied, old.tidying, old.broken
	}
	return all
}

// derivedUpTo returns the mark of a deriver, 0 where what is on disk is of
// another version.
func (a *account) derivedUpTo(i int) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.deriving.all == nil || a.deriving.all[i].version != a.store.derivers[i].version() {
		return 0
	}
	return a.deriving.all[i].mark
}

// derive begins to build what is missing, in the background, unless that is
// under way. a.mu is held.
func (a *account) derive() {
	if a.deriving.running || !a.derivable() && !a.textsWait() {
		return
	}
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	if a.store.closed || a.store.opts.AsItIs {
		return
	}
	a.deriving.running, a.deriving.resting = true, false
	a.store.loops.Add(1)
	a.store.background.Go(func() {
		a.deriveLoop()
		a.store.deriveLoopEnded()
	})
}

// derivable reports whether a deriver has something to do. a.mu is held.
func (a *account) derivable() bool {
	for i := range a.deriving.all {
		if a.wants(i) {
			return true
		}
	}
	return false
}

// wants reports whether deriver i has something to do. a.mu is held.
func (a *account) wants(i int) bool {
	p, d := &a.deriving.all[i], a.store.derivers[i]
	if p.version != d.version() || p.broken || p.tidying || p.gone >= tidyAfter {
		return true
	}
	last := a.reach(i)
	return last > max(p.mark, p.asked) && d.due(last-p.mark)
}

// gone notes that messages have been removed.
func (a *account) gone(messages int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.deriving.all {
		a.deriving.all[i].gone += uint64(messages)
	}
	a.derive()
}

// deriveAnew has all that a deriver has built built anew: it is damaged.
func (a *account) deriveAnew(i int, err error) {
	a.store.opts.Logger.Warn(a.store.derivers[i].what()+" are damaged, and built anew", "account", a.user, "err", err)
	a.mu.Lock()
	defer a.mu.Unlock()
	if i < len(a.deriving.all) {
		a.deriving.all[i].broken = true
		a.derive()
	}
}

// errDerivedDamage is in the chain of what a deriver returns when it finds that
// what it has built is damaged: then all of it is built anew.
var errDerivedDamage = errors.New("mailstore: damage in what is derived")

// derivedDamage says of an error, if it is one, that it is about derived data.
func derivedDamage(err error) error {
	if err != nil {
		err = errors.Join(errDerivedDamage, err)
	}
	return err
}

// How long the loop waits when something fails, between steps at most (it works half
// of the time while messages come in), and until it looks again whether more has come
// than shall wait.
const (
	deriveRetry    = time.Second
	deriveRetryMax = time.Minute
	derivePause    = 50 * time.Millisecond
	deriveLook     = 250 * time.Millisecond
)

// deriveLoop runs steps until nothing is left to do.
func (a *account) deriveLoop() {
	ctx := a.store.ctx
	var worked, retry time.Duration
	for {
		pause, ended := a.restDeriving()
		if ended {
			return
		}
		select {
		case <-time.After(max(pause, a.breath(worked), retry)):
		case <-ctx.Done():
		}
		if ctx.Err() == nil && a.calms() {
			continue
		}
		began := time.Now()
		err := a.deriveRound(ctx)
		worked = time.Since(began)
		switch {
		case ctx.Err() != nil || imap.KindOf(err) == imap.Closed:
			a.endDeriving()
			return
		case err != nil:
			if retry == 0 {
				a.store.opts.Logger.Warn("work in the background fails, and is tried again", "account", a.user, "err", err)
			}
			retry = min(max(2*retry, deriveRetry), deriveRetryMax)
		default:
			retry = 0
		}
	}
}

// breath returns how long the loop rests after work: as long as it has worked, and
// much less while nothing comes in.
func (a *account) breath(worked time.Duration) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(a.deriving.latest) > derivePause {
		worked /= 8
	}
	return min(worked, derivePause)
}

// deriveRound makes a step of each deriver that has something to do. The error
// is that of the last one that failed.
func (a *account) deriveRound(ctx context.Context) (failed error) {
	for i, d := range a.store.derivers {
		a.mu.Lock()
		wanted := a.wants(i)
		a.mu.Unlock()
		if !wanted {
			continue
		}
		select {
		case a.store.deriveSlots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		err := guard(func() error { return a.deriveStep(ctx, i) })
		<-a.store.deriveSlots
		if err != nil {
			failed = imap.E("mailstore: build "+d.what(), imap.Other, err)
		}
	}
	return failed
}

// restDeriving ends the loop where nothing is left to do, and says how long there
// is nothing to do yet.
func (a *account) restDeriving() (pause time.Duration, ended bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := &a.deriving
	hold := a.release()
	d.resting = !a.derivable()
	if d.resting {
		pause = min(hold, deriveLook) // more may come than shall wait
	}
	d.running = !d.resting || a.textsWait()
	return max(pause, min(a.calmFor(), deriveLook)), !d.running
}

func (a *account) endDeriving() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deriving.running = false
}

// deriveStep makes one step of one deriver.
func (a *account) deriveStep(ctx context.Context, i int) error {
	d := a.store.derivers[i]
	a.mu.Lock()
	p, last := a.deriving.all[i], a.reach(i)
	a.mu.Unlock()
	next := p
	var step *derivation
	var err error
	switch {
	case p.version != d.version() || p.broken:
		next = progress{version: d.version()}
		step = &derivation{weight: 1000, run: func(t *opTx) error {
			for _, prefix := range d.prefixes() {
				t.deleteRange(prefix, prefixEnd(prefix))
			}
			return nil
		}}
	case last > max(p.mark, p.asked) && d.due(last-p.mark):
		if step, err = d.derive(ctx, a, p.mark, last); step != nil {
			next.mark = step.upTo
		}
		next.asked = last
		if step != nil {
			next.asked = 0
		}
	default:
		if !p.tidying {
			next.gone, next.tidying = 0, true
		}
		step, next.tidied, err = d.tidy(ctx, a, p.tidied, p.mark)
		next.tidying = next.tidied != 0
	}
	if errors.Is(err, errDerivedDamage) {
		a.deriveAnew(i, err)
		return nil
	}
	if err != nil {
		return err
	}
	if step == nil {
		a.noteProgress(i, &p, &next)
		return nil
	}
	var now progress
	err = a.submit(ctx, &op{weight: step.weight, run: func(t *opTx) error {
		// Where another process has been here first, its work stands.
		now = p
		if data, ok, err := t.get(markKey(d)); err != nil {
			return err
		} else if stored, _ := decodeProgress(data); ok && (stored.version != p.version || stored.mark != p.mark) {
			now.version, now.mark = stored.version, stored.mark
			return nil
		}
		if err := step.run(t); err != nil {
			return err
		}
		t.set(markKey(d), next.encode())
		now = next
		return nil
	}})
	if err == nil {
		a.store.built.Add(int64(step.weight))
		a.noteProgress(i, &p, &now)
	}
	return err
}

// noteProgress replaces the state p of a deriver, which its step began from.
func (a *account) noteProgress(i int, p, next *progress) {
	a.mu.Lock()
	defer a.mu.Unlock()
	was := a.deriving.all[i]
	a.deriving.all[i] = *next
	a.deriving.all[i].gone += was.gone - p.gone // meanwhile
	if was.broken && !p.broken {
		a.deriving.all[i].broken = true
	}
	a.noteLag()
}

// messagesAbove returns the numbers of the first messages above mark and up to
// last, at most limit of them, and the number up to which there are no others.
func (a *account) messagesAbove(ctx context.Context, mark, last uint64, limit int) (msgs []uint64, upTo uint64, err error) {
	err = a.store.kv.View(ctx, a.num, func(r driver.Reader) error {
		msgs = make([]uint64, 0, limit)
		return scanRange(r, numKey(keyMessage, mark+1), numKey(keyMessage, last+1), func(key, _ []byte) error {
			if len(msgs) == limit {
				return errEnough
			}
			msgs = append(msgs, numOfKey(key))
			return nil
		})
	})
	switch {
	case errors.Is(err, errEnough):
		return msgs, msgs[limit-1], nil
	case err != nil:
		return nil, 0, err
	}
	return msgs, last, nil
}

// eachMessage calls fn for each of the messages in order, with what need asks
// for. What is of an older version is derived anew. A message that is gone or
// cannot be read has msg.Err set. *Message and what it holds is valid until fn
// returns.
func (a *account) eachMessage(ctx context.Context, msgs []uint64, need Need, fn func(num uint64, msg *Message) error) error {
	rows := make([]mailindex.Row, len(msgs))
	for i, num := range msgs {
		rows[i].Msg = num
	}
	for len(rows) > 0 {
		done, own := 0, error(nil)
		visit := func(i int, msg *Message) error {
			done++
			own = fn(rows[i].Msg, msg)
			return own
		}
		err := a.fetch(ctx, rows, need, visit)
		if own != nil || imap.KindOf(err) != imap.Corruption || done == len(rows) {
			return err
		}
		// Of several records the engine does not say which is damaged, so the next
		// one is read by itself.
		rows = rows[done:]
		err = a.fetch(ctx, rows[:1], need, visit)
		if own == nil && imap.KindOf(err) == imap.Corruption {
			err = fn(rows[0].Msg, &Message{Err: err})
		}
		if err != nil {
			return err
		}
		rows = rows[1:]
	}
	return nil
}

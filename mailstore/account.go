package mailstore

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// Account is the mail of one user. All methods are safe for concurrent use,
// and values may be copied.
type Account struct{ *account }

// account is the one value of an account in this process.
type account struct {
	store *Store
	num   driver.Account
	user  string

	// The queue of changes; see commit.go.
	queueMu    sync.Mutex
	idle       *sync.Cond // signals committing false
	queue      []*op
	committing bool
	crowd      int // ops that were under way when a round ended
	closed     bool
	stopWatch  func()

	// working and voids belong to the committer.
	working working
	voids   map[boxNum]struct{} // mailboxes that may have void graves

	tree atomic.Pointer[tree] // published

	ready atomic.Bool // read, and begin has ended: it has an INBOX

	sweeping chan struct{} // holds a value while a sweep runs

	mu      sync.Mutex // guards what follows; held for moments only
	kept    bool       // see retain.go
	lastUse uint64
	base    int64 // bytes without the indexes
	bytes   int64 // with them
	boxes   map[boxNum]*box
	buried  map[boxNum]struct{} // those with graves
	reaping bool

	unfolded map[boxNum]struct{} // those with many loose rows
	folding  bool

	named map[driver.Ref]struct{} // by messages added while a sweep runs, else nil

	deriving  deriving
	textsLate atomic.Bool // deliveries make the texts of their messages themselves
}

// box is a mailbox in memory, shared by all who have it open.
type box struct {
	num   boxNum
	state atomic.Pointer[boxState] // published; nil when the mailbox is gone

	// Under account.mu:
	handles  map[*Mailbox]struct{}
	watchers map[*watcher]struct{}
	graves   []imap.ModSeq // of expunges whose messages are still kept
	lastUse  uint64
	indexed  int64 // bytes of the index, 0 where it is not loaded
}

type watcher struct{ wake func() }

// boxState is one state of a mailbox. It is immutable.
type boxState struct {
	c    counters
	kw   *keywords
	snap *mailindex.Snapshot // nil where the rows are not in memory

	storings int // records of STOREs that are not in the rows on disk yet
}

// shows reports whether nobody can see a difference between two states.
func (st *boxState) shows(other *boxState) bool {
	if st == nil || other == nil || st.snap != other.snap || st.kw != other.kw {
		return false
	}
	c := st.c
	c.loose = other.c.loose
	return c == other.c
}

// load returns the account in memory, reading it where it is not there yet.
func (s *Store) load(ctx context.Context, num driver.Account, user string) (*account, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, imap.Closed
	}
	a := s.accounts[num].get()
	if a == nil {
		a = &account{store: s, num: num, user: user, boxes: make(map[boxNum]*box), buried: make(map[boxNum]struct{}), unfolded: make(map[boxNum]struct{}), sweeping: make(chan struct{}, 1)}
		a.idle = sync.NewCond(&a.queueMu)
		s.admit(a)
	}
	s.mu.Unlock()
	a.mu.Lock()
	a.keep()
	a.visited()
	a.mu.Unlock()
	if a.ready.Load() {
		return a, nil
	}
	// Reading happens in the committer, so that it happens once and not beside
	// a change.
	err := a.submit(ctx, &op{alone: func() error {
		if a.ready.Load() {
			return nil
		}
		if err := a.reload(); err != nil {
			return err
		}
		if a.stopWatch == nil {
			stop := a.watch()
			a.queueMu.Lock()
			a.stopWatch = stop
			a.queueMu.Unlock()
		}
		if err := a.begin(); err != nil {
			return err
		}
		a.ready.Store(true)
		return nil
	}})
	if err != nil {
		return nil, err
	}
	a.reap()
	s.evict()
	return a, nil
}

// begin makes a new account usable and finishes what a crash interrupted.
func (a *account) begin() error {
	if err := a.dropUnfinished(); err != nil {
		return err
	}
	if a.working.tree.byName[imap.Inbox] == nil {
		o := &op{run: func(t *opTx) error {
			_, err := t.createBox(imap.Inbox, nil)
			return err
		}}
		if err := a.transact([]*op{o}, true); err != nil {
			return err
		}
		return o.err
	}
	return nil
}

// refresh looks whether another process has changed the account.
func (a *account) refresh() {
	a.post(&op{alone: func() error {
		err := a.store.kv.View(a.store.ctx, a.num, func(r driver.Reader) error { return a.checkGeneration(r) })
		if errors.Is(err, errStale) {
			return a.reload()
		}
		return err
	}})
}

// reload reads the account's state and publishes it. Only the committer calls
// it.
func (a *account) reload() error {
	a.mu.Lock()
	loaded := make(map[boxNum]bool)
	for num, b := range a.boxes {
		if st := b.state.Load(); st != nil && st.snap != nil && len(b.handles) > 0 {
			loaded[num] = true
		}
	}
	a.mu.Unlock()
	var w working
	var derived []progress
	graves, voids := make(map[boxNum][]imap.ModSeq), make(map[boxNum]struct{})
	err := a.store.kv.View(a.store.ctx, a.num, func(r driver.Reader) (err error) {
		w = working{boxes: make(map[boxNum]*boxState)}
		if data, ok, err := r.Get([]byte{keyAccount}); err != nil {
			return err
		} else if ok {
			if w.rec, err = decodeAccount(data); err != nil {
				return err
			}
		}
		if w.tree, err = readTree(r); err != nil {
			return err
		}
		if err = readStates(r, w.tree, w.boxes); err != nil {
			return err
		}
		if derived, err = a.readProgress(r); err != nil {
			return err
		}
		clear(graves)
		clear(voids)
		return scanPrefix(r, []byte{keyGrave}, func(key, _ []byte) error {
			num, modseq := boxOfKey(key), imap.ModSeq(numOfKey(key))
			if w.boxes[num].void(modseq) {
				voids[num] = struct{}{}
			} else {
				graves[num] = append(graves[num], modseq)
			}
			return nil
		})
	})
	if err != nil {
		return imap.E("mailstore: read account", imap.Other, err)
	}
	w.ids = newKnownIDs(w.rec.nextMsg)
	a.working, a.voids = w, voids
	if err := a.dropVoid(); err != nil {
		return err
	}
	for num := range loaded {
		if err := a.loadIndex(num); err != nil {
			return err
		}
	}
	a.mu.Lock()
	for num, list := range graves {
		a.box(num).graves = list
		a.buried[num] = struct{}{}
	}
	if a.deriving.all == nil && w.rec.nextMsg > 0 {
		a.beginCalm()
	}
	a.deriving.all = a.deriving.reread(derived)
	a.mu.Unlock()
	a.publishAll()
	return nil
}

// scanPrefix calls fn for all keys that begin with prefix.
func scanPrefix(r driver.Reader, prefix []byte, fn func(key, value []byte) error) error {
	return scanRange(r, prefix, prefixEnd(prefix), fn)
}

func scanRange(r driver.Reader, from, to []byte, fn func(key, value []byte) error) error {
	var inner error
	err := r.Scan(from, to, func(key, value []byte) bool {
		inner = fn(key, value)
		return inner == nil
	})
	if inner != nil {
		return inner
	}
	return err
}

func readStates(r driver.Reader, t *tree, boxes map[boxNum]*boxState) error {
	kws := make(map[boxNum]*keywords)
	err := scanPrefix(r, []byte{keyKeywords}, func(key, value []byte) (err error) {
		kws[boxOfKey(key)], err = decodeKeywords(value)
		return err
	})
	if err != nil {
		return err
	}
	storings := make(map[boxNum]int)
	err = scanPrefix(r, []byte{keyStoring}, func(key, _ []byte) error {
		storings[boxOfKey(key)]++
		return nil
	})
	if err != nil {
		return err
	}
	return scanPrefix(r, []byte{keyCounters}, func(key, value []byte) error {
		num := boxOfKey(key)
		c, err := decodeCounters(value)
		if err != nil {
			return err
		}
		kw := kws[num]
		if kw == nil {
			kw = newKeywords(nil)
		}
		boxes[num] = &boxState{c: c, kw: kw, storings: storings[num]}
		return nil
	})
}

// boxOfKey returns the mailbox of a key that begins with a kind and a mailbox.
func boxOfKey(key []byte) boxNum { return boxNum(binary.BigEndian.Uint32(key[1:])) }

// box returns the shared value of a mailbox. a.mu is held.
func (a *account) box(num boxNum) *box {
	b := a.boxes[num]
	if b == nil {
		b = &box{num: num, handles: make(map[*Mailbox]struct{}), watchers: make(map[*watcher]struct{})}
		a.boxes[num] = b
	}
	return b
}

// publish shows new states to all readers, and wakes those who wait for news.
func (a *account) publish(states changed) {
	var wake []func()
	a.mu.Lock()
	base := a.working.tree.memory() + a.working.ids.memory()
	grown := base - a.base
	a.base = base
	a.tree.Store(a.working.tree)
	for num, st := range states {
		b := a.box(num)
		old := b.state.Load()
		if old == st {
			continue
		}
		b.state.Store(st)
		indexed := int64(0)
		if st != nil && st.snap != nil {
			indexed = st.snap.Memory()
		}
		grown += indexed - b.indexed
		b.indexed = indexed
		if st != nil && (st.c.loose >= a.store.foldLimit(&st.c) || st.storings >= a.store.storingLimit()) {
			a.unfolded[num] = struct{}{}
		}
		if st.shows(old) {
			continue
		}
		for w := range b.watchers {
			wake = append(wake, w.wake)
		}
	}
	a.grow(grown)
	unfolded := len(a.unfolded) > 0
	if a.deriving.last = a.working.rec.nextMsg; a.deriving.noted != a.deriving.last {
		a.arrived()
	}
	a.derive()
	a.mu.Unlock()
	if unfolded {
		a.fold()
	}
	for _, fn := range wake {
		fn()
	}
}

// publishAll shows the whole working state.
func (a *account) publishAll() {
	states := make(changed)
	a.mu.Lock()
	for num := range a.boxes {
		states[num] = nil
	}
	a.mu.Unlock()
	maps.Copy(states, a.working.boxes)
	a.publish(states)
}

// loadIndex reads the rows of a mailbox into a.working. Only the committer
// calls it.
func (a *account) loadIndex(num boxNum) error {
	st := a.working.boxes[num]
	if st == nil || st.snap != nil {
		return nil
	}
	n := a.working.tree.byNum[num]
	var snap *mailindex.Snapshot
	err := a.store.kv.View(a.store.ctx, a.num, func(r driver.Reader) (err error) {
		snap, err = readRows(r, num, n.uidValidity, st)
		return err
	})
	if err != nil {
		return imap.E("mailstore: read the index of "+n.name, imap.Other, err)
	}
	next := *st
	next.snap = snap
	a.working.boxes[num] = &next
	return nil
}

// readRows builds the snapshot of a mailbox from its rows.
func readRows(r driver.Reader, num boxNum, validity imap.UIDValidity, st *boxState) (*mailindex.Snapshot, error) {
	gone, err := buried(r, num, st)
	if err != nil {
		return nil, err
	}
	flags := flagReader{kw: st.kw, e: mailindex.New(st.c.meta(validity), st.kw.names).Edit(), ids: make(map[string]mailindex.FlagsID)}
	dead := gone.Ranges()
	reader := rowReader{r: r, box: num, keep: true, intern: flags.intern}
	reader.scan.deleted = func(id mailindex.FlagsID) bool { return flags.e.Flags(id).Bits()&mailindex.BitDeleted != 0 }
	reader.pack = func(first, last imap.UID, ids []mailindex.FlagsID) bool {
		for len(dead) > 0 && dead[0].Stop < first {
			dead = dead[1:]
		}
		return (len(dead) == 0 || dead[0].Start > last) && !slices.Contains(ids, unknownFlags)
	}
	err = reader.units(1, st.c.uidNext-1, func(u *unit) error {
		if u.packed != nil {
			flags.e.AppendPacked(u.packed)
			return nil
		}
		for len(dead) > 0 && u.rows.Len() > 0 && dead[0].Stop < u.rows.UIDs[0] {
			dead = dead[1:]
		}
		if len(dead) > 0 && dead[0].Start <= u.end {
			u.rows.Remove(positions(u.rows.UIDs, dead))
		}
		if flags.err != nil && slices.Contains(u.rows.Flags, unknownFlags) {
			return flags.err
		}
		flags.e.AppendColumns(&u.rows)
		return nil
	})
	if err != nil {
		return nil, err
	}
	*flags.e.Meta() = st.c.meta(validity)
	return flags.e.Commit(), nil
}

// flagReader numbers the flags of rows for an index. Rows in graves may have
// keywords that the mailbox does not know, so an error counts only where a row
// that is shown has unknownFlags.
type flagReader struct {
	kw  *keywords
	e   *mailindex.Editor
	ids map[string]mailindex.FlagsID // by the flags as they stand in rows
	err error
}

const unknownFlags = ^mailindex.FlagsID(0)

func (f *flagReader) intern(code []byte) (mailindex.FlagsID, error) {
	id, ok := f.ids[string(code)]
	if !ok {
		list, err := f.kw.decodeFlags(code)
		if err != nil {
			f.err = err
			return unknownFlags, nil
		}
		id = f.e.Intern(list)
		f.ids[string(code)] = id
	}
	return id, nil
}

// buried returns the UIDs whose rows are on disk but not in the mailbox.
func buried(r driver.Reader, num boxNum, st *boxState) (imap.UIDSet, error) {
	var sets []imap.UIDSet
	err := scanPrefix(r, boxKey(keyGrave, num), func(key, value []byte) error {
		if st.void(imap.ModSeq(numOfKey(key))) {
			return nil
		}
		set, _, err := mailindex.ReadUIDSet(value)
		sets = append(sets, set)
		return err
	})
	return mailindex.UnionAll(sets), err
}

func (c *counters) meta(validity imap.UIDValidity) mailindex.Meta {
	return mailindex.Meta{UIDValidity: validity, UIDNext: c.uidNext, HighestModSeq: c.highest, FirstRecent: c.firstRecent}
}

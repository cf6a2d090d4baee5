package imapmodel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
)

// box is what the sessions of one mailbox share: the published snapshot, and
// which message of the model each of its UIDs is.
type box struct {
	acct *account
	b    *Backend
	id   imap.ObjectID
	num  uint64 // in keys of caches

	// turn is held while the model's messages are listed or changed, and by
	// whoever changes what follows.
	turn  semaphore
	snap  atomic.Pointer[mailindex.Snapshot]
	dirty atomic.Bool            // to be looked at, whatever the time
	gone  atomic.Bool            // there is no such mailbox any more
	looks atomic.Int64           // how often a look at the model was begun
	last  atomic.Int64           // when one that succeeded was, in nanoseconds since 1970
	seen  atomic.Int64           // the last look that succeeded, counted as in looks
	again atomic.Int64           // when messages in bad are worth another try; 0: never
	retry backoff                // of looks that fail
	bad   map[string]*badMessage // by key; guarded by turn

	// mu guards what follows. What turn's holder alone changes he may read
	// without it.
	mu       sync.Mutex
	name     string
	info     Mailbox
	virtual  bool
	byUID    map[imap.UID]*item
	byKey    map[string]*item
	history  *mailindex.History
	ghosts   map[imap.UID]*ghost
	sessions map[*session]struct{}
	watchers map[*watcher]struct{}
	stopIdle func() // ends pollIdle and waits for its end
	warned   bool   // of a size that is not true
}

// item is a message of the model. What is not said to change does not.
type item struct {
	uid     imap.UID
	key     string
	version string
	given   imap.UID    // Message.UID
	flags   []imap.Flag // as the model listed them last; guarded by turn
	listed  bool        // flags are known; guarded by turn
	seen    int64       // the look that listed it last; guarded by turn

	ids    objectIDs // guarded by mu
	tooBig bool      // for Options.MaxMessage; guarded by mu
}

// badMessage is one that could not be read when it was to be measured: it is
// left out, and not read again at each look.
type badMessage struct {
	version string
	fails   int
	until   time.Time // zero where trying again makes no sense
	seen    int64     // the look that listed it last
}

// objectIDs are the identifiers of RFC 8474, "" until somebody asks for them.
type objectIDs struct{ email, thread imap.ObjectID }

// ghost is a message that was expunged while sessions could still see it.
type ghost struct {
	*item
	modseq imap.ModSeq // at which it was expunged
	text   []byte      // nil where it was not kept
	flags  []imap.Flag // that it had last
	date   imap.Time
}

// loadBox makes the box of a mailbox from what the State knows of it.
func loadBox(ctx context.Context, a *account, e *entry, m mailboxRecord) (*box, error) {
	bx := &box{
		acct: a, b: a.b, id: m.ID, num: a.b.lastBox.Add(1), turn: newSemaphore(),
		name: e.name, info: e.info, virtual: e.virtual,
		byUID: map[imap.UID]*item{}, byKey: map[string]*item{},
		ghosts: map[imap.UID]*ghost{}, sessions: map[*session]struct{}{}, watchers: map[*watcher]struct{}{},
	}
	bx.dirty.Store(true)
	if a.b.state != nil {
		data, err := a.b.state.Load(ctx, mailboxRecordName(a.user, m.ID))
		if err == nil && data != nil {
			err = bx.decode(data)
		}
		if err != nil {
			return nil, fmt.Errorf("imapmodel: load the state of mailbox %s of %s: %w; restore its records, or remove all records of this user to begin anew", e.name, a.user, err)
		}
	}
	if bx.snap.Load() == nil {
		first := imap.ModSeq(1)
		if a.b.state == nil && m.Given {
			// The UIDs live on from before the last restart, but what the
			// mod-sequences were nobody knows: the time is greater.
			first = imap.ModSeq(max(a.b.started.UnixMicro(), 1))
		}
		bx.snap.Store(mailindex.New(mailindex.Meta{
			UIDValidity: m.UIDValidity, UIDNext: 1, HighestModSeq: first, FirstRecent: 1,
		}, nil))
		bx.history = mailindex.NewHistory(first, a.b.opts.History)
	}
	return bx, nil
}

func (bx *box) setInfo(e *entry) {
	bx.mu.Lock()
	defer bx.mu.Unlock()
	bx.info, bx.virtual = e.info, e.virtual
}

func (bx *box) rename(name string) {
	bx.mu.Lock()
	defer bx.mu.Unlock()
	bx.name, bx.info.Name = name, name
}

// modelName is the mailbox's name as the model spells it.
func (bx *box) modelName() string {
	bx.mu.Lock()
	defer bx.mu.Unlock()
	return bx.info.Name
}

func (bx *box) describe() (info Mailbox, virtual bool) {
	bx.mu.Lock()
	defer bx.mu.Unlock()
	return bx.info, bx.virtual
}

func (bx *box) missing() error {
	bx.mu.Lock()
	defer bx.mu.Unlock()
	return imap.E("imapmodel: mailbox "+bx.name, imap.NotFound, nil)
}

// due reports whether the model is to be looked at.
func (bx *box) due() bool {
	last, again := bx.last.Load(), bx.again.Load()
	if !bx.b.stale(bx.dirty.Load(), time.Unix(0, last)) && (again == 0 || bx.b.opts.Clock().UnixNano() < again) {
		return false
	}
	// Before the first look there is nothing to show, so it is tried each time.
	return last == 0 || !bx.retry.waiting(bx.b.opts.Clock())
}

// current returns the latest snapshot, looking at the model first if that is
// due.
func (bx *box) current(ctx context.Context) (*mailindex.Snapshot, error) {
	if bx.gone.Load() {
		return nil, bx.missing()
	}
	if !bx.due() {
		return bx.snap.Load(), nil
	}
	before := bx.looks.Load()
	if err := bx.turn.acquire(ctx); err != nil {
		return nil, err
	}
	defer bx.turn.release()
	// A look that another session began while this one waited will do.
	if bx.due() && (bx.looks.Load() == before || bx.dirty.Load()) {
		if err := bx.look(ctx); err != nil {
			return bx.lookFailed(ctx, err)
		}
	}
	if bx.gone.Load() {
		return nil, bx.missing()
	}
	return bx.snap.Load(), nil
}

// lookFailed decides what a look that has failed means. A mailbox that was
// seen before stays as it was seen, unless it is gone: a model that stumbles
// now and then does not throw clients out.
func (bx *box) lookFailed(ctx context.Context, err error) (*mailindex.Snapshot, error) {
	if errors.Is(err, imap.NotFound) {
		bx.acct.dirty.Store(true)
		return nil, err
	}
	if ctx.Err() != nil || bx.last.Load() == 0 {
		return nil, err
	}
	bx.b.opts.Log.Warn("listing a mailbox failed; clients see it as it was", "user", bx.acct.user, "mailbox", bx.modelName(), "err", err)
	return bx.snap.Load(), nil
}

// watcher is a session that waits for news.
type watcher struct{ wake func() }

// watch calls wake when the mailbox may have changed.
func (bx *box) watch(wake func()) (stop func()) {
	w := &watcher{wake}
	bx.mu.Lock()
	defer bx.mu.Unlock()
	bx.watchers[w] = struct{}{}
	if bx.b.parts.watcher == nil && bx.stopIdle == nil {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		bx.stopIdle = func() { cancel(); <-done }
		go func() {
			defer close(done)
			bx.pollIdle(ctx)
		}()
	}
	return func() {
		var stopIdle func()
		bx.mu.Lock()
		delete(bx.watchers, w)
		if len(bx.watchers) == 0 {
			stopIdle, bx.stopIdle = bx.stopIdle, nil
		}
		bx.mu.Unlock()
		if stopIdle != nil {
			// A look that is under way must end before the account can be
			// forgotten: what it saved later would undo what a box that has been
			// loaded anew has saved meanwhile.
			stopIdle()
		}
	}
}

// wakeIn wakes the sessions that wait when the model is worth asking again,
// unless they are woken now and then anyway.
func (bx *box) wakeIn(wait time.Duration) {
	if bx.b.parts.watcher != nil {
		time.AfterFunc(wait, bx.wake)
	}
}

// wake tells all sessions that wait. No lock is held.
func (bx *box) wake() {
	bx.mu.Lock()
	all := make([]*watcher, 0, len(bx.watchers))
	for w := range bx.watchers {
		all = append(all, w)
	}
	bx.mu.Unlock()
	for _, w := range all {
		w.wake()
	}
}

// pollIdle looks at the mailbox now and then, for the sessions that wait.
func (bx *box) pollIdle(ctx context.Context) {
	ticker := time.NewTicker(bx.b.opts.IdleInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			bx.pollOnce(ctx)
		}
	}
}

func (bx *box) pollOnce(ctx context.Context) {
	defer func() {
		// The model's panic is not the server's end.
		if p := recover(); p != nil {
			bx.b.opts.Log.Error("panic of the model while a mailbox was listed", "user", bx.acct.user, "panic", p)
		}
	}()
	bx.acct.keepUp(ctx, bx)
	if _, err := bx.current(ctx); err != nil && ctx.Err() == nil {
		bx.wake() // the sessions find out for themselves
	}
}

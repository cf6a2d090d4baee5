package imapmodel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapserver"
)

// Backend makes a model a back end for imapserver. It is made by New and safe
// for concurrent use. Close it when its servers have stopped.
type Backend struct {
	model    Model
	features Features
	parts    parts
	opts     Options
	started  time.Time
	state    State // nil where nothing is kept
	digests  *lru[contentKey, *digested]
	bulk     *lru[contentKey, []byte]
	texts    *lru[contentKey, *searchText]
	parsers  sync.Pool // of *message.Parser

	ghostBytes atomic.Int64 // kept of expunged messages
	lastBox    atomic.Uint64
	stopWatch  func()

	mu       sync.Mutex
	accounts map[string]*account
}

var _ imapserver.Backend = (*Backend)(nil)

// New returns a back end for a model. It refuses a model that declares a
// feature whose methods it does not have, and says which.
func New(model Model, opts Options) (*Backend, error) {
	if model == nil {
		return nil, errors.New("imapmodel: New needs a Model")
	}
	p, err := partsOf(model)
	if err != nil {
		return nil, err
	}
	if err := opts.check(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	b := &Backend{
		model: model, features: model.Features(), parts: p, opts: opts,
		started: opts.Clock(), state: opts.State,
		digests:  newLRU[contentKey, *digested](opts.CacheBytes / 4),
		bulk:     newLRU[contentKey, []byte](opts.CacheBytes / 2),
		texts:    newLRU[contentKey, *searchText](opts.CacheBytes / 4),
		accounts: map[string]*account{},
	}
	if p.watcher != nil {
		b.stopWatch = p.watcher.Watch(b.Changed)
	}
	return b, nil
}

// Features says what the server may announce.
func (b *Backend) Features() imapserver.Features {
	f := imapserver.FeatureHistory
	add := func(on bool, more imapserver.Features) {
		if on {
			f |= more
		}
	}
	p := &b.parts
	canCopy := p.copier != nil || p.appender != nil
	add(b.state != nil, imapserver.FeatureObjectID|imapserver.FeatureSaveDate)
	add(p.appender != nil, imapserver.FeatureAppend)
	add(p.appender != nil && p.transactor != nil, imapserver.FeatureMultiAppend)
	add(canCopy, imapserver.FeatureCopy)
	add(p.mover != nil || canCopy && p.remover != nil, imapserver.FeatureMove)
	add(p.editor != nil, imapserver.FeatureMailboxes)
	add(p.subscriber != nil || b.opts.KeepSubscriptions, imapserver.FeatureSubscribe)
	add(b.features.Has(FeatureSpecialUse), imapserver.FeatureSpecialUse)
	add(b.features.Has(FeatureBinary), imapserver.FeatureBinary)
	add(b.features.Has(FeatureUTF8), imapserver.FeatureUTF8)
	return f
}

// Open returns a user's account for one connection.
func (b *Backend) Open(ctx context.Context, user string) (imapserver.Account, error) {
	hook := b.parts.userHook
	if hook != nil {
		if err := hook.LoggedIn(ctx, user); err != nil {
			return nil, serverError("log in "+user, err)
		}
	}
	a := b.enter(user)
	if err := a.load(ctx); err != nil {
		b.leave(a)
		if hook != nil {
			hook.LoggedOut(user)
		}
		return nil, err
	}
	return &accountSession{account: a}, nil
}

// enter returns the user's account and counts one more use of it.
func (b *Backend) enter(user string) *account {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.accounts[user]
	if a == nil {
		a = newAccount(b, user)
		b.accounts[user] = a
	}
	a.uses++
	return a
}

// leave ends one use. What is kept in a State need not stay in RAM.
func (b *Backend) leave(a *account) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.uses--; a.uses == 0 && b.state != nil {
		delete(b.accounts, a.user)
	}
}

// Changed says that something may have changed in the model: the messages of a
// mailbox; with mailbox "" the list of mailboxes or anything of the user's; with
// user "" too anything. Clients that wait are told soon. It never blocks and may
// be called by any goroutine: it is how a program without [Watcher] pushes news.
func (b *Backend) Changed(user, mailbox string) {
	b.mu.Lock()
	var touched []*account
	if user != "" {
		if a := b.accounts[user]; a != nil {
			touched = append(touched, a)
		}
	} else {
		for _, a := range b.accounts {
			touched = append(touched, a)
		}
	}
	b.mu.Unlock()
	for _, a := range touched {
		a.changed(mailbox)
	}
}

// Key returns the key of the message that has a UID in a mailbox, so that an
// extension can ask the model about it. ok is false where a client could not
// read it either: no session has the mailbox open, or there is no such message.
// One that has been expunged keeps its key as long as sessions may see it.
func (b *Backend) Key(user, mailbox string, uid imap.UID) (key string, ok bool) {
	name, err := imap.NormalizeMailbox(mailbox, b.opts.Separator)
	if err != nil {
		return "", false
	}
	b.mu.Lock()
	a := b.accounts[user]
	b.mu.Unlock()
	if a == nil {
		return "", false
	}
	a.mu.Lock()
	bx := a.boxes[name]
	a.mu.Unlock()
	if bx == nil {
		return "", false
	}
	it, _ := bx.lookup(uid)
	if it == nil {
		return "", false
	}
	return it.key, true
}

// Close stops watching the model.
func (b *Backend) Close() error {
	if b.stopWatch != nil {
		b.stopWatch()
	}
	return nil
}

// stale reports whether something that was looked at last is to be looked at
// again.
func (b *Backend) stale(dirty bool, last time.Time) bool {
	if dirty {
		return true
	}
	if b.parts.watcher != nil {
		return false
	}
	return b.opts.PollInterval <= 0 || b.opts.Clock().Sub(last) >= b.opts.PollInterval
}

// atomically runs changes of the model in one step where it can do that.
func (b *Backend) atomically(ctx context.Context, user string, do func(ctx context.Context) error) error {
	if b.parts.transactor == nil {
		return do(ctx)
	}
	return b.parts.transactor.Atomically(ctx, user, do)
}

// modelError makes what a model returned of a mailbox or message fit to cross
// the seam: an *imap.Error stays what it is, a file that does not exist is
// something that does not exist, anything else says where it happened.
func modelError(op string, err error) error {
	var known *imap.Error
	if errors.Is(err, fs.ErrNotExist) && !errors.As(err, &known) {
		return imap.E("imapmodel: "+op, imap.NotFound, err)
	}
	return serverError(op, err)
}

// serverError is modelError where the model was not asked for anything that
// could be missing.
func serverError(op string, err error) error {
	if err == nil {
		return nil
	}
	var known *imap.Error
	if errors.As(err, &known) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("imapmodel: %s: %w", op, err)
}

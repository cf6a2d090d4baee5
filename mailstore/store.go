package mailstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/message"
)

// Options tune a Store. The zero value is good.
type Options struct {
	// Logger receives what an operator should know; nil means slog.Default.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now. It is used for save dates, for
	// internal dates that were not given, and as a lower bound of UIDVALIDITY.
	Now func() time.Time
	// IndexMemory is about how many bytes accounts and the indexes of mailboxes
	// that nobody has open may keep; 0 means 64 MiB.
	IndexMemory int64
	// Limits bounds the digestion of a message. Its zero value means the
	// defaults of package message, with headers up to 1 MiB.
	Limits message.Limits
	// MaxMailboxes bounds the mailboxes of one account; 0 means 10,000.
	MaxMailboxes int
	// MaxKeywords bounds the keywords that one mailbox has; at the bound, those
	// that no message has any more give room to others. 0 means 5,000.
	MaxKeywords int
	// HistoryRanges is about how many ranges of UIDs the history of expunges
	// of one mailbox keeps; 0 means 10,000.
	HistoryRanges int
	// AsItIs leaves the store as it is found: nothing is finished that a crash
	// interrupted, and nothing is swept, until somebody uses an account. For
	// who looks only.
	AsItIs bool
	// Holds reports whether the files that a blob is in are there at all, at once and
	// without reading them, for a look at each start whether any are gone. nil where
	// the engine cannot tell.
	Holds func(driver.Ref) bool
	// TxnRows is the greatest number of rows that one transaction changes;
	// larger operations take several. 0 means 40,000, which fits
	// driver.MaxTxnBytes; only tests want less.
	TxnRows int
	// TxnBytes is about how many bytes one transaction writes when there is a
	// choice; larger appends take several. 0 means half of driver.MaxTxnBytes;
	// only tests want less.
	TxnBytes int
	// ExpungeRanges is the greatest number of ranges of UIDs that one transaction
	// takes out of a mailbox; larger expunges take several. 0 means 400,000, which
	// are written with up to twelve bytes each; only tests want less.
	ExpungeRanges int
	// Settle makes durable what the engines have acknowledged; nil is for engines
	// that acknowledge nothing else. A new account waits for it: one that a crash
	// took would be made again with values of UIDVALIDITY that clients have seen.
	Settle func(context.Context) error
	// PageRows is the greatest number of rows in a page on disk; 0 means that
	// of a page in memory. Only tests want less.
	PageRows int
	// FoldRows is how many rows with a record of their own a mailbox has at
	// least before they are put into pages; 0 means 2,048. Only tests want less.
	FoldRows int
	// ColumnRows is the number of messages in a block of the columns that SEARCH
	// reads; 0 means 256. Only tests want less.
	ColumnRows int
	// DeriveDelay is how long an account rests until the texts of its new messages
	// are decoded, and columns and the index of texts made of them; where it does not
	// rest, they wait ten times as long. 0 means 1 s. What searches find does not
	// depend on it.
	DeriveDelay time.Duration
	// Rested, where it is set, is called when the background has built much (texts,
	// columns, segments of some megabytes) and has nothing left to build: what it
	// took of memory is not needed any more. It is called by the background, one
	// call at a time mostly.
	Rested func()
	// TextLag is how many messages wait for that at most; where four times as many
	// do, each delivery makes the text of its message. 0 means 4,096. Only tests want
	// less.
	TextLag int
	// TextBatch is how many messages wait before the text index takes them, as
	// a segment that has up to a hundred times as many; 0 means 512. Only tests
	// want less.
	TextBatch int
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Settle == nil {
		o.Settle = func(context.Context) error { return nil }
	}
	if o.IndexMemory == 0 {
		o.IndexMemory = 64 << 20
	}
	if o.Limits.HeaderBytes == 0 {
		// The digest and the text of one message must fit a transaction.
		o.Limits.HeaderBytes = 1 << 20
	}
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&o.MaxMailboxes, 10_000)
	set(&o.MaxKeywords, 5_000)
	set(&o.HistoryRanges, 10_000)
	set(&o.TxnRows, 40_000)
	set(&o.TxnBytes, driver.MaxTxnBytes/2)
	set(&o.ExpungeRanges, 400_000)
	set(&o.PageRows, mailindex.PageRows)
	set(&o.FoldRows, 2048)
	set(&o.ColumnRows, blockMessages)
	if o.DeriveDelay == 0 {
		o.DeriveDelay = time.Second
	}
	set(&o.TextLag, 4096)
	set(&o.TextBatch, 512)
	return o
}

// directoryAccount is the driver's account for the store's own records.
const directoryAccount driver.Account = 0

// Store is a mail store. All methods are safe for concurrent use.
type Store struct {
	kv    driver.KV
	blobs driver.Blobs
	opts  Options

	ctx        context.Context // ends when the store closes
	cancel     context.CancelFunc
	background sync.WaitGroup

	indexed   atomic.Int64  // bytes of all accounts and indexes that are kept in memory
	clock     atomic.Uint64 // counts uses of mailboxes
	refs      refBound
	recall    recall
	unswept   atomic.Bool // a failure may have left blobs that nobody names
	counts    struct{ commits, operations atomic.Int64 }
	lost      lostMessages
	missing   atomic.Int64 // messages whose files are gone: see missing.go
	sound     soundMessages
	places    places
	digesters sync.Pool // of *digester, with opts.Limits
	rooms     sync.Pool // of *[uploadRoom]byte
	writes    sync.Pool // of *[roomForWrites]write
	batches   sync.Pool // of *recordBatch
	matchers  sync.Pool // of *textMatcher

	loops atomic.Int32 // of accounts whose derivers work, or wait
	built atomic.Int64 // bytes that derivers have written since Options.Rested

	derivers    []deriver
	deriveSlots chan struct{} // holds a value for each step that runs
	searchSlots chan struct{} // holds a value for each goroutine that helps a search

	repairing bool // nothing is taken away in the background

	mu       sync.Mutex
	accounts map[driver.Account]*seat
	closed   bool
}

// Open opens a store over two engines. The engines stay the caller's: Close
// does not close them. The error is of kind ContactAdmin with a text for the
// operator where the store is newer than this program, or too old for it.
func Open(ctx context.Context, kv driver.KV, blobs driver.Blobs, opts Options) (*Store, error) {
	s := &Store{kv: kv, blobs: blobs, opts: opts.withDefaults(), accounts: make(map[driver.Account]*seat)}
	s.derivers = newDerivers(&s.opts)
	s.deriveSlots = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))
	s.searchSlots = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-1))
	var clean bool
	var bound driver.Ref
	var older bool // the store has been in use
	err := kv.Update(ctx, directoryAccount, func(tx driver.Txn) error {
		version, fresh, err := checkFormat(tx)
		if err != nil {
			return err
		}
		if version < formatVersion { // fresh, or readable as it is: see layout.go
			if err := tx.Set([]byte{keyFormat}, binary.AppendUvarint(nil, formatVersion)); err != nil {
				return err
			}
		}
		if bound, err = readRefBound(tx); err != nil {
			return err
		}
		_, closedInOrder, err := tx.Get([]byte{keyClean})
		clean, older = closedInOrder || fresh, !fresh
		if err != nil {
			return err
		}
		return tx.Delete([]byte{keyClean})
	})
	if err == nil && bound == 0 && older && !s.opts.AsItIs {
		bound, err = s.firstBound(ctx)
	}
	if err == nil {
		err = s.skipRefs(ctx, bound)
	}
	if err != nil {
		return nil, imap.E("mailstore: open", imap.Other, err)
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if s.opts.AsItIs {
		s.unswept.Store(!clean)
	} else {
		s.background.Go(func() { s.recover(clean) })
		s.background.Go(s.tellMissing)
	}
	return s, nil
}

func checkFormat(r driver.Reader) (version uint64, fresh bool, err error) {
	data, ok, err := r.Get([]byte{keyFormat})
	if err != nil || !ok {
		return 0, !ok, err
	}
	d := decoder{data: data}
	version = d.uint()
	if err := d.err("format version"); err != nil {
		return 0, false, err
	}
	if version > formatVersion {
		return version, false, imap.E("mailstore: open", imap.ContactAdmin, fmt.Errorf(
			"the store has format %d and this program knows formats up to %d: use a newer rookery", version, formatVersion))
	}
	if version < oldestFormat {
		return version, false, imap.E("mailstore: open", imap.ContactAdmin, fmt.Errorf(
			"the store has format %d, which no release has written, and this program knows formats from %d on: "+
				"move the folder away and import the mail anew", version, oldestFormat))
	}
	return version, false, nil
}

// recover finishes what a crash has interrupted. It runs in the background:
// whatever it does is invisible to users.
func (s *Store) recover(clean bool) {
	if err := s.finishRemovals(s.ctx); err != nil && s.ctx.Err() == nil {
		s.opts.Logger.Error("removing accounts", "err", err)
	}
	if clean {
		return
	}
	if err := errors.Join(s.tellUnnamed(s.ctx), s.Sweep(s.ctx)); err != nil {
		s.unswept.Store(true)
		if s.ctx.Err() == nil {
			s.opts.Logger.Error("sweeping after a crash", "err", err)
		}
	}
}

// Sweep takes back the space of messages that no mailbox holds, as a crash can
// leave them. It may run at any time.
func (s *Store) Sweep(ctx context.Context) error {
	list, err := s.Accounts(ctx)
	if err != nil {
		return err
	}
	for _, info := range list {
		a, err := s.Lookup(ctx, info.Name)
		if imap.KindOf(err) == imap.NotFound {
			continue // removed or renamed meanwhile; this must not make it anew
		}
		if err != nil {
			return err
		}
		if err := a.sweep(ctx); err != nil {
			return imap.E("mailstore: sweep account "+info.Name, imap.Other, err)
		}
	}
	return nil
}

// Close waits for changes that are under way, and ends the use of the engines.
// Changes that come later fail with kind Closed.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	for _, a := range s.live() {
		a.shutdown()
	}
	s.cancel()
	s.background.Wait()
	if s.unswept.Load() {
		return nil // the next start sweeps
	}
	return s.kv.Update(ctx, directoryAccount, func(tx driver.Txn) error {
		return tx.Set([]byte{keyClean}, nil)
	})
}

func (s *Store) now() time.Time { return s.opts.Now() }

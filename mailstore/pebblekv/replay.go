package pebblekv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// JournalReport says what a journal was good for.
type JournalReport struct {
	// Found says that there was anything that could be replayed: a saved state, or
	// at least logs.
	Found bool
	// Whole says that everything was there that was committed since, as far as
	// a journal can tell: no log is missing or damaged. A store that was not
	// closed in order may have lost the very end without a trace. Where it is
	// false, what could be read behind the damage counts all the same: a
	// JournalReader knows more.
	Whole bool
	// Torn says that the last log ends in what is no record: a crash leaves
	// that, and so does damage to the last records of a store that crashed.
	Torn bool
	// Epoch is the folder that was read; Logs and Batches were replayed.
	Epoch         string
	Logs, Batches int
	// Next is the number of the commit that would come next, 0 where nothing was found:
	// see [KV.IsBehind].
	Next uint64
	// Problems says what was missing or damaged.
	Problems []string
}

// A JournalReader is told what a journal has, in its order.
type JournalReader interface {
	// Begin is told that a saved state begins. What came before it, if anything,
	// was of one that turned out to be damaged.
	Begin()
	// Note is told of a record that was written, but for those that are derived.
	// Key and value are valid only until it returns.
	Note(a driver.Account, key, value []byte)
	// Lost is told that commits are missing at this place.
	Lost()
}

func (r *JournalReport) problem(format string, args ...any) {
	r.Whole = false
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// HasJournal reports whether a folder has a journal of a store that has ever
// held anything: then the store must be there, too.
func HasJournal(disk vfs.FS, root string) (bool, error) {
	epochs, err := listEpochs(disk, root)
	if err != nil {
		return false, err
	}
	for _, e := range epochs {
		names, err := disk.List(disk.PathJoin(root, e))
		if err != nil {
			return false, err
		}
		if len(stateNumbers(names)) > 0 {
			return true, nil
		}
	}
	return false, nil
}

// Replay fills a store, which must be new and empty, with what the newest
// journal in root has, and tells reader (nil for nobody) of it; index is the folder
// of the store that it is of, from which logs are taken that the journal lacks. What
// can be made anew is left out. The journal is only read. What is wrong with it is in
// the report; the error is for what keeps it from being read, or the store from being
// written.
func (kv *KV) Replay(ctx context.Context, disk vfs.FS, root, index string, reader JournalReader) (*JournalReport, error) {
	const op = "index replay"
	acct, in, err := kv.enter(op, 0)
	if err != nil {
		return nil, err
	}
	defer kv.leave(0, acct)
	epochs, err := listEpochs(disk, root)
	if err != nil {
		return nil, imap.E(op, imap.Unavailable, err)
	}
	var problems []string
	for _, epoch := range epochs {
		p := newReplay(disk, root, epoch, index, kv.opts.Derived, reader)
		p.in, p.report.Problems = in, problems
		if err := p.run(ctx); err != nil {
			return nil, imap.E(op, imap.Unavailable, err)
		}
		if len(problems) > 0 {
			p.lose()
		}
		if p.report.Found {
			return &p.report, nil
		}
		problems = p.report.Problems
	}
	for _, epoch := range epochs {
		// Logs alone have some accounts from their beginning on, and parts of others.
		p := newReplay(disk, root, epoch, index, kv.opts.Derived, reader)
		p.in, p.report.Problems, p.bare = in, problems, true
		if err := p.run(ctx); err != nil {
			return nil, imap.E(op, imap.Unavailable, err)
		}
		if p.report.Batches > 0 {
			p.report.Found = true
			return &p.report, nil
		}
	}
	return &JournalReport{Problems: problems}, nil
}

// ReadJournal reads all that the newest journal in root has, and verifies it; index is
// the folder of the store that it is of. reader is told of what counts: the newest saved state, and what
// comes behind it, but for records that were deleted since then or are derived. All
// the rest has to be there for the case that this state gets damaged, so what is wrong
// with it is in the report, too.
func ReadJournal(ctx context.Context, disk vfs.FS, root, index string, derived func(driver.Account, []byte) []byte, reader JournalReader) (*JournalReport, error) {
	epochs, err := listEpochs(disk, root)
	if err != nil {
		return nil, imap.E("index journal", imap.Unavailable, err)
	}
	if own, err := readText(disk, disk.PathJoin(index, epochName)); err == nil && isEpoch(own) && !slices.Contains(epochs, own) {
		r := &JournalReport{}
		r.problem("%s is gone", disk.PathJoin(root, own))
		return r, nil
	}
	if len(epochs) == 0 {
		return &JournalReport{}, nil
	}
	p := newReplay(disk, root, epochs[0], "", derived, reader)
	p.all = true
	if err := p.run(ctx); err != nil {
		return nil, imap.E("index journal", imap.Unavailable, err)
	}
	p.report.Next = max(p.start, p.next) // without logs the second is that of an older state
	return &p.report, nil
}

// replay is one journal being read.
type replay struct {
	fs      vfs.FS
	dir     string
	index   string    // the folder of the store that the journal is of
	in      *instance // nil where nothing is written
	reader  JournalReader
	derived func(driver.Account, []byte) []byte
	all     bool // also what comes before the newest state
	bare    bool // only logs: there is no state that can be read
	report  JournalReport
	buf     []byte // of the log before, for the next

	start uint64 // the sequence number of the first batch that is not in the state, 0 for any
	next  uint64 // the one that the next batch must have, 0 for any
	// What may be missing since the last batch: a batch that goes on there shows that
	// nothing is.
	hole string
	at   uint64 // the log that has the last batch
	torn uint64 // the log behind the last batch that ended as a crash leaves it
}

func newReplay(disk vfs.FS, root, epoch, index string, derived func(driver.Account, []byte) []byte, reader JournalReader) *replay {
	return &replay{
		fs: disk, dir: disk.PathJoin(root, epoch), index: index, derived: derived, reader: reader,
		report: JournalReport{Whole: true, Epoch: epoch},
	}
}

// lose notes that commits are missing.
func (p *replay) lose() {
	p.report.Whole = false
	if p.reader != nil {
		p.reader.Lost()
	}
}

func (p *replay) run(ctx context.Context) error {
	names, err := p.fs.List(p.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if p.bare {
		return p.logsAlone(ctx)
	}
	states := stateNumbers(names)
	for i, state := range states {
		next, err := p.load(ctx, p.fs.PathJoin(p.dir, stateName(state)))
		if err == nil {
			p.report.Found = true
			p.start, p.next = next, next
			return p.logs(ctx, p.older(ctx, state, states[i+1:]))
		}
		if ctx.Err() != nil || !isBadState(err) {
			return err
		}
		// The state before and all logs since it do as well.
		p.badState(state, err)
		if p.in == nil {
			continue
		}
		if err := p.in.db.DeleteRange([]byte{0}, appendPrefix(nil, ^driver.Account(0)), pebble.NoSync); err != nil {
			return err
		}
	}
	if p.all && len(states) == 0 && p.isNew() {
		return nil
	}
	p.report.problem("%s has no saved state that can be read", p.dir)
	return nil
}

// isNew reports whether a journal may have been begun just now, before the power went:
// its first state is saved at the end of the store's opening.
func (p *replay) isNew() bool {
	return len(readLogs(p.fs, p.dir, begunName)) <= 1 && len(readLogs(p.fs, p.dir, closedName)) == 0
}

// logsAlone replays logs behind nothing.
func (p *replay) logsAlone(ctx context.Context) error {
	list, err := listLogs(p.fs, p.dir)
	if err != nil || len(list) == 0 {
		return err
	}
	if p.reader != nil {
		p.reader.Begin()
	}
	p.lose()
	first := list[0].number
	for _, l := range list {
		first = min(first, l.number)
	}
	return p.logs(ctx, first)
}

func isBadState(err error) bool {
	_, lost := errors.AsType[*fs.PathError](err)
	return lost || errors.Is(err, errBadState)
}

func (p *replay) badState(state uint64, err error) {
	p.report.Problems = append(p.report.Problems, fmt.Sprintf("%s: %v", p.fs.PathJoin(p.dir, stateName(state)), err))
}

// older verifies the states before the one that counts, where all is to be read, and
// returns the number of the log to begin with.
func (p *replay) older(ctx context.Context, from uint64, states []uint64) uint64 {
	if !p.all {
		return from
	}
	for _, state := range states {
		next, err := readState(p.fs, p.fs.PathJoin(p.dir, stateName(state)), func(_, _ []byte) error { return ctx.Err() })
		if err != nil && ctx.Err() == nil {
			p.badState(state, err)
			continue
		}
		from, p.next = state, next
	}
	return from
}

// load takes in a saved state.
func (p *replay) load(ctx context.Context, path string) (next uint64, err error) {
	if p.reader != nil {
		p.reader.Begin()
	}
	if p.in == nil {
		return readState(p.fs, path, func(key, value []byte) error {
			p.show(key, value)
			return ctx.Err()
		})
	}
	batch := p.in.db.NewBatch()
	defer func() { _ = batch.Close() }()
	next, err = readState(p.fs, path, func(key, value []byte) error {
		if skipTo(p.derived, key) != nil {
			return nil
		}
		p.show(key, value)
		if err := batch.Set(key, value, nil); err != nil {
			return err
		}
		if batch.Len() < driver.MaxTxnBytes/2 {
			return nil
		}
		err := p.in.db.Apply(batch, pebble.NoSync)
		batch.Reset()
		return errors.Join(err, ctx.Err())
	})
	if err != nil {
		return 0, err
	}
	return next, p.in.db.Apply(batch, pebble.NoSync)
}

func (p *replay) show(key, value []byte) {
	if p.reader != nil && len(key) >= prefixLen && skipTo(p.derived, key) == nil {
		p.reader.Note(driver.Account(accountOf(key)), key[prefixLen:], value)
	}
}

// showBatch shows what a batch sets.
func (p *replay) showBatch(repr []byte) error {
	if p.reader == nil {
		return nil
	}
	for r := batchrepr.Read(repr); len(r) > 0; {
		kind, key, value, ok, err := r.Next()
		if err != nil || !ok {
			return errors.Join(errors.New("the batch cannot be read"), err)
		}
		if kind == pebble.InternalKeyKindSet {
			p.show(key, value)
		}
	}
	return nil
}

// apply writes a batch of a log into the new store.
func (p *replay) apply(repr []byte) (err error) {
	if err := p.showBatch(repr); err != nil || p.in == nil {
		return err
	}
	batch := p.in.db.NewBatch()
	defer func() { err = errors.Join(err, batch.Close()) }()
	for r := batchrepr.Read(repr); len(r) > 0; {
		kind, key, value, ok, err := r.Next()
		if err != nil || !ok {
			return errors.Join(errors.New("the batch cannot be read"), err)
		}
		switch kind {
		case pebble.InternalKeyKindSet:
			if skipTo(p.derived, key) == nil {
				err = batch.Set(key, value, nil)
			}
		case pebble.InternalKeyKindDelete, pebble.InternalKeyKindSingleDelete, pebble.InternalKeyKindDeleteSized:
			err = batch.Delete(key, nil)
		case pebble.InternalKeyKindRangeDelete:
			err = batch.DeleteRange(key, value, nil)
		case pebble.InternalKeyKindLogData:
		default:
			err = fmt.Errorf("the batch has an operation of an unknown kind: %s", kind)
		}
		if err != nil {
			return err
		}
	}
	return p.in.db.Apply(batch, pebble.NoSync)
}

// skipTo returns the end of the range of derived keys that a whole key is in, or
// nil.
func skipTo(derived func(driver.Account, []byte) []byte, key []byte) []byte {
	if derived == nil || len(key) < prefixLen {
		return nil
	}
	a := driver.Account(accountOf(key))
	if end := derived(a, key[prefixLen:]); end != nil {
		return fullKey(a, end)
	}
	return nil
}

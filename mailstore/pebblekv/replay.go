package pebblekv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// JournalReport says what a journal was good for.
type JournalReport struct {
	// Found says that there was a saved state that could be read; without one
	// nothing was replayed.
	Found bool
	// Whole says that everything was there that was committed since, as far as
	// a journal can tell: no log is missing or damaged. A store that was not
	// closed in order may have lost the very end without a trace.
	Whole bool
	// Torn says that the last log ends in what is no record: a crash leaves
	// that, and so does damage to the last records of a store that crashed.
	Torn bool
	// Epoch is the folder that was read; Logs and Batches were replayed.
	Epoch         string
	Logs, Batches int
	// Problems says what was missing or damaged.
	Problems []string
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
// journal in root has. What can be made anew is left out. The journal is only
// read. What is wrong with it is in the report; the error is for what keeps it
// from being read, or the store from being written.
func (kv *KV) Replay(ctx context.Context, disk vfs.FS, root string) (*JournalReport, error) {
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
		p := &replay{fs: disk, dir: disk.PathJoin(root, epoch), in: in, derived: kv.opts.Derived}
		p.report = JournalReport{Whole: true, Epoch: epoch, Problems: problems}
		if err := p.run(ctx); err != nil {
			return nil, imap.E(op, imap.Unavailable, err)
		}
		if len(problems) > 0 {
			p.report.Whole = false
		}
		if p.report.Found {
			return &p.report, nil
		}
		problems = p.report.Problems
	}
	return &JournalReport{Problems: problems}, nil
}

// replay is one journal being read.
type replay struct {
	fs      vfs.FS
	dir     string
	in      *instance
	derived func(driver.Account, []byte) []byte
	report  JournalReport
	next    uint64 // the sequence number that the next batch must have, 0 for any
}

func (p *replay) run(ctx context.Context) error {
	names, err := p.fs.List(p.dir)
	if err != nil {
		return err
	}
	for _, state := range stateNumbers(names) {
		err := p.load(ctx, p.fs.PathJoin(p.dir, stateName(state)))
		if err == nil {
			p.report.Found = true
			return p.logs(ctx, state)
		}
		if ctx.Err() != nil || !errors.Is(err, errBadState) && !isReadError(err) {
			return err
		}
		// The state before and all logs since it do as well.
		p.report.Problems = append(p.report.Problems, fmt.Sprintf("%s: %v", p.fs.PathJoin(p.dir, stateName(state)), err))
		if err := p.in.db.DeleteRange([]byte{0}, appendPrefix(nil, ^driver.Account(0)), pebble.NoSync); err != nil {
			return err
		}
	}
	p.report.problem("%s has no saved state that can be read", p.dir)
	return nil
}

func isReadError(err error) bool {
	_, ok := errors.AsType[*fs.PathError](err)
	return ok
}

// load takes in a saved state.
func (p *replay) load(ctx context.Context, path string) error {
	batch := p.in.db.NewBatch()
	defer func() { _ = batch.Close() }()
	err := readState(p.fs, path, func(key, value []byte) error {
		if skipTo(p.derived, key) != nil {
			return nil
		}
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
		return err
	}
	return p.in.db.Apply(batch, pebble.NoSync)
}

// logs replays the logs from one on.
func (p *replay) logs(ctx context.Context, from uint64) error {
	all, err := wal.Scan(wal.Dir{FS: p.fs, Dirname: p.dir})
	if err != nil {
		return err
	}
	list := slices.DeleteFunc(all, func(l wal.LogicalLog) bool { return uint64(l.Num) < from })
	if len(list) == 0 || uint64(list[0].Num) != from {
		p.report.problem("%s is missing", p.fs.PathJoin(p.dir, logName(from)))
		return nil
	}
	for i, l := range list {
		limit := ^uint64(0)
		for _, later := range list[i+1:] {
			if first, ok := p.first(later); ok {
				// What the store found here when it was opened again ended there.
				limit = first
				break
			}
		}
		if err := p.log(ctx, l, limit, i == len(list)-1); err != nil || !p.report.Whole {
			return err
		}
		p.report.Logs++
	}
	return p.compareEnd(list[len(list)-1])
}

// first returns the sequence number of the first batch of a log.
func (p *replay) first(l wal.LogicalLog) (uint64, bool) {
	r := l.OpenForRead()
	defer r.Close()
	rec, _, err := r.NextRecord()
	if err != nil {
		return 0, false
	}
	repr, err := io.ReadAll(rec)
	h, ok := batchrepr.ReadHeader(repr)
	return uint64(h.SeqNum), err == nil && ok
}

func (p *replay) log(ctx context.Context, l wal.LogicalLog, limit uint64, last bool) error {
	name := p.fs.PathJoin(p.dir, logName(uint64(l.Num)))
	r := l.OpenForRead()
	defer r.Close()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		rec, off, err := r.NextRecord()
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, record.ErrZeroedChunk):
			return nil
		case record.IsInvalidRecord(err):
			p.report.Torn = p.report.Torn || last
			return nil // where something is missing, the next log tells
		default:
			p.report.problem("%s is damaged at %s: %v", name, off, err)
			return nil
		}
		repr, err := io.ReadAll(rec)
		if err != nil {
			return err
		}
		h, ok := batchrepr.ReadHeader(repr)
		if !ok {
			p.report.problem("%s has no batch at %s", name, off)
			return nil
		}
		seq := uint64(h.SeqNum)
		if seq >= limit {
			return nil
		}
		if p.next != 0 && seq != p.next {
			p.report.problem("commits are missing before %s (the number %d comes behind %d)", name, seq, p.next)
			return nil
		}
		p.next = seq + uint64(h.Count)
		if err := p.apply(repr); err != nil {
			return fmt.Errorf("%s at %s: %w", name, off, err)
		}
		p.report.Batches++
	}
}

// apply writes a batch of a log into the new store.
func (p *replay) apply(repr []byte) (err error) {
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

// compareEnd looks whether the last log is as long as it was when the store was
// closed in order, where it was.
func (p *replay) compareEnd(last wal.LogicalLog) error {
	number, size, err := readClosed(p.fs, p.dir)
	if err != nil {
		return nil // it was not, or nobody knows
	}
	end, err := last.PhysicalSize()
	if err != nil {
		return err
	}
	switch {
	case number > uint64(last.Num):
		p.report.problem("%s is missing", p.fs.PathJoin(p.dir, logName(number)))
	case number == uint64(last.Num) && (int64(end) != size || p.report.Torn):
		p.report.problem("the end of %s is missing or damaged", p.fs.PathJoin(p.dir, logName(number)))
	}
	return nil
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

package pebblekv

import (
	"cmp"
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
// journal in root has; index is the folder of the store that it is of, from which
// logs are taken that the journal lacks. What can be made anew is left out. The journal is only
// read. What is wrong with it is in the report; the error is for what keeps it
// from being read, or the store from being written.
func (kv *KV) Replay(ctx context.Context, disk vfs.FS, root, index string) (*JournalReport, error) {
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
		p := &replay{fs: disk, dir: disk.PathJoin(root, epoch), index: index, in: in, derived: kv.opts.Derived}
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

// ReadJournal calls fn for each record that the newest journal in root has from
// its saved state on, in the order in which they were written, but for those that
// were deleted since then or are derived. It is for who wants to know whether a
// store is as young as its journal.
func ReadJournal(ctx context.Context, disk vfs.FS, root string, derived func(driver.Account, []byte) []byte, fn func(a driver.Account, key, value []byte)) (*JournalReport, error) {
	epochs, err := listEpochs(disk, root)
	if err != nil || len(epochs) == 0 {
		return &JournalReport{}, err
	}
	p := &replay{fs: disk, dir: disk.PathJoin(root, epochs[0]), derived: derived, visit: fn}
	p.report = JournalReport{Whole: true, Epoch: epochs[0]}
	if err := p.run(ctx); err != nil {
		return nil, imap.E("index journal", imap.Unavailable, err)
	}
	return &p.report, nil
}

// replay is one journal being read.
type replay struct {
	fs      vfs.FS
	dir     string
	index   string // the folder of the store that the journal is of
	in      *instance
	visit   func(a driver.Account, key, value []byte) // in place of in
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
		if p.in == nil {
			continue
		}
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
	if p.in == nil {
		return readState(p.fs, path, func(key, value []byte) error {
			p.show(key, value)
			return ctx.Err()
		})
	}
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
	all = p.complement(all)
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
	return p.complete(from, list)
}

// complement takes logs from the store's own folder that the journal lacks or has
// a shorter file of. Mostly both are one file.
func (p *replay) complement(list []wal.LogicalLog) []wal.LogicalLog {
	if name, err := readText(p.fs, p.fs.PathJoin(p.index, epochName)); err != nil || name != p.report.Epoch {
		return list
	}
	own, err := wal.Scan(wal.Dir{FS: p.fs, Dirname: p.index})
	if err != nil {
		return list
	}
	begun := make(map[uint64]bool)
	for _, l := range readLogs(p.fs, p.dir, begunName) {
		begun[l.number] = true
	}
	for _, l := range own {
		if !begun[uint64(l.Num)] {
			continue // nobody knows who wrote it
		}
		size, err := l.PhysicalSize()
		i, ok := slices.BinarySearchFunc(list, l.Num, func(l wal.LogicalLog, n wal.NumWAL) int { return cmp.Compare(l.Num, n) })
		switch {
		case err != nil:
		case !ok:
			list = slices.Insert(list, i, l)
		default:
			if known, err := list[i].PhysicalSize(); err != nil || known < size {
				list[i] = l
			}
		}
	}
	return list
}

// hasBatches reports whether a log of the journal has anything that can be read.
func hasBatches(disk vfs.FS, dir string, number uint64) bool {
	all, err := wal.Scan(wal.Dir{FS: disk, Dirname: dir})
	if err != nil {
		return false
	}
	l, ok := all.Get(wal.NumWAL(number))
	if !ok {
		return false
	}
	_, ok = (&replay{}).first(l)
	return ok
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
			if last {
				p.report.Torn = true
			} else if limit != p.next {
				p.report.problem("%s is damaged at %s: %v", name, off, err)
			}
			return nil
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

func (p *replay) show(key, value []byte) {
	if len(key) >= prefixLen && skipTo(p.derived, key) == nil {
		p.visit(driver.Account(accountOf(key)), key[prefixLen:], value)
	}
}

// showBatch is apply for who only looks.
func (p *replay) showBatch(repr []byte) error {
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
	if p.in == nil {
		return p.showBatch(repr)
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

// complete looks whether all logs are there that were begun, and as long as they
// were when the store was closed in order, where it was.
func (p *replay) complete(from uint64, list []wal.LogicalLog) error {
	sizes := make(map[uint64]int64)
	for _, l := range list {
		size, err := l.PhysicalSize()
		if err != nil {
			return err
		}
		sizes[uint64(l.Num)] = int64(size)
	}
	for _, l := range readLogs(p.fs, p.dir, begunName) {
		if _, ok := sizes[l.number]; !ok && l.number >= from {
			p.report.problem("%s is missing", p.fs.PathJoin(p.dir, logName(l.number)))
		}
	}
	closed := readLogs(p.fs, p.dir, closedName)
	for _, l := range closed {
		size, ok := sizes[l.number]
		if l.number >= from && (!ok || size != l.size) {
			p.report.problem("the end of %s is missing", p.fs.PathJoin(p.dir, logName(l.number)))
		}
	}
	if p.report.Torn && len(closed) > 0 && len(list) > 0 && closed[len(closed)-1].number == uint64(list[len(list)-1].Num) {
		p.report.problem("the end of %s is damaged", p.fs.PathJoin(p.dir, logName(uint64(list[len(list)-1].Num))))
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

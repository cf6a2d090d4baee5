package pebblekv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/durable"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// A journal is a second, independent way to what the store says, in a folder
// beside it: saved states (state.go), and the logs that were written since. A
// log gets a name there by a hard link when it is made, so it costs no second
// write and no second sync, and it outlives the folder of the store. Old logs
// go when two saved states are younger. [Replay] makes a store of it again.
//
// In the folder is one epoch for each life of a store: a store that was put in
// place of another one by a restore or a repair begins a new epoch, since its
// logs have numbers that the former one's have, too. A file in the store's
// folder names its epoch.
type journal struct {
	fs      vfs.FS
	index   string // the folder of the store
	root    string // the folder of all epochs
	epoch   string // the name of this one
	log     *slog.Logger
	derived func(driver.Account, []byte) []byte
	after   int64

	saving sync.Mutex // held by who saves a state
	adding sync.Mutex // held by who takes in a log, inside of saving
	kick   chan struct{}

	mu       sync.Mutex
	gap      bool     // the logs do not go on where the former ones end: a new state must be saved
	linkless bool     // there are no hard links here
	rotten   bool     // files of it are damaged or gone: only a new state counts
	ahead    bool     // it has changes that the store has not: nothing of it goes
	begun    []uint64 // the logs that are in the journal, or ought to be
	held     heldLogs // those that it has
	newest   uint64   // number of the log that is being written
	since    int64    // bytes of logs that are newer than the newest state, but for newest
	state    int64    // bytes of the newest state
}

// Names in the journal's folder, and epochName in the store's.
const (
	epochName   = "JOURNAL"
	statePrefix = "state-"
	stateNew    = "state.new"
	begunName   = "logs"
	closedName  = "closed"

	categoryJournal vfs.DiskWriteCategory = "rookery-journal"
)

// openJournal finds the epoch of a store, or begins one. The store is not open
// yet.
func openJournal(index string, opts Options) (*journal, error) {
	j := &journal{
		fs: opts.FS, index: index, root: opts.Journal, log: opts.Logger, derived: opts.Derived,
		after: opts.JournalBytes, kick: make(chan struct{}, 1),
	}
	if err := j.fs.MkdirAll(j.root, 0o700); err != nil {
		return nil, err
	}
	if err := durable.SyncDir(j.fs, j.fs.PathDir(j.root)); err != nil {
		return nil, err
	}
	name, err := readText(j.fs, j.fs.PathJoin(index, epochName))
	if err == nil && isEpoch(name) {
		if _, err := j.fs.Stat(j.fs.PathJoin(j.root, name)); err == nil {
			j.epoch = name
			if err := j.compare(); err != nil {
				return nil, err
			}
			return j, j.holds()
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return j, j.begin()
}

// begin begins an epoch.
func (j *journal) begin() error {
	epochs, err := listEpochs(j.fs, j.root)
	if err != nil {
		return err
	}
	number := 1
	if len(epochs) > 0 {
		number = epochNumber(epochs[0]) + 1
	}
	j.epoch = fmt.Sprintf("%08d-%08x", number, rand.Uint32())
	if err := j.fs.MkdirAll(j.dir(), 0o700); err != nil {
		return err
	}
	if err := durable.SyncDir(j.fs, j.root); err != nil {
		return err
	}
	if err := j.fs.MkdirAll(j.index, 0o700); err != nil {
		return err
	}
	if err := durable.SyncDir(j.fs, j.fs.PathDir(j.index)); err != nil {
		return err
	}
	return j.writeEpoch()
}

// writeEpoch names the epoch in the store's folder.
func (j *journal) writeEpoch() error {
	return durable.WriteFile(j.fs, j.fs.PathJoin(j.index, epochName), j.epoch+"\n", categoryJournal)
}

// compare notes whether the store goes on where its journal ends: it was closed
// in order, and was not in use without the journal since.
func (j *journal) compare() error {
	own, err := j.fs.List(j.index)
	if err != nil {
		return err
	}
	closed := readLogs(j.fs, j.dir(), closedName)
	j.gap = len(closed) == 0
	isNew := func(n uint64) bool { return len(closed) > 0 && n > closed[len(closed)-1].number }
	for _, l := range readLogs(j.fs, j.dir(), begunName) {
		if _, err := j.fs.Stat(j.path(logName(l.number))); err != nil && isNew(l.number) && !slices.Contains(own, logName(l.number)) {
			j.gap = true // a crash has kept the list, and neither name of a log that was just begun
			continue
		}
		j.begun = append(j.begun, l.number)
	}
	for _, name := range own {
		if n, ok := parseLog(name); ok && isNew(n) {
			j.gap = true
			j.rotten = j.rotten || !slices.Contains(j.begun, n) // used without it
		}
	}
	return nil
}

// logSize is a log and how long it is.
type logSize struct {
	number uint64
	size   int64
}

// readLogs reads a list of logs as writeLogs wrote it, as far as that goes: it
// says less then, not something wrong.
func readLogs(disk vfs.FS, dir, name string) (list []logSize) {
	text, err := readText(disk, disk.PathJoin(dir, name))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(text) {
		var l logSize
		if _, err := fmt.Sscanf(line, "%d %d", &l.number, &l.size); err != nil {
			return nil
		}
		list = append(list, l)
	}
	return list
}

func (j *journal) writeLogs(name string, list []logSize) error {
	var text strings.Builder
	for _, l := range list {
		fmt.Fprintf(&text, "%d %d\n", l.number, l.size)
	}
	return durable.WriteFile(j.fs, j.path(name), text.String(), categoryJournal)
}

// listEpochs returns the epochs in a folder, the newest first.
func listEpochs(disk vfs.FS, root string) ([]string, error) {
	names, err := disk.List(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for i := range names {
		names[i] = strings.TrimSuffix(names[i], "/")
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !isEpoch(n) })
	slices.Sort(names)
	slices.Reverse(names)
	return names, nil
}

func epochNumber(name string) (n int) {
	_, _ = fmt.Sscanf(name, "%08d-", &n) // 0 where it is no epoch
	return n
}

func isEpoch(name string) bool {
	return len(name) == 17 && epochNumber(name) > 0 && !strings.ContainsAny(name, `/\`)
}

func (j *journal) dir() string { return j.fs.PathJoin(j.root, j.epoch) }

func (j *journal) path(name string) string { return j.fs.PathJoin(j.dir(), name) }

func logName(number uint64) string { return fmt.Sprintf("%06d.log", number) }

func parseLog(name string) (number uint64, ok bool) {
	if !strings.HasSuffix(name, ".log") {
		return 0, false
	}
	_, err := fmt.Sscanf(name, "%d.log", &number)
	return number, err == nil
}

// add takes a log in, before anything is written to it. Where it cannot, the
// journal has a gap until the next state is saved: whoever reads it notices.
func (j *journal) add(name string) {
	number, ok := parseLog(j.fs.PathBase(name))
	if !ok {
		return
	}
	j.adding.Lock()
	defer j.adding.Unlock()
	err := j.link(number)
	switch {
	case noLinks(err):
		j.log.Warn("the journal of the index has no logs, only saved states, since this file system has no hard links", "dir", j.dir(), "err", err)
	case err != nil:
		j.log.Warn("the journal of the index misses a part until its next state is saved", "dir", j.dir(), "err", err)
	}
	j.mu.Lock()
	before := j.newest
	j.newest = number
	if before != 0 {
		j.since += j.size(logName(before))
	}
	j.gap = j.gap || err != nil
	due := j.gap || j.since >= max(j.after, j.state)
	j.mu.Unlock()
	if due {
		j.wake()
	}
}

// noLinks reports whether an error says that there are no hard links at all.
func noLinks(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EXDEV)
}

// link gives a log of the store its name in the journal. j.adding is held.
func (j *journal) link(number uint64) error {
	to := j.path(logName(number))
	_ = j.fs.Remove(to) // of an opening that did not come to its end
	err := j.fs.Link(j.fs.PathJoin(j.index, logName(number)), to)
	j.mu.Lock()
	if j.linkless = noLinks(err); j.linkless {
		j.mu.Unlock()
		return err // nobody is to wait for it here
	}
	if !slices.Contains(j.begun, number) {
		j.begun = append(j.begun, number)
	}
	if err == nil {
		j.held.add(j, number)
	}
	sizes := j.sizes()
	j.mu.Unlock()
	if err == nil { // which syncs the folder, too
		err = j.writeLogs(begunName, sizes)
	}
	return err
}

func (j *journal) wake() {
	select {
	case j.kick <- struct{}{}:
	default:
	}
}

// size is that of a file in the journal, 0 where it is not there.
func (j *journal) size(name string) int64 {
	info, err := j.fs.Stat(j.path(name))
	if err != nil {
		return 0
	}
	return info.Size()
}

// lacks reports whether there is no saved state. The store is open.
func (j *journal) lacks() (bool, error) {
	names, err := j.fs.List(j.dir())
	if err != nil {
		return false, err
	}
	states := stateNumbers(names)
	if len(states) == 0 {
		return true, nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state, j.since = j.size(stateName(states[0])), 0
	for _, name := range names {
		if number, ok := parseLog(name); ok && number >= states[0] && number != j.newest {
			j.since += j.size(name)
		}
	}
	return false, nil
}

// broken says that the store was opened again after a failure.
func (j *journal) broken() {
	j.mu.Lock()
	j.gap = true
	j.mu.Unlock()
	j.wake()
}

func (j *journal) isBroken() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.gap
}

// closed notes how long the logs are, after the store was closed in order: an end
// that is missing later shows.
func (j *journal) closed() error {
	j.mu.Lock()
	sizes := j.sizes()
	j.mu.Unlock()
	return j.writeLogs(closedName, sizes)
}

// sizes returns the logs that were begun. j.mu is held.
func (j *journal) sizes() (list []logSize) {
	for _, number := range j.begun {
		list = append(list, logSize{number, j.size(logName(number))})
	}
	return list
}

// SaveState saves a state of the store in the journal, and lets go of what is
// older than the state before. The store does it by itself whenever enough was
// written since. Without a journal it does nothing.
func (kv *KV) SaveState(ctx context.Context) error {
	const op = "index save state"
	if kv.journal == nil {
		return ctx.Err()
	}
	kv.journal.saving.Lock()
	defer kv.journal.saving.Unlock()
	acct, in, err := kv.enter(op, 0)
	if err != nil {
		return err
	}
	defer kv.leave(0, acct)
	if err := kv.journal.save(ctx, in); err != nil {
		return imap.E(op, imap.Unavailable, err)
	}
	return nil
}

// save writes a state. Everything in it is durable in the store before it
// counts: a crash must not leave a state that the store has never had.
func (j *journal) save(ctx context.Context, in *instance) error {
	rotten, err := j.complete()
	if err != nil {
		return err
	}
	j.mu.Lock()
	from, size := j.newest, j.size(logName(j.newest))
	j.mu.Unlock()
	m, err := takeMoment(in.db) // which has all that is in older logs
	if err != nil {
		return err
	}
	defer m.snapshot.Close()
	if err := in.writeMark(); err != nil {
		return err
	}
	if err := in.failure(); err != nil {
		return err
	}
	written, err := writeState(ctx, j, from, m)
	if err != nil {
		return err
	}
	j.mu.Lock()
	j.gap = false
	if rotten {
		j.rotten = false
	}
	j.state, j.since = written, -size // of what is in newest, a part is in the state
	for number := from; number < j.newest; number++ {
		j.since += j.size(logName(number))
	}
	j.mu.Unlock()
	if rotten {
		return j.prune(1)
	}
	return j.prune(2)
}

// prune removes what so many saved states make needless, and older epochs.
func (j *journal) prune(keep int) error {
	names, err := j.fs.List(j.dir())
	if err != nil {
		return err
	}
	states := stateNumbers(names)
	if len(states) > keep {
		states = states[:keep]
	}
	oldest := states[len(states)-1]
	j.mu.Lock()
	j.begun = slices.DeleteFunc(j.begun, func(n uint64) bool { return n < oldest })
	maps.DeleteFunc(j.held, func(n uint64, _ vfs.FileInfo) bool { return n < oldest })
	j.mu.Unlock()
	var errs []error
	for _, name := range names {
		number, isLog := parseLog(name)
		state, isState := parseState(name)
		if isLog && number < oldest || isState && state < oldest {
			errs = append(errs, j.fs.Remove(j.path(name)))
		}
	}
	epochs, err := listEpochs(j.fs, j.root)
	errs = append(errs, err)
	for _, e := range epochs {
		if e < j.epoch {
			errs = append(errs, j.fs.RemoveAll(j.fs.PathJoin(j.root, e)))
		}
	}
	return errors.Join(errs...)
}

func readText(disk vfs.FS, path string) (string, error) {
	f, err := disk.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	p, err := io.ReadAll(io.LimitReader(f, 1<<20))
	return strings.TrimSpace(string(p)), err
}

package pebblekv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/durable"
)

// A journal is needed when the index is lost, and then it is too late to notice that
// the journal is damaged, too. So it is verified at each start, and looked at now and
// then by Look; what is wrong with it is mended by a new state, since the index is
// whole.

// journalRetry is how long a state that could not be saved waits for the next try.
const journalRetry = 10 * time.Second

// verifyDelay is when after the start a journal is verified: first come the clients
// that have waited for the server.
const verifyDelay = 2 * time.Second

// keepJournal looks after the journal until quit ends.
func (kv *KV) keepJournal(quit context.Context) {
	started := time.NewTimer(verifyDelay)
	defer started.Stop()
	var again <-chan time.Time
	for {
		select {
		case <-quit.Done():
			return
		case <-started.C:
			kv.verifyAtStart(quit)
			continue
		case <-again:
			if again = nil; !kv.journal.isBroken() {
				continue // another one has saved it
			}
		case <-kv.journal.kick:
		}
		if err := kv.SaveState(quit); err != nil && quit.Err() == nil {
			kv.opts.Logger.Warn("a state of the index cannot be saved in the journal; it is tried again later", "dir", kv.opts.Journal, "err", err)
			again = time.After(journalRetry)
		}
	}
}

// verifyAtStart has a new state saved where the journal is damaged.
func (kv *KV) verifyAtStart(ctx context.Context) {
	problems, next, err := kv.verifyTwice(ctx)
	if err != nil || len(problems) == 0 {
		return // who reads it when it is needed says why
	}
	behind, err := kv.IsBehind(next)
	switch {
	case err != nil:
	case behind:
		// It may be all there is of the last changes.
		kv.journal.isAhead()
		kv.opts.Logger.Error("the journal of the index is damaged, and has changes that the index has not: stop the server and run `rookery check --repair`", "dir", kv.opts.Journal, "problems", problems)
	default:
		kv.opts.Logger.Warn("the journal of the index is damaged; a new state of the index is saved in it, and nothing is lost", "dir", kv.opts.Journal, "problems", problems)
		kv.journal.rots()
	}
}

// IsBehind reports whether the store lacks commits that came before the one with a
// number, which a journal gives: see [JournalReport].
func (kv *KV) IsBehind(next uint64) (bool, error) {
	acct, in, err := kv.enter("index journal", 0)
	if err != nil {
		return false, err
	}
	defer kv.leave(0, acct)
	now, err := mark(in.db)
	return now < next, err
}

// refuseBehind is an error where the newest state that was saved has what the store
// has not: a store that was set back as a whole.
func (kv *KV) refuseBehind(in *instance) error {
	if kv.journal == nil {
		return nil
	}
	next, err := kv.journal.stateNext()
	if err != nil || next == 0 {
		return nil // the journal is verified later
	}
	now, err := mark(in.db)
	if err != nil || now >= next {
		return err
	}
	return imap.E("index open", imap.Corruption, fmt.Errorf("%s: the last changes are missing that the journal has saved", kv.dir))
}

// rots notes that files of the journal are damaged or gone.
func (j *journal) rots() {
	j.mu.Lock()
	j.rotten, j.gap = true, true
	j.mu.Unlock()
	j.wake()
}

// looks reports whether files of the journal are gone, so that a new state is needed.
func (j *journal) looks() bool {
	j.saving.Lock() // nothing goes meanwhile
	defer j.saving.Unlock()
	j.mu.Lock()
	held := maps.Clone(j.held) // others may come meanwhile
	j.mu.Unlock()
	names, err := j.fs.List(j.dir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false // the disk fails: others say so
	}
	whole := len(stateNumbers(names)) > 0
	for number, info := range held {
		name := logName(number)
		whole = whole && slices.Contains(names, name) && j.isNamed(name, info)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if whole || j.ahead || j.gap && !j.rotten {
		return false // or a state will be saved anyhow
	}
	j.rotten, j.gap = true, true
	return true
}

// isAhead notes that the journal has what the store has not.
func (j *journal) isAhead() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ahead = true
}

// heldLogs are the logs of a journal, by their numbers, with what tells them from
// other files; nil where nothing does.
type heldLogs map[uint64]vfs.FileInfo

// add adds a log that has its name in the journal. j.mu is held.
func (h *heldLogs) add(j *journal, number uint64) {
	if *h == nil {
		*h = make(heldLogs)
	}
	info, err := j.fs.Stat(j.path(logName(number)))
	if err != nil {
		info = nil
	}
	(*h)[number] = info
}

// holds finds the logs of a journal that is opened.
func (j *journal) holds() error {
	names, err := j.fs.List(j.dir())
	if err != nil {
		return err
	}
	for _, name := range names {
		if number, ok := parseLog(name); ok {
			j.held.add(j, number)
		}
	}
	return nil
}

// isNamed reports whether a log of the journal is the file that it was.
func (j *journal) isNamed(name string, info vfs.FileInfo) bool {
	if info == nil {
		return true
	}
	now, err := j.fs.Stat(j.path(name))
	return err != nil || durable.Same(now, info)
}

// RenewJournal saves a state of the store that alone counts in its journal: nothing
// older is kept.
func (kv *KV) RenewJournal(ctx context.Context) error {
	if kv.journal != nil {
		kv.journal.rots()
	}
	return kv.SaveState(ctx)
}

// complete makes the journal ready for a new state: what comes behind that is in
// the newest log. j.saving is held.
func (j *journal) complete() (rotten bool, err error) {
	j.adding.Lock()
	defer j.adding.Unlock()
	j.mu.Lock()
	rotten = j.rotten
	newest := j.newest
	j.mu.Unlock()
	if _, err := j.fs.Stat(j.path(logName(newest))); err == nil && !rotten {
		return false, nil
	}
	if err := j.fs.MkdirAll(j.dir(), 0o700); err != nil {
		return rotten, err
	}
	for _, dir := range []string{j.root, j.fs.PathDir(j.root)} {
		if err := durable.SyncDir(j.fs, dir); err != nil {
			return rotten, err
		}
	}
	if err := j.link(newest); err != nil && !noLinks(err) {
		return rotten, err
	}
	return rotten, nil
}

// VerifyJournal compares all that the journal has with its checksums, and returns
// what is wrong with it. It may run beside anything, and changes nothing.
func (kv *KV) VerifyJournal(ctx context.Context) ([]string, error) {
	if kv.journal == nil {
		return nil, ctx.Err()
	}
	problems, _, err := kv.verifyTwice(ctx)
	if err != nil {
		return nil, imap.E("index verify journal", imap.Unavailable, fmt.Errorf("%s: %w", kv.opts.Journal, err))
	}
	return problems, nil
}

// verifyTwice reads the journal again where something seems to be wrong: what was
// being written, or was replaced, is another then. next is the number of the commit
// that would be next in the journal.
func (kv *KV) verifyTwice(ctx context.Context) (problems []string, next uint64, err error) {
	for i := range 2 {
		j := kv.journal
		p := newReplay(j.fs, j.root, j.epoch, j.index, nil, nil)
		p.all = true
		if err := p.run(ctx); err != nil {
			return nil, 0, err
		}
		found := p.report.Problems
		if i > 0 {
			found = slices.DeleteFunc(found, func(text string) bool { return !slices.Contains(problems, text) })
		}
		if problems, next = found, p.next; len(problems) == 0 {
			break
		}
	}
	return problems, next, nil
}

package pebblekv

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/durable"
)

// Missing is a file that was gone from its folder, or was another one, when Look came.
type Missing struct {
	File  string // its path; the folder, of a journal
	Saved bool   // all that it had is where it is needed
	Err   error  // why not; nil where it was saved
}

// ErrCannotSave is the error of files, of the database itself, that cannot be written
// again while it is open. Its journal has what was in them, unless that is missing, too.
var ErrCannotSave = errors.New("the database cannot write it again, nor be opened again without it")

// Look looks for files of the database and of its journal that are gone from their
// folders. A log is not needed any more once what is in it has been written to tables,
// which it has done; and a journal gets a new state. Other files cannot be made again
// while the database is open: they are returned by each call. The caller calls it
// every few seconds; without all it costs two stats where nothing has changed in the
// folders. It may run beside anything. The error is for what keeps it from looking.
func (kv *KV) Look(ctx context.Context, all bool) (list []Missing, err error) {
	const op = "index look"
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	acct, in, err := kv.enter(op, 0)
	if err != nil {
		return nil, err
	}
	defer kv.leave(0, acct)
	kv.looking.Lock()
	defer kv.looking.Unlock()
	j := kv.journal
	changed := kv.seen.Changed(kv.opts.FS, kv.dir)
	if j != nil {
		changed = kv.seenJournal.Changed(kv.opts.FS, j.dir()) || changed
	}
	if !changed && !all && !kv.unsaved {
		return nil, nil
	}
	var lacks bool
	if j != nil {
		lacks = j.looks()
	}
	names, err := in.disk.missing()
	if err != nil {
		return nil, imap.E(op, imap.Unavailable, err)
	}
	list = kv.lookAtIndex(ctx, in, names)
	if j != nil {
		list = append(list, kv.lookAtJournal(ctx, lacks)...)
	}
	list = append(list, kv.lookAtOpening()...)
	kv.unsaved = slices.ContainsFunc(list, func(m Missing) bool { return !m.Saved })
	return list, nil
}

// lookAtIndex does what can be done about files of the index that are gone.
func (kv *KV) lookAtIndex(ctx context.Context, in *instance, names []string) (list []Missing) {
	if len(names) == 0 {
		return nil
	}
	// The database goes on in a folder of that name, where it is gone.
	flushed := kv.opts.FS.MkdirAll(kv.dir, 0o700)
	if flushed == nil {
		flushed = durable.SyncDir(kv.opts.FS, kv.opts.FS.PathDir(kv.dir))
	}
	if flushed == nil && slices.ContainsFunc(names, func(name string) bool { _, isLog := parseLog(name); return isLog }) {
		flushed = kv.Settle(ctx) // which begins another log
	}
	for _, name := range names {
		m := Missing{File: kv.opts.FS.PathJoin(kv.dir, name), Err: ErrCannotSave}
		if _, isLog := parseLog(name); isLog {
			if m.Err = flushed; m.Err == nil {
				in.disk.own.drop(name)
			}
		}
		m.Saved = m.Err == nil
		list = append(list, m)
	}
	return list
}

// lookAtJournal saves a new state where files of the journal are gone.
func (kv *KV) lookAtJournal(ctx context.Context, lacks bool) (list []Missing) {
	j := kv.journal
	name := j.fs.PathJoin(kv.dir, epochName)
	if epoch, err := readText(j.fs, name); epoch != j.epoch && (err == nil || errors.Is(err, fs.ErrNotExist)) {
		err := j.writeEpoch()
		list = append(list, Missing{File: name, Saved: err == nil, Err: err})
	}
	if lacks {
		err := kv.SaveState(ctx)
		list = append(list, Missing{File: j.dir(), Saved: err == nil, Err: err})
	}
	return list
}

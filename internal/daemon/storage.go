package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/datadir"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
	"github.com/rookery-mail/rookery/mailstore/reserve"
)

// storage is an open data folder: the lock, the two engines and the store over
// them.
type storage struct {
	dir   *datadir.Dir
	kv    *pebblekv.KV
	blobs *bloblog.Store
	store *mailstore.Store
	guard *reserve.Guard
	watch *watch // nil where nobody uses the folder
	// warming is nil where no server has the folder.
	warming *warming
	// marked says that the folder has relaxedMark, to be removed in the end.
	marked bool
	// looking says that the folder was opened to be looked at, and nobody uses it. Then
	// over is the file system of what is read: the logs of the index in it have what a
	// crash has left of them beside the messages.
	looking bool
	over    vfs.FS
	// broken says why there is no index and no store, in a folder that was
	// opened only to be looked at.
	broken error
	// lost says, of such a folder, what the logs of its index have lost of what was
	// committed: a server would not start on it. short says that a check has found that
	// the index has lost anything at its end.
	lost  []string
	short bool
}

// Names in a data folder.
const (
	indexDir    = "index"
	journalDir  = "journal"
	messagesDir = "messages"
	ballastName = "BALLAST" // see reserve.Options
)

// hasMail reports whether a folder has been in use, so that its index must be
// there: what is gone must not be taken for a new store.
func hasMail(dir *datadir.Dir) (bool, error) {
	there, err := pebblekv.HasJournal(dir.FS(), dir.Join(journalDir))
	if err != nil || there {
		return there, err
	}
	if _, err := dir.FS().Stat(dir.Join(repairDir, repairedMark)); err == nil {
		return true, nil
	}
	return hasSegments(dir)
}

// openStorage opens a data folder, which is made where it is missing.
func openStorage(ctx context.Context, path string, log *slog.Logger) (*storage, error) {
	return openTuned(ctx, path, tuning{log: log})
}

func openTuned(ctx context.Context, path string, t tuning) (*storage, error) {
	open := openDir
	if t.serving {
		open = openDirToServe(ctx, t.log)
	}
	dir, err := open(t.fs, path)
	if err != nil {
		return nil, err
	}
	s, err := openIn(ctx, dir, t)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return s, nil
}

// openIn opens the store in a folder that is locked already. Where it fails the
// folder stays locked.
func openIn(ctx context.Context, dir *datadir.Dir, t tuning) (_ *storage, err error) {
	s := &storage{dir: dir}
	s.guard = reserve.New(reserve.Options{
		FS: dir.FS(), Path: dir.Join(), Bytes: t.reserve, Ballast: dir.Join(ballastName), Logger: t.log,
		Pressed: s.press,
	})
	if t.serving {
		s.guard.DropBallast()
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("cannot open the store in %s: %w", dir.Join(), err), s.closeEngines())
		}
	}()
	unclean, err := s.unclean()
	if err != nil {
		return nil, err
	}
	if err := refuseWithoutMessages(ctx, dir); err != nil {
		return nil, err
	}
	blobs, err := bloblog.Open(dir.Join(messagesDir), bloblog.Options{
		FS: dir.FS(), Logger: t.log, OpenFiles: t.files.messages, Compress: t.compress,
		SegmentBytes: segmentBytes(dir, maxFileSize()),
	})
	if err != nil {
		return nil, err
	}
	s.blobs = blobs
	if err := dropRepair(dir); err != nil {
		return nil, err
	}
	existing, err := hasMail(dir)
	if err != nil {
		return nil, err
	}
	s.kv, err = pebblekv.Open(dir.Join(indexDir), pebblekv.Options{
		FS: dir.FS(), Logger: t.log, Relaxed: t.relaxed, Blobs: blobs, MaxOpenFiles: t.files.index,
		Journal: dir.Join(journalDir), Derived: mailstore.DerivedRange, Existing: existing,
		FileBytes: maxFileSize(),
	})
	if err != nil {
		return nil, indexTrouble(dir, existing, err)
	}
	s.store, err = mailstore.Open(ctx, s.guard.KV(s.kv), s.guard.Blobs(s.kv.Blobs()), mailstore.Options{Logger: t.log, Holds: blobs.Holds, Settle: s.kv.Sync,
		Rested: freeMemory()})
	if err != nil {
		return nil, indexTrouble(dir, existing, err)
	}
	if err = s.settle(ctx, t, unclean); err != nil {
		return nil, errors.Join(err, s.store.Close(ctx))
	}
	s.watch = startWatch(s, t.log)
	if t.serving {
		s.warming = startWarming(s, t.log)
	}
	return s, nil
}

// press has space taken back eagerly where the disk has little room. Nobody asks the
// guard before the messages are open.
func (s *storage) press(bytes int64) {
	if s.blobs != nil {
		s.blobs.Press(bytes)
	}
}

// settleTime is how long closing may take longer than it must.
const settleTime = 5 * time.Second

// Close brings everything to disk and lets go of the folder.
func (s *storage) Close() error { return errors.Join(s.closeStore(), s.dir.Close()) }

// closeStore is Close, but the folder stays locked.
func (s *storage) closeStore() error {
	var err error
	if s.store != nil {
		if s.warming != nil {
			s.warming.end()
			s.noteRecent()
		}
		err = s.store.Close(context.Background())
		if s.watch != nil {
			s.watch.end()
		}
		ctx, cancel := context.WithTimeout(context.Background(), settleTime)
		defer cancel()
		_ = s.kv.Settle(ctx) // for the sake of checks only
	}
	err = errors.Join(err, s.closeEngines())
	if err == nil && s.marked {
		err = s.mark(false)
	}
	return err
}

// closeEngines closes the index first: a relaxed one still needs the messages.
func (s *storage) closeEngines() error {
	var errs []error
	if s.kv != nil {
		errs = append(errs, s.kv.Close())
	}
	if s.blobs != nil {
		errs = append(errs, s.blobs.Close())
	}
	return errors.Join(errs...)
}

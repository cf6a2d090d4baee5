package daemon

import (
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/datadir"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// openToMend is openDir for a repair: a file FORMAT that is gone, or says nothing, is
// written anew where the rest of the folder says what it was.
func openToMend(ctx context.Context, disk vfs.FS, path string) (dir *datadir.Dir, mended bool, err error) {
	dir, mended, err = datadir.OpenToMend(disk, path, func(dir *datadir.Dir) error { return judgeFormat(ctx, dir) })
	if err != nil {
		err = dirError(path, err)
	}
	return dir, mended, err
}

// judgeFormat returns nil where index or journal say that a folder is of this release's
// format, or of one that differs in nothing that is in it already: there is no other one so
// far, so the format of the index tells.
func judgeFormat(ctx context.Context, dir *datadir.Dir) error {
	used, err := pebblekv.HasJournal(dir.FS(), dir.Join(journalDir))
	if err != nil {
		return err
	}
	if !used {
		return told(imap.ContactAdmin, "%s has no file FORMAT, and nothing that shows that it was ever in use: it may be a backup or a restore that was interrupted; make that again, in another folder", dir.Join())
	}
	s, err := look(ctx, dir)
	if err != nil {
		return err
	}
	known := s.store != nil && s.broken == nil && len(s.lost) == 0
	if err := s.closeLook(); err != nil {
		return err
	}
	if known {
		return nil
	}
	var w mailstore.JournalWitness
	if _, err := pebblekv.ReadJournal(ctx, dir.FS(), dir.Join(journalDir), dir.Join(indexDir), mailstore.DerivedRange, &w); err != nil {
		return err
	}
	if err := w.CheckFormat(); err != nil {
		return errors.Join(told(imap.ContactAdmin, "the file FORMAT of %s is gone, and neither index nor journal say what format the store has: copy FORMAT from a backup of it", dir.Join()), err)
	}
	return nil
}

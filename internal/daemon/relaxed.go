package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/rookery-mail/rookery/internal/durable"
)

// relaxedMark is a file that is in the data folder while a relaxed server has
// it. One that is found at a start says that the last server did not end in
// order: UIDs that it gave out in its last moment may be given out again.
const relaxedMark = "RELAXED"

const relaxedText = "A server with --durability relaxed has this folder, or has not ended in order.\n"

// unclean reports whether a relaxed server did not end in order.
func (s *storage) unclean() (bool, error) {
	_, err := s.dir.FS().Stat(s.dir.Join(relaxedMark))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// settle tells clients, by a new UIDVALIDITY for every mailbox, of what a
// relaxed server may have lost, and leaves the mark as t wants it. Nobody uses
// the store yet.
func (s *storage) settle(ctx context.Context, t tuning, unclean bool) error {
	if unclean {
		t.log.Warn("the last server ran with --durability relaxed and did not end in order: what it acknowledged in its last second may be lost, and mail programs have to fetch anew", "data", s.dir.Join())
		if err := s.store.MarkRestored(ctx); err != nil {
			return err
		}
		if err := s.kv.Sync(ctx); err != nil {
			return err
		}
	}
	s.marked = t.relaxed > 0
	if s.marked == unclean {
		return nil
	}
	return s.mark(s.marked)
}

// mark makes or removes the mark, durably.
func (s *storage) mark(on bool) error {
	disk, path := s.dir.FS(), s.dir.Join(relaxedMark)
	var err error
	if on {
		err = durable.WriteFile(disk, path, relaxedText, "rookery-datadir")
	} else if err = disk.Remove(path); err == nil {
		err = durable.SyncDir(disk, s.dir.Join())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

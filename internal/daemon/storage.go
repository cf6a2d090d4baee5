package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/datadir"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// storage is an open data folder: the lock, the two engines and the store over
// them.
type storage struct {
	dir   *datadir.Dir
	kv    *pebblekv.KV
	blobs *bloblog.Store
	store *mailstore.Store
}

// openStorage opens a data folder, which is made where it is missing.
func openStorage(ctx context.Context, path string, log *slog.Logger) (*storage, error) {
	dir, err := datadir.Open(nil, path)
	if err != nil {
		return nil, err
	}
	s, err := openIn(ctx, dir, log)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return s, nil
}

// openIn opens the store in a folder that is locked already. Where it fails the
// folder stays locked.
func openIn(ctx context.Context, dir *datadir.Dir, log *slog.Logger) (s *storage, err error) {
	s = &storage{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("cannot open the store in %s: %w", dir.Join(), err), s.closeEngines())
		}
	}()
	if s.kv, err = pebblekv.Open(dir.Join("index"), pebblekv.Options{FS: dir.FS(), Logger: log}); err != nil {
		return nil, err
	}
	if s.blobs, err = bloblog.Open(dir.Join("messages"), bloblog.Options{FS: dir.FS(), Logger: log}); err != nil {
		return nil, err
	}
	if s.store, err = mailstore.Open(ctx, s.kv, s.blobs, mailstore.Options{Logger: log}); err != nil {
		return nil, err
	}
	return s, nil
}

// Close brings everything to disk and lets go of the folder.
func (s *storage) Close() error {
	err := s.store.Close(context.Background())
	return errors.Join(err, s.closeEngines(), s.dir.Close())
}

func (s *storage) closeEngines() error {
	var errs []error
	if s.blobs != nil {
		errs = append(errs, s.blobs.Close())
	}
	if s.kv != nil {
		errs = append(errs, s.kv.Close())
	}
	return errors.Join(errs...)
}

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/internal/overlayfs"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/datadir"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// ConnectToCheck is Connect for a Check alone: where no server has the folder,
// it is opened in such a way that nothing in it changes, and also where its
// index cannot be opened. The caller closes the service.
func ConnectToCheck(ctx context.Context, dataDir, version string) (admin.Service, error) {
	if err := mustExist(dataDir); err != nil {
		return nil, err
	}
	return connect(ctx, dataDir, version, func() (*storage, error) { return openToLook(ctx, dataDir) })
}

// openToLook opens a data folder through an overlay: the store recovers as it
// would at its next start, but in memory.
func openToLook(ctx context.Context, path string) (_ *storage, err error) {
	if _, err := os.Stat(filepath.Join(path, "FORMAT")); errors.Is(err, fs.ErrNotExist) {
		if err := datadir.NoFormat(vfs.Default, path); err != nil {
			return nil, plain(err)
		}
		return nil, fmt.Errorf("%s is not a rookery store: it has no file FORMAT", path)
	}
	dir, err := openDir(nil, path)
	if imap.KindOf(err) == imap.NoPermission {
		// Nobody writes to what cannot be written to, so no lock is needed.
		dir, err = openDir(overlayfs.New(vfs.Default), path)
	}
	if err != nil {
		return nil, err
	}
	s, err := look(ctx, dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open the store in %s: %w", path, err), dir.Close())
	}
	return s, nil
}

// look opens the engines and the store of a folder for looking. Where it fails
// the folder stays locked.
func look(ctx context.Context, dir *datadir.Dir) (_ *storage, err error) {
	s := &storage{dir: dir, looking: true, over: overlayfs.New(dir.FS())}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.closeEngines())
		}
	}()
	log := slog.New(slog.DiscardHandler)
	s.blobs, err = bloblog.Open(dir.Join(messagesDir), bloblog.Options{FS: s.over, Logger: log, Manual: true})
	if err != nil {
		return nil, err
	}
	existing, err := hasMail(dir)
	if err != nil {
		return nil, err
	}
	if err := pebblekv.LayIn(ctx, s.over, dir.Join(indexDir), dir.Join(journalDir), s.blobs); err != nil {
		return nil, err
	}
	if s.lost, err = pebblekv.LostLogs(s.over, dir.Join(indexDir), dir.Join(journalDir)); err != nil {
		return nil, err
	}
	s.kv, err = pebblekv.Open(dir.Join(indexDir), pebblekv.Options{FS: s.over, Logger: log, Still: true, Existing: existing})
	if err != nil {
		s.kv, s.broken = nil, err
		return s, nil
	}
	s.store, err = mailstore.Open(ctx, s.kv, s.blobs, mailstore.Options{Logger: log, AsItIs: true, Holds: s.blobs.Holds})
	if imap.KindOf(err) == imap.Corruption {
		s.broken, err = err, nil
	}
	return s, err
}

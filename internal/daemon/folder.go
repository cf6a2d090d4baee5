package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/datadir"
)

// openDir is datadir.Open with errors for the person at the keyboard: without
// what the IMAP server would tell a client of them.
func openDir(fs vfs.FS, path string) (*datadir.Dir, error) {
	dir, err := datadir.Open(fs, path)
	if err != nil {
		return nil, dirError(path, err)
	}
	return dir, nil
}

// formats are what leads from older formats of data folders to this release's.
// docs/design/031-formats.md says how a step is added.
func formats(log *slog.Logger) datadir.Formats {
	return datadir.Formats{Logger: log, Steps: []datadir.Step{
		{From: 2, Does: "the index's log may ride with the messages from now on", Run: asItIs},
	}}
}

// asItIs is a step that changes nothing but the number: the new format has more in it
// than the old one, which programs that know only that must not overlook.
func asItIs(context.Context, *datadir.Dir) error { return nil }

// openDirToServe is openDir, but brings a folder of an older format up to date.
func openDirToServe(ctx context.Context, log *slog.Logger) func(vfs.FS, string) (*datadir.Dir, error) {
	return func(fs vfs.FS, path string) (*datadir.Dir, error) {
		dir, err := datadir.OpenToUpgrade(ctx, fs, path, formats(log))
		if err != nil {
			return nil, dirError(path, err)
		}
		return dir, nil
	}
}

// dirError is an error of package datadir for the person at the keyboard.
func dirError(path string, err error) error {
	kind := imap.KindOf(err)
	if file := fileInPath(path); file != "" {
		return told(kind, "%s is a file; name a folder", file)
	}
	if system, ok := errors.AsType[*os.PathError](err); ok {
		text := fmt.Sprintf("cannot open the data folder %s: %v", path, system)
		if errors.Is(err, os.ErrPermission) {
			text += "; it must belong to the user who runs this command"
		}
		return &toldError{text, kind, err}
	}
	return plain(err)
}

// plain is an error of datadir as the person at the keyboard is told it.
func plain(err error) error {
	inner, ok := errors.AsType[*imap.Error](err)
	if !ok || inner.Err == nil {
		return err
	}
	return &toldError{inner.Err.Error(), imap.KindOf(err), err}
}

// fileInPath returns the part of a path that is a file where a folder should be,
// or "".
func fileInPath(path string) string {
	for {
		if info, err := os.Stat(path); err == nil {
			if info.IsDir() {
				return ""
			}
			return path
		}
		above := filepath.Dir(path)
		if above == path {
			return ""
		}
		path = above
	}
}

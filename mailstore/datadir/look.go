package datadir

import (
	"errors"
	"fmt"
	"os"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/durable"
)

// Look puts back the files of this package that somebody has removed or changed since
// the folder was opened, and returns the names of those that matter. It is called
// every few seconds, by one goroutine at a time. Where the folder itself is gone, or
// another one is in its place, it does nothing: it may have been moved, and what is
// open is in it still. That is an error of kind ContactAdmin.
func (d *Dir) Look() (mended []string, err error) {
	const op = "data folder look"
	info, err := d.fs.Stat(d.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, wrap(d.path, err)
	}
	if err != nil || d.self != nil && !durable.Same(info, d.self) {
		return nil, imap.E(op, imap.ContactAdmin, fmt.Errorf("%s is gone, or another folder is in its place: what is changed from now on is lost unless the folder comes back under its name; stop the server if it was moved on purpose", d.path))
	}
	text, err := d.read(formatName)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, wrap(d.path, err)
	}
	if err != nil || text != formatText(d.version, 0) {
		if err := d.setFormat(d.version, 0); err != nil {
			return nil, err
		}
		mended = append(mended, formatName)
	}
	again, err := d.lockAgain()
	if again {
		mended = append(mended, lockName)
	}
	if err != nil {
		return mended, wrap(d.path, err)
	}
	if _, err := d.fs.Stat(d.Join(ownerName)); errors.Is(err, os.ErrNotExist) {
		if err := d.writeOwner(); err != nil {
			return mended, wrap(d.path, err)
		}
	}
	return mended, nil
}

// lockAgain locks the file LOCK anew where it is another one, or none. Meanwhile the
// lock of the folder holds.
func (d *Dir) lockAgain() (again bool, err error) {
	info, err := d.fs.Stat(d.Join(lockName))
	if err == nil && (d.locks.info == nil || durable.Same(info, d.locks.info)) {
		return false, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	if d.locks.file != nil {
		_ = d.locks.file.Close() // of a file without a name
		d.locks.file = nil
	}
	if d.locks.file, err = d.fs.Lock(d.Join(lockName)); err != nil {
		return false, fmt.Errorf("the file %s is gone and cannot be locked again: %w", lockName, err)
	}
	d.locks.info, err = d.fs.Stat(d.Join(lockName))
	return true, err
}

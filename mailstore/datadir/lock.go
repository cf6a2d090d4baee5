package datadir

import (
	"errors"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Two locks make sure that one process has the folder. The one on the file LOCK
// works wherever file systems lock at all, but is gone for others when somebody
// removes that file: they would lock a new one. So the folder itself is locked as
// well, where that is possible. Both end with the process, so a crash leaves
// nothing behind that must be cleared away.
type locks struct {
	file   io.Closer    // nil where it could not be locked again
	info   vfs.FileInfo // of file, to tell it from another; nil where not known
	folder vfs.File     // nil where the folder cannot be locked
}

// takeLocks takes both or none. A folder that another one has is no *os.PathError.
func (d *Dir) takeLocks() error {
	file, err := d.fs.Lock(d.Join(lockName))
	if err != nil {
		return err
	}
	folder, err := d.lockFolder()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	d.locks = locks{file: file, folder: folder}
	if info, err := d.fs.Stat(d.Join(lockName)); err == nil {
		d.locks.info = info
	}
	return nil
}

func (d *Dir) lockFolder() (vfs.File, error) {
	dir, err := d.fs.OpenDir(d.path)
	if err != nil {
		return nil, err
	}
	held, err := lockOpen(dir.Fd())
	if !held || err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

func (l locks) close() error {
	var err error
	if l.folder != nil {
		err = l.folder.Close()
	}
	if l.file != nil {
		err = errors.Join(err, l.file.Close())
	}
	return err
}

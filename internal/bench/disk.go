package bench

import (
	"errors"
	"io/fs"
	"path/filepath"
)

// onDisk is the workload disk. It is measured while the main mailbox is all that
// has been put in.
func onDisk() *workload {
	return &workload{name: "disk", what: "disk space of a message whose envelope and header have been read, indexes and all", unit: Kilobytes,
		needs: needData, once: true, plain: true,
		before: func(e *env) error {
			if e.empty < 0 {
				return errors.New("the mailbox was there before, so what it has added to the folder is not known")
			}
			if err := openMain(e); err != nil {
				return err
			}
			for _, command := range [...]string{envelopes, thunderbird} {
				if err := e.c.expect(command, e.cfg.Messages); err != nil {
					return err
				}
			}
			_, err := e.atRest(e.ctx)
			return err
		},
		run: func(e *env) (Sample, error) {
			full, err := folderSize(e.Data)
			size := full - e.empty
			return Sample{Ops: int64(e.cfg.Messages), Bytes: size, Figure: float64(size) / 1000 / float64(e.cfg.Messages)}, err
		}}
}

// folderSize returns how many bytes of the disk a folder takes; a file with
// several names counts once.
func folderSize(path string) (size int64, err error) {
	seen := make(map[any]bool)
	err = filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = entry.Info()
		}
		switch {
		case errors.Is(err, fs.ErrNotExist) && name != path:
			return nil // it is gone meanwhile
		case err != nil:
			return err
		}
		n, id := allocated(info)
		if !seen[id] {
			size += n
		}
		if id != nil {
			seen[id] = true
		}
		return nil
	})
	return size, err
}

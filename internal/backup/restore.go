package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Restore copies a backup into the folder to, which must be empty or not there,
// and compares every file with its checksum on the way. When all is there but
// the file that makes a store of the folder, finish is called; until it has
// returned no server takes the folder, whatever happens. Where Restore fails,
// what has been written is removed. done is told how many bytes are copied; it
// and finish may be nil.
func Restore(ctx context.Context, from string, m *Manifest, to string, done func(n int64), finish func() error) error {
	if err := apart(from, to); err != nil {
		return err
	}
	made, err := makeEmpty(to)
	if err != nil {
		return err
	}
	err = restore(ctx, from, m, to, done)
	if err == nil && finish != nil {
		err = finish()
	}
	if err == nil {
		err = writeFormat(to, m.Format)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s is not restored: %w", to, err), empty(to, made))
	}
	return nil
}

func restore(ctx context.Context, from string, m *Manifest, to string, done func(n int64)) error {
	dirs := make(map[string]bool)
	for _, f := range m.Files {
		target := filepath.Join(to, filepath.FromSlash(f.Path))
		if dir := filepath.Dir(target); !dirs[dir] {
			dirs[dir] = true
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
		}
		if err := restoreFile(ctx, filepath.Join(from, filepath.FromSlash(f.Path)), f, target, done); err != nil {
			return err
		}
	}
	for dir := range dirs {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

func restoreFile(ctx context.Context, source string, f File, target string, done func(n int64)) error {
	r, err := os.Open(source)
	if err != nil {
		return err
	}
	defer r.Close()
	sum, n, err := writeFile(ctx, target, r, done)
	if err != nil {
		return err
	}
	if n != f.Size || sum != f.SHA256 {
		return fmt.Errorf("the backup is damaged: %s does not match its checksum (`rookery backup --verify` tells all that is wrong with it); an earlier backup may help, or restore single accounts with --user", source)
	}
	return nil
}

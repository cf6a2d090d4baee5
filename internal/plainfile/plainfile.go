// Package plainfile opens files in folders that belong to somebody else: what is
// asked for must be a regular file or a folder itself. A symbolic link could lead
// to a file that only the reader may read, a pipe would keep it waiting, and
// opening a device can have effects.
//
// It does not look at owners and permissions, and hard links are files like any.
// Start with [OpenRoot] and [Open].
package plainfile

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// A KindError says that something is not what was asked for.
type KindError struct{ Mode fs.FileMode }

// Error says what it is instead.
func (e *KindError) Error() string {
	switch {
	case e.Mode&fs.ModeSymlink != 0:
		return "it is a symbolic link, and links are not followed"
	case e.Mode.IsDir():
		return "it is a directory"
	case e.Mode&fs.ModeNamedPipe != 0:
		return "it is a named pipe"
	case e.Mode&fs.ModeSocket != 0:
		return "it is a socket"
	case e.Mode&fs.ModeDevice != 0:
		return "it is a device"
	}
	return "it is not a regular file"
}

// Open opens a regular file for reading. Names cannot lead out of root; a link
// to a directory on the way, which callers see with Lstat before, can only lead
// elsewhere in it. Anything but a regular file is a *[KindError], even if it
// takes the file's place while it is being opened.
func Open(root *os.Root, name string) (*os.File, error) {
	if err := mustBe(root, name, fs.FileMode.IsRegular); err != nil {
		return nil, err
	}
	file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := same(root, name, file); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// same makes sure that file is what name itself stands for.
func same(root *os.Root, name string, file *os.File) error {
	opened, err := file.Stat()
	if err != nil {
		return err
	}
	if !opened.Mode().IsRegular() {
		return &KindError{opened.Mode()}
	}
	named, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // renamed after it was opened; nothing is there that led elsewhere
	case err != nil:
		return err
	case named.Mode()&fs.ModeSymlink != 0:
		return &KindError{named.Mode()}
	case !os.SameFile(opened, named):
		return fmt.Errorf("%s changed while it was being opened", name)
	}
	return nil
}

func mustBe(root *os.Root, name string, right func(fs.FileMode) bool) error {
	info, err := root.Lstat(name)
	if err == nil && !right(info.Mode()) {
		err = &KindError{info.Mode()}
	}
	return err
}

// ReadDir lists a directory, sorted by name. A link to one is a *[KindError].
func ReadDir(root *os.Root, name string) ([]fs.DirEntry, error) {
	if err := mustBe(root, name, fs.FileMode.IsDir); err != nil {
		return nil, err
	}
	dir, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return entries, err
}

// OpenRoot opens a directory whose files are to be read. Links above the last
// element of path are followed, a link in its place is a *[LinkError].
func OpenRoot(path string) (*os.Root, error) {
	path = clean(path)
	info, err := notLink(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, &KindError{info.Mode()}
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	opened, err := root.Stat(".")
	if err == nil && !os.SameFile(info, opened) {
		err = fmt.Errorf("%s changed while it was being opened", path)
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

// OpenPath opens the regular file at a path. Links above the last element are
// followed, a link in its place is a *[LinkError].
func OpenPath(path string) (*os.File, error) {
	path = clean(path)
	if _, err := notLink(path); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return Open(root, filepath.Base(path))
}

// A LinkError says that a path that was given is a symbolic link.
type LinkError struct{ Path, Target string }

// Error says what to name instead.
func (e *LinkError) Error() string {
	if e.Target == "" {
		return e.Path + " is a symbolic link that leads nowhere"
	}
	return fmt.Sprintf("%s is a symbolic link, which whoever owns the folder can set: name %s itself", e.Path, e.Target)
}

func notLink(path string) (fs.FileInfo, error) {
	info, err := os.Lstat(path)
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		target, _ := filepath.EvalSymlinks(path)
		return nil, &LinkError{path, target}
	}
	return info, err
}

// clean takes slashes from the end, behind which a link would be followed.
func clean(path string) string {
	if path == "" {
		return ""
	}
	if short := strings.TrimRight(path, string(filepath.Separator)); short != "" {
		return short
	}
	return path
}

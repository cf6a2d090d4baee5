// Package overlayfs is a file system that reads from another one and writes
// into memory: what is under it never changes. A store that is opened through
// it recovers as it would on the disk, and the disk stays as it was; so a check
// of a damaged store, or of a backup, alters nothing.
//
// It is not for many writes: a file that is written to is in memory whole. It
// does what Pebble and package bloblog need. Start with [New].
package overlayfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS is the file system. Its methods are safe for concurrent use.
type FS struct {
	vfs.FS // the one below; it is only read
	mem    *vfs.MemFS

	mu     sync.Mutex
	hidden map[string]bool // removed, or in mem; of the files below
}

// New returns a file system over base.
func New(base vfs.FS) *FS {
	return &FS{FS: base, mem: vfs.NewMem(), hidden: make(map[string]bool)}
}

func notExist(op, name string) error {
	return &os.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

func (o *FS) clean(name string) string { return o.PathDir(o.PathJoin(name, "x")) }

func (o *FS) isHidden(name string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.hidden[o.clean(name)]
}

func (o *FS) hide(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hidden[o.clean(name)] = true
}

func (o *FS) inMem(name string) bool {
	info, err := o.mem.Stat(name)
	return err == nil && !info.IsDir()
}

// Create implements vfs.FS.
func (o *FS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := o.mem.MkdirAll(o.PathDir(name), 0o700); err != nil {
		return nil, err
	}
	o.hide(name)
	return o.mem.Create(name, c)
}

// Link implements vfs.FS.
func (o *FS) Link(oldname, newname string) error {
	if _, err := o.Stat(newname); err == nil {
		return &os.LinkError{Op: "link", Old: oldname, New: newname, Err: fs.ErrExist}
	}
	if err := o.raise(oldname); err != nil {
		return err
	}
	if err := o.mem.MkdirAll(o.PathDir(newname), 0o700); err != nil {
		return err
	}
	return o.mem.Link(oldname, newname)
}

// Open implements vfs.FS.
func (o *FS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if o.inMem(name) {
		return o.mem.Open(name, opts...)
	}
	if o.isHidden(name) {
		return nil, notExist("open", name)
	}
	f, err := o.FS.Open(name, opts...)
	if err != nil {
		return nil, err
	}
	return readOnly{f}, nil
}

// readOnly has no way to write.
type readOnly struct{ vfs.File }

func (readOnly) Write([]byte) (int, error)          { return 0, fs.ErrPermission }
func (readOnly) WriteAt([]byte, int64) (int, error) { return 0, fs.ErrPermission }
func (readOnly) Preallocate(int64, int64) error     { return fs.ErrPermission }
func (readOnly) Sync() error                        { return nil }
func (readOnly) SyncData() error                    { return nil }
func (readOnly) SyncTo(int64) (bool, error)         { return true, nil }

// OpenReadWrite implements vfs.FS. A file of the disk comes into memory when it
// is first written to.
func (o *FS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if o.inMem(name) {
		return o.mem.OpenReadWrite(name, c, opts...)
	}
	if !o.isHidden(name) {
		f, err := o.FS.Open(name, opts...)
		if err == nil {
			return &file{File: readOnly{f}, fs: o, name: name, category: c}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if err := o.mem.MkdirAll(o.PathDir(name), 0o700); err != nil {
		return nil, err
	}
	o.hide(name)
	return o.mem.OpenReadWrite(name, c, opts...)
}

// raise copies a file of the disk into memory.
func (o *FS) raise(name string) error {
	if o.inMem(name) {
		return nil
	}
	src, err := o.Open(name)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := o.Create(name, "overlay")
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

// OpenDir implements vfs.FS.
func (o *FS) OpenDir(name string) (vfs.File, error) {
	if _, err := o.Stat(name); err != nil {
		return nil, err
	}
	if err := o.mem.MkdirAll(name, 0o700); err != nil {
		return nil, err
	}
	return o.mem.OpenDir(name)
}

// Remove implements vfs.FS.
func (o *FS) Remove(name string) error {
	if o.inMem(name) {
		return o.mem.Remove(name)
	}
	if _, err := o.Stat(name); err != nil {
		return err
	}
	o.hide(name)
	return nil
}

// RemoveAll implements vfs.FS.
func (o *FS) RemoveAll(name string) error {
	names, err := o.List(name)
	if err != nil {
		if err := o.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	for _, n := range names {
		if err := o.RemoveAll(o.PathJoin(name, n)); err != nil {
			return err
		}
	}
	o.hide(name)
	return o.mem.RemoveAll(name)
}

// Rename implements vfs.FS.
func (o *FS) Rename(oldname, newname string) error {
	if err := o.raise(oldname); err != nil {
		return err
	}
	if err := o.mem.MkdirAll(o.PathDir(newname), 0o700); err != nil {
		return err
	}
	o.hide(newname)
	return o.mem.Rename(oldname, newname)
}

// ReuseForWrite implements vfs.FS.
func (o *FS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := o.Rename(oldname, newname); err != nil {
		return nil, err
	}
	return o.mem.OpenReadWrite(newname, c)
}

// MkdirAll implements vfs.FS.
func (o *FS) MkdirAll(dir string, perm os.FileMode) error { return o.mem.MkdirAll(dir, perm) }

// Lock implements vfs.FS. It excludes nobody: what is below must be locked
// otherwise.
func (o *FS) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// List implements vfs.FS.
func (o *FS) List(dir string) ([]string, error) {
	above, memErr := o.mem.List(dir)
	below, err := o.FS.List(dir)
	if o.isHidden(dir) {
		below, err = nil, notExist("list", dir)
	}
	if err != nil && memErr != nil {
		return nil, err
	}
	for _, name := range below {
		name = strings.TrimSuffix(name, "/")
		if !o.isHidden(o.PathJoin(dir, name)) && !slices.Contains(above, name) {
			above = append(above, name)
		}
	}
	return above, nil
}

// Stat implements vfs.FS.
func (o *FS) Stat(name string) (vfs.FileInfo, error) {
	if info, err := o.mem.Stat(name); err == nil {
		return info, nil
	}
	if o.isHidden(name) {
		return nil, notExist("stat", name)
	}
	return o.FS.Stat(name)
}

// Unwrap implements vfs.FS: it is not the file system below.
func (o *FS) Unwrap() vfs.FS { return nil }

// file is a file of the disk that was opened for writing.
type file struct {
	vfs.File // replaced by one in memory at the first write
	fs       *FS
	name     string
	category vfs.DiskWriteCategory

	mu     sync.RWMutex
	raised bool
}

func (f *file) raise() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.raised {
		return nil
	}
	if err := f.fs.raise(f.name); err != nil {
		return err
	}
	mem, err := f.fs.mem.OpenReadWrite(f.name, f.category)
	if err != nil {
		return err
	}
	_ = f.File.Close() // was only read
	f.File, f.raised = mem, true
	return nil
}

func (f *file) current() vfs.File {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.File
}

func (f *file) Close() error                            { return f.current().Close() }
func (f *file) Read(p []byte) (int, error)              { return f.current().Read(p) }
func (f *file) ReadAt(p []byte, off int64) (int, error) { return f.current().ReadAt(p, off) }
func (f *file) Stat() (vfs.FileInfo, error)             { return f.current().Stat() }

func (f *file) Write(p []byte) (int, error) {
	if err := f.raise(); err != nil {
		return 0, err
	}
	return f.current().Write(p)
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if err := f.raise(); err != nil {
		return 0, err
	}
	return f.current().WriteAt(p, off)
}

func (f *file) Preallocate(off, length int64) error {
	if err := f.raise(); err != nil {
		return err
	}
	return f.current().Preallocate(off, length)
}

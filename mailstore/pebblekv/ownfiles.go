package pebblekv

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/internal/durable"
)

// ownFiles knows which files the database has in its folder: those that it found and
// made, but for those that it removed. A name is dropped before its file goes, so that
// a name without a file is one that somebody else has removed.
type ownFiles struct {
	mu    sync.Mutex
	names map[string]vfs.FileInfo // of logs, to tell them from others; nil where not known
}

// isOwn reports whether Pebble makes files of such a name, and needs them.
func isOwn(name string) bool {
	return strings.HasPrefix(name, "MANIFEST-") || strings.HasPrefix(name, "OPTIONS-") || strings.HasPrefix(name, "marker.") ||
		strings.HasSuffix(name, ".log") || strings.HasSuffix(name, ".sst")
}

func (o *ownFiles) add(name string, info vfs.FileInfo) {
	if !isOwn(name) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.names == nil {
		o.names = make(map[string]vfs.FileInfo)
	}
	if info != nil || o.names[name] == nil {
		o.names[name] = info
	}
}

func (o *ownFiles) drop(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.names, name)
}

// get returns what is known of a file, and whether the database has it.
func (o *ownFiles) get(name string) (info vfs.FileInfo, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	info, ok = o.names[name]
	return info, ok
}

// list returns all names.
func (o *ownFiles) list() (names []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for name := range o.names {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// owns notes a file that the database has made. g is nil where it need not be told
// from others.
func (f *freezeFS) owns(name string, g vfs.File) {
	if f.PathDir(name) != f.in.dir {
		return // of a checkpoint
	}
	var info vfs.FileInfo
	if g != nil {
		info, _ = g.Stat() // otherwise it is not told from others
	}
	f.own.add(f.PathBase(name), info)
}

// unlink removes a file, which the database has no more then.
func (f *freezeFS) unlink(name string) error {
	base := f.PathBase(name)
	info, known := f.own.get(base)
	if known = known && f.PathDir(name) == f.in.dir; known {
		f.own.drop(base)
	}
	err := f.FS.Remove(name)
	if known && err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.own.add(base, info)
	}
	return err
}

// missing returns the names of files that are gone from the folder, and of logs that
// another file has taken the place of.
func (f *freezeFS) missing() (names []string, err error) {
	there, err := f.FS.List(f.in.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	here := make(map[string]bool, len(there))
	for _, name := range there {
		here[name] = true
	}
	for _, name := range f.own.list() {
		info, ok := f.own.get(name)
		if !ok || here[name] && info == nil {
			continue
		}
		switch at, err := f.FS.Stat(f.PathJoin(f.in.dir, name)); {
		case err == nil && (info == nil || durable.Same(at, info)):
			continue
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
		if _, ok := f.own.get(name); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

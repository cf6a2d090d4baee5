// Package backup copies a data folder that is in use into another folder, which
// then is a data folder itself, and copies such a backup back.
//
// It knows files, and which of them must be copied in which order; the two
// engines say what they have (pebblekv.KV.Checkpoint, bloblog.Store.Hold). What
// is in the files is not its business: package mailstore checks that. Start
// with [Write] and [Restore].
//
// # Why a backup is whole
//
// A message is on disk before the index names it. So the index is copied first,
// while no message changes its place, and then the messages: those that the
// index names are all there. Messages that came later may be there too; the
// store sweeps them when it is opened. The list of deleted messages is left out,
// since it may have some that the index still names.
package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// Names in a data folder.
const (
	indexDir    = "index"
	messagesDir = "messages"
	formatName  = "FORMAT"
)

// besides are files of a data folder that are no part of the store and come
// along all the same: clients know the certificate.
var besides = [...]string{"tls-cert.pem", "tls-key.pem"}

// Source is an open data folder.
type Source struct {
	Dir     string
	Format  int    // of the folder
	Version string // of the program
	KV      *pebblekv.KV
	Blobs   *bloblog.Store
}

// Options say how a backup is written.
type Options struct {
	// Previous is an earlier backup of the same folder. What has not changed
	// since is not copied again where links to it are possible. Empty for none.
	Previous string
	// Trust takes what is linked from or compared with Previous for whole, without
	// reading it. Otherwise it is read, and what is damaged there is not taken.
	Trust bool
	// Copy makes copies of everything, where otherwise files that never change
	// are hard links to those of the store, if both are on one file system.
	Copy bool
	// Progress is told how many bytes are done; it may be nil.
	Progress func(done, total int64)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Result says what a backup has cost.
type Result struct {
	Files  int   `json:"files"`
	Bytes  int64 `json:"bytes"`
	Copied int64 `json:"copied"` // bytes; the rest are links
	// Damaged is how many messages that somebody may need are damaged in the
	// store, and so in the backup.
	Damaged int `json:"damaged,omitempty"`
	// Notes are sentences on what was found damaged, in the store or in Previous,
	// and what became of it.
	Notes []string `json:"notes,omitempty"`
}

// Write makes a backup of src in the folder dest, which must be empty or not
// there. Everything is in it that was acknowledged before the call. Where it
// fails, what has been written is removed. What is damaged in the store is no
// failure: it is copied as it is, and Result tells.
func Write(ctx context.Context, src Source, dest string, opts Options) (*Result, error) {
	w := &writer{src: src, dest: dest, opts: opts}
	if w.opts.Now == nil {
		w.opts.Now = time.Now
	}
	if opts.Previous != "" {
		m, err := Read(opts.Previous)
		if err != nil {
			return nil, fmt.Errorf("the previous backup cannot be used: %w", err)
		}
		w.previous = m.byPath()
	}
	if err := apart(src.Dir, dest); err != nil {
		return nil, err
	}
	made, err := makeEmpty(dest)
	if err != nil {
		return nil, err
	}
	if err := w.run(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("the backup in %s is not finished, and is removed: %w", dest, err), empty(dest, made))
	}
	return &w.result, nil
}

// apart refuses two folders one of which is in the other.
func apart(a, b string) error {
	a, b = resolve(a), resolve(b)
	for _, pair := range [][2]string{{a, b}, {b, a}} {
		rel, err := filepath.Rel(pair[0], pair[1])
		if err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
			return fmt.Errorf("%s is in %s: name a folder outside of it", pair[1], pair[0])
		}
	}
	return nil
}

// resolve resolves links as far as the path exists.
func resolve(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	rest := ""
	for dir := abs; ; dir = filepath.Dir(dir) {
		if p, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(p, rest)
		}
		if dir == filepath.Dir(dir) {
			return abs
		}
		rest = filepath.Join(filepath.Base(dir), rest)
	}
}

// makeEmpty makes a folder, or makes sure that it is empty.
func makeEmpty(dir string) (made bool, err error) {
	names, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, os.MkdirAll(dir, 0o700)
	case err != nil:
		return false, err
	case len(names) > 0:
		return false, fmt.Errorf("%s is not empty (it has %s in it): nothing is overwritten; name a new folder", dir, names[0].Name())
	}
	return false, os.Chmod(dir, 0o700)
}

// empty removes what is in a folder that was empty, and the folder if it was
// made.
func empty(dir string, made bool) error {
	if made {
		return os.RemoveAll(dir)
	}
	names, err := os.ReadDir(dir)
	for _, n := range names {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, n.Name())))
	}
	return err
}

// writer is a backup on its way.
type writer struct {
	src      Source
	dest     string
	opts     Options
	previous map[string]File
	manifest Manifest
	result   Result
	done     int64
	total    int64
}

func (w *writer) run(ctx context.Context) error {
	messages := filepath.Join(w.dest, messagesDir)
	if err := os.Mkdir(messages, 0o700); err != nil {
		return err
	}
	w.manifest = Manifest{Version: manifestVersion, Format: w.src.Format, Program: w.src.Version}
	hold, err := w.src.Blobs.Hold(ctx, func() error {
		w.manifest.Created = w.opts.Now().UTC().Truncate(time.Second)
		return w.src.KV.Checkpoint(ctx, filepath.Join(w.dest, indexDir))
	})
	if err != nil {
		return err
	}
	err = w.segments(ctx, hold)
	hold.Release()
	if err != nil {
		return err
	}
	if err := w.hashLinks(ctx); err != nil {
		return err
	}
	if err := w.index(ctx); err != nil {
		return err
	}
	for _, name := range besides {
		if err := w.copyFile(ctx, filepath.Join(w.src.Dir, name), name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, dir := range []string{indexDir, messagesDir} {
		if err := syncDir(filepath.Join(w.dest, dir)); err != nil {
			return err
		}
	}
	if err := w.manifest.write(w.dest); err != nil {
		return err
	}
	// With its last file it is a store.
	return writeFormat(w.dest, w.src.Format)
}

// hashLinks completes the checksums of segments that were linked.
func (w *writer) hashLinks(ctx context.Context) error {
	for i := range w.manifest.Files {
		f := &w.manifest.Files[i]
		if f.SHA256 != "" {
			continue
		}
		sum, _, err := hashFile(ctx, filepath.Join(w.dest, filepath.FromSlash(f.Path)), nil)
		if err != nil {
			return err
		}
		f.SHA256 = sum
	}
	return nil
}

// index takes the files of the checkpoint into the manifest, and makes copies
// of those that are links where that is wanted.
func (w *writer) index(ctx context.Context) error {
	dir := filepath.Join(w.dest, indexDir)
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(w.dest, path)
		if err != nil {
			return err
		}
		if w.opts.Copy {
			if err := os.Rename(path, path+".link"); err != nil {
				return err
			}
			if err := w.copyFile(ctx, path+".link", filepath.ToSlash(rel)); err != nil {
				return err
			}
			return os.Remove(path + ".link")
		}
		sum, size, err := hashFile(ctx, path, nil)
		if err != nil {
			return err
		}
		w.add(File{Path: filepath.ToSlash(rel), Size: size, SHA256: sum})
		return syncFile(path)
	})
}

// copyFile copies a file to a name in the backup.
func (w *writer) copyFile(ctx context.Context, from, name string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return w.copy(ctx, f, name)
}

// copy writes a file of the backup.
func (w *writer) copy(ctx context.Context, r io.Reader, name string) error {
	sum, n, err := writeFile(ctx, filepath.Join(w.dest, filepath.FromSlash(name)), r, w.progress)
	if err != nil {
		return err
	}
	w.result.Copied += n
	w.add(File{Path: name, Size: n, SHA256: sum})
	return nil
}

func (w *writer) add(f File) {
	w.manifest.Files = append(w.manifest.Files, f)
	w.result.Files++
	w.result.Bytes += f.Size
}

func (w *writer) progress(n int64) {
	w.done += n
	if w.opts.Progress != nil {
		w.opts.Progress(min(w.done, w.total), w.total)
	}
}

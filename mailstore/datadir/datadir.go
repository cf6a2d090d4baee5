// Package datadir opens the folder that holds a store: it makes sure that one
// process has it, says which one does otherwise, and refuses a folder whose
// format this release does not know. What is in the folder is not its business.
//
// Start with [Open].
package datadir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/durable"
)

// Version is the format of the folder that this release writes: the layout of
// files and the meaning of keys, blobs and journals in them. Oldest is the oldest
// one that can be brought up to it. No release has written format 1, and nothing upgrades
// it. In format 3 the end of the index's log may be in files of messages after a crash. What
// leads from older formats to Version is given to [OpenToUpgrade].
const (
	Version = 3
	Oldest  = 2
)

// Names of the files that belong to this package. LOCK is empty (see lock.go); OWNER names
// the process that holds the lock, or the last one that did; FORMAT is the
// first record of the store and says its version.
const (
	lockName   = "LOCK"
	ownerName  = "OWNER"
	formatName = "FORMAT"
)

const category vfs.DiskWriteCategory = "rookery-datadir"

// A Dir is a folder that this process holds. Its methods are safe for
// concurrent use, but for Look; Close is called once, when nobody looks any more.
type Dir struct {
	fs      vfs.FS
	path    string
	version int
	locks   locks
	self    vfs.FileInfo // of the folder, to tell it from another; nil where not known
}

// An InUseError says that another process has the folder. It is found inside
// the *imap.Error of kind InUse that Open returns.
type InUseError struct {
	Path string
	PID  int // 0 when it is not known
}

func (e *InUseError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("the data folder %s is in use by another process: stop it, or use another folder", e.Path)
	}
	return fmt.Sprintf("the data folder %s is in use by process %d: stop it, or use another folder", e.Path, e.PID)
}

// Open takes hold of the folder, which it makes (for its owner only) when it is
// not there. fs nil is the machine's file system. Errors are *imap.Error: kind
// InUse with an [InUseError], kind ContactAdmin for a folder of a newer release,
// of one that is too old, or of another program, kind NoPermission or Unavailable.
//
// A folder of an older format is not opened, and not changed: see [OpenToUpgrade].
func Open(fs vfs.FS, path string) (*Dir, error) { return open(fs, path, opening{}) }

// OpenToMend is Open, but where the file FORMAT of a store is gone, or says nothing,
// judge is asked whether the rest of the folder is of this release's format: if it
// returns nil, FORMAT is written anew, and mended is true. judge must change nothing.
func OpenToMend(fs vfs.FS, path string, judge func(*Dir) error) (d *Dir, mended bool, err error) {
	d, err = open(fs, path, opening{judge: func(d *Dir) error {
		mended = true
		return judge(d)
	}})
	return d, mended && err == nil, err
}

// An opening says what may be done to a folder so that it can be opened.
type opening struct {
	judge   func(*Dir) error // of OpenToMend, or nil
	ctx     context.Context  // of OpenToUpgrade
	formats Formats
	upgrade bool
}

func open(fs vfs.FS, path string, o opening) (*Dir, error) {
	if fs == nil {
		fs = vfs.Default
	}
	if o.formats.Version == 0 {
		o.formats.Version = Version
	}
	d := &Dir{fs: fs, path: path}
	if err := d.make(); err != nil {
		return nil, wrap(path, err)
	}
	if err := d.takeLocks(); err != nil {
		return nil, d.lockError(err)
	}
	if info, err := fs.Stat(path); err == nil {
		d.self = info
	}
	if err := d.writeOwner(); err != nil {
		return nil, errors.Join(wrap(path, err), d.Close())
	}
	if err := d.checkFormat(o); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Join returns the path of a file or folder in the folder.
func (d *Dir) Join(elem ...string) string {
	return d.fs.PathJoin(append([]string{d.path}, elem...)...)
}

// FS is the file system that the folder is on.
func (d *Dir) FS() vfs.FS { return d.fs }

// Format is the version that the store has, from Oldest to Version.
func (d *Dir) Format() int { return d.version }

// formatText is what FORMAT says; from is the older format that a step is under way
// from, 0 where none is.
func formatText(version, from int) string {
	text := fmt.Sprintf("rookery store\nformat %d\n", version)
	if from > 0 {
		text += fmt.Sprintf("from %d\n", from)
	}
	return text
}

// setFormat notes, durably, that the store has the given version now, or is on its
// way there.
func (d *Dir) setFormat(version, from int) error {
	err := durable.WriteFile(d.fs, d.Join(formatName), formatText(version, from), category)
	if err == nil {
		// An earlier start may have made the folder and not come to sync it.
		err = durable.SyncDir(d.fs, d.fs.PathDir(d.path))
	}
	if err != nil {
		return wrap(d.path, err)
	}
	d.version = version
	return nil
}

// readFormat reads what setFormat has written.
func (d *Dir) readFormat(text string) (from int, ok bool) {
	_, _ = fmt.Sscanf(text, "rookery store\nformat %d\nfrom %d", &d.version, &from)
	ok = d.version > from && from >= 0 && strings.TrimSpace(text) == strings.TrimSpace(formatText(d.version, from))
	return from, ok
}

// Close lets go of the folder.
func (d *Dir) Close() error { return d.locks.close() }

// lockError tells a lock that is held from one that cannot be tried.
func (d *Dir) lockError(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return wrap(d.path, err)
	}
	inUse := &InUseError{Path: d.path}
	if owner, err := d.read(ownerName); err == nil {
		inUse.PID, _ = strconv.Atoi(strings.TrimSpace(owner))
	}
	return imap.E("data folder open", imap.InUse, inUse)
}

// writeOwner need not be durable: it is of use only while this process lives. A
// full disk keeps nobody from opening the folder: then the owner is not known.
func (d *Dir) writeOwner() error {
	f, err := d.fs.Create(d.Join(ownerName), category)
	if err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
		err = errors.Join(err, f.Close())
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return nil
	}
	return err
}

// checkFormat reads the version, or writes it into a folder that is new.
func (d *Dir) checkFormat(o opening) error {
	const op = "data folder open"
	known := o.formats.Version
	text, err := d.read(formatName)
	if errors.Is(err, os.ErrNotExist) {
		err := NoFormat(d.fs, d.path)
		if err != nil && o.judge != nil && d.isStore() {
			err = o.judge(d)
		}
		if err != nil {
			return err
		}
		return d.setFormat(known, 0)
	}
	if err != nil {
		return wrap(d.path, err)
	}
	from, ok := d.readFormat(text)
	oldest := min(Oldest, o.formats.oldest())
	switch {
	case !ok:
		if o.judge != nil && d.isStore() {
			if err := o.judge(d); err != nil {
				return err
			}
			return d.setFormat(known, 0)
		}
		return imap.E(op, imap.Corruption, fmt.Errorf("%s says %q, not a version; the rest of the store may well be whole: %s", d.Join(formatName), text, mendFormat()))
	case d.version > known:
		return imap.E(op, imap.ContactAdmin, fmt.Errorf("%s has format %d, this release knows formats up to %d: use the release that wrote it, or a newer one", d.path, d.version, known))
	case d.version < oldest:
		return imap.E(op, imap.ContactAdmin, fmt.Errorf("%s has format %d, which no release has written, and this release knows formats from %d on: move the folder away and import the mail anew", d.path, d.version, oldest))
	case d.version == known && from == 0:
		return nil
	case !o.upgrade:
		return d.errOlder(o.formats, from)
	}
	return d.upgrade(o.ctx, o.formats, from)
}

// NoFormat says of a folder without the file FORMAT what is wrong with it, and
// what to do: it is nil where the folder has nothing but what Open makes first.
// A folder that may be a store is never called anything else: there may be no
// other copy.
func NoFormat(fs vfs.FS, path string) error {
	names, err := fs.List(path)
	if err != nil {
		return wrap(path, err)
	}
	ours := []string{lockName, ownerName, formatName + ".new"}
	i := slices.IndexFunc(names, func(n string) bool { return !slices.Contains(ours, n) })
	if i < 0 {
		return nil
	}
	text := fmt.Sprintf("%s has files in it (%s) but no %s: it is not a rookery store; name an empty folder", path, names[i], formatName)
	for _, name := range []string{"messages", "index", "journal"} {
		if slices.Contains(names, name) {
			text = fmt.Sprintf("%s has files of a rookery store (%s) but the file %s is gone; remove nothing. Where it is a store: %s. "+
				"Where it is a backup or a restore that was interrupted: make that again, in another folder", path, name, formatName, mendFormat())
			break
		}
	}
	return imap.E("data folder open", imap.ContactAdmin, errors.New(text))
}

// isStore reports whether the folder has what only a store has that was in use: a
// backup or a restore that was interrupted has no FORMAT either, and no journal.
func (d *Dir) isStore() bool {
	_, err := d.fs.Stat(d.Join("journal"))
	return err == nil
}

// mendFormat says how to get FORMAT back.
func mendFormat() string {
	return fmt.Sprintf("run `rookery check --repair`, which writes it anew where the rest says what it was; or copy the file %s alone from a backup of it, or write one with the two lines \"rookery store\" and \"format %d\" if this release had it last; then run `rookery check`", formatName, Version)
}

func (d *Dir) read(name string) (string, error) {
	f, err := d.fs.Open(d.Join(name))
	if err != nil {
		return "", err
	}
	defer f.Close()
	p, err := io.ReadAll(io.LimitReader(f, 4<<10))
	return string(p), err
}

// make makes the folder where it is missing, with those above it, durably.
func (d *Dir) make() error {
	var missing []string
	for path := d.path; ; path = d.fs.PathDir(path) {
		if _, err := d.fs.Stat(path); !errors.Is(err, os.ErrNotExist) || path == d.fs.PathDir(path) {
			break
		}
		missing = append(missing, path)
	}
	if err := d.fs.MkdirAll(d.path, 0o700); err != nil {
		return err
	}
	for _, path := range missing {
		if err := durable.SyncDir(d.fs, d.fs.PathDir(path)); err != nil {
			return err
		}
	}
	return nil
}

func wrap(path string, err error) error {
	kind := imap.Unavailable
	if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS) {
		kind = imap.NoPermission
	}
	return imap.E("data folder open", kind, fmt.Errorf("%s: %w", path, err))
}

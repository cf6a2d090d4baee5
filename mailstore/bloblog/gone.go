package bloblog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/internal/durable"
)

// Somebody may take files out of the folder while the store uses them. Nothing fails
// then: what is written to a file without a name is lost only when the file is closed.
// So Look notices it, and writes again, under its name, what the store still has open.

// Missing is a file that was not in the folder, or was another one, when Look came.
type Missing struct {
	File  string // in the folder of the store
	Saved bool   // it was written again, with all that it had
	Other string // the name that the file which was in its place has now, or ""
	Err   error  // why it was not saved; nil where it was
}

var (
	errNotNamed  = errors.New("the file is gone from its folder, or another one is in its place")
	errNotOpen   = errors.New("it was not open, so what was in it is lost unless it is put back")
	errOtherDisk = errors.New("the folder is on another disk than before: is the right one mounted?")
	errParted    = errors.New("the file that the message was being written to has been removed; send it again")
)

// Look looks for files that are gone from the folder or were replaced, and writes
// them again from what is open. What was written to them since counts, and nothing
// more is written to them. Those that cannot be saved are returned again by later
// calls, until they are back. The caller calls it every few seconds; without all
// it costs one stat where nothing has changed in the folder. It may run beside
// anything. The error is for what keeps it from looking.
func (s *Store) Look(ctx context.Context, all bool) ([]Missing, error) {
	const op = "blobs look"
	if err := s.check(ctx, op); err != nil {
		return nil, err
	}
	s.looking.Lock()
	defer s.looking.Unlock()
	// The folder is observed before it is read: what changes meanwhile is seen next.
	if !s.observer.Changed(s.opts.FS, s.dir) && !all && !s.unsaved {
		return nil, nil
	}
	suspects, err := s.suspects()
	if err != nil {
		return nil, ioError(op, err)
	}
	var list []Missing
	for i, g := range suspects {
		m, gone, err := s.lookAt(ctx, g)
		if err != nil {
			for _, g := range suspects[i:] {
				s.release(g)
			}
			return list, ioError(op, err)
		}
		if gone {
			list = append(list, m)
		}
		s.release(g)
	}
	gone, err := s.deadLog.restore(s.ensureFolder, s.deadEntries)
	if gone {
		list = append(list, Missing{File: path.Base(s.deadLog.path), Saved: err == nil, Err: err})
	}
	s.unsaved = false
	for _, m := range list {
		s.unsaved = s.unsaved || !m.Saved
	}
	if len(list) > 0 {
		s.wake() // what is saved can be sealed
	}
	return list, nil
}

// suspects returns the segments that are open, or have no file of their name, and
// holds them.
func (s *Store) suspects() (list []*segment, err error) {
	names, err := s.opts.FS.List(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	here := make(map[string]bool, len(names))
	for _, name := range names {
		here[name] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.segments {
		g.mu.Lock()
		named := here[path.Base(g.name(g.sealed, g.moved))]
		suspect := g.file != nil || g.gone || !named
		g.mu.Unlock()
		if suspect {
			s.holdLocked(g)
			list = append(list, g)
		}
	}
	return list, nil
}

// lookAt reports whether a segment, which is held, is gone, and saves it.
func (s *Store) lookAt(ctx context.Context, g *segment) (m Missing, gone bool, err error) {
	if err := ctx.Err(); err != nil {
		return m, false, err
	}
	named, err := g.isNamed()
	if err != nil {
		return m, false, err
	}
	if named {
		s.setGone(g, false)
		return m, false, nil
	}
	s.tidying.Lock() // nothing is sealed or moved meanwhile
	defer s.tidying.Unlock()
	if named, err = g.isNamed(); named || err != nil || !s.has(g) {
		return m, false, err
	}
	s.part(g)
	m.File = path.Base(g.path())
	m.Other, m.Err = s.restore(g)
	if m.Saved = m.Err == nil; m.Saved {
		s.setGone(g, false)
	}
	return m, true, nil
}

// isNamed reports whether the folder has the segment under its name. One that is
// being sealed has the one name or the other.
func (g *segment) isNamed() (bool, error) {
	g.mu.Lock()
	f, sealed, moved := g.file, g.sealed, g.moved
	g.mu.Unlock()
	for _, final := range []bool{false, true} {
		if sealed && !final {
			continue
		}
		name := g.name(final, moved)
		var named bool
		var err error
		if f != nil {
			named, err = durable.Names(g.fs, name, f)
		} else if _, err = g.fs.Stat(name); err == nil {
			named = true
		} else if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if named || err != nil {
			return named, err
		}
	}
	return false, nil
}

// isLost reports whether the file is gone, and what was in it.
func (g *segment) isLost() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.gone && g.file == nil
}

func (g *segment) path() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.name(g.sealed, g.moved)
}

// setGone notes whether the segment's file is gone.
func (s *Store) setGone(g *segment, gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gone = gone
}

// part has nothing more written to a segment whose file is gone. Who has its lane
// notices at the end of the message.
func (s *Store) part(g *segment) {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	s.setGone(g, true)
	s.mu.Lock()
	defer s.mu.Unlock()
	lanes := append([]*lane{s.shared.lane, s.mover, s.spare}, s.free...)
	for _, l := range lanes {
		if l != nil && l.seg == g {
			s.toSeal = append(s.toSeal, sealing{g, l.high})
		}
	}
	s.free = deleteLane(s.free, g)
	for _, place := range []**lane{&s.shared.lane, &s.mover, &s.spare} {
		if *place != nil && (*place).seg == g {
			*place = nil
		}
	}
}

// parted reports whether a lane's segment is gone, or was written again, so that
// what the lane writes is not in it.
func (l *lane) parted() bool {
	l.seg.mu.Lock()
	defer l.seg.mu.Unlock()
	return l.seg.gone || l.seg.file != l.file
}

// restore writes what a segment's file has into a new one of its name. The caller
// holds the segment, and has the tidying lock.
func (s *Store) restore(g *segment) (other string, err error) {
	g.mu.Lock()
	from := g.file
	g.mu.Unlock()
	if from == nil {
		return "", errNotOpen
	}
	if err := s.ensureFolder(from); err != nil {
		return "", err
	}
	name := g.path()
	to, err := s.copyFile(from, name+copySuffix)
	if err != nil {
		_ = s.opts.FS.Remove(name + ".new") // it would be in nobody's way
		return "", err
	}
	if _, err = s.opts.FS.Stat(name); err == nil {
		other = path.Base(name) + ".other"
		err = s.opts.FS.Rename(name, name+".other")
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = s.opts.FS.Rename(name+copySuffix, name)
	}
	if err == nil {
		err = durable.SyncDir(s.opts.FS, s.dir)
	}
	if err != nil {
		return other, errors.Join(err, to.Close())
	}
	g.replaceFile(to)
	return other, nil
}

// ensureFolder makes the folder where it is gone. It must be on the disk that f is on:
// another one is perhaps there by mistake.
func (s *Store) ensureFolder(f vfs.File) error {
	disk := s.opts.FS
	if err := disk.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if err := durable.SyncDir(disk, disk.PathDir(s.dir)); err != nil {
		return err
	}
	open, err := f.Stat()
	if err != nil {
		return err
	}
	dir, err := disk.Stat(s.dir)
	if err == nil && dir.DeviceID() != open.DeviceID() {
		err = errOtherDisk
	}
	return err
}

// copySuffix ends the name of a copy that is not whole yet.
const copySuffix = ".new"

// copyBytes is what is copied at once.
const copyBytes = 1 << 20

// copyFile writes all of a file into a new one, durably but for its name.
func (s *Store) copyFile(from vfs.File, name string) (to vfs.File, err error) {
	if err := s.opts.FS.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if to, err = s.opts.FS.OpenReadWrite(name, categoryBlobs); err != nil {
		return nil, err
	}
	info, err := from.Stat()
	if err == nil {
		_, err = io.CopyBuffer(io.NewOffsetWriter(to, 0), io.NewSectionReader(from, 0, info.Size()), make([]byte, copyBytes))
	}
	if err == nil {
		err = to.Sync()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), to.Close())
	}
	return to, nil
}

// replaceFile has the segment read from another file. Who reads the former one goes
// on with it: it is closed together with the new one.
func (g *segment) replaceFile(f vfs.File) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.former = append(g.former, g.file)
	g.file = f
	g.opened.Add(1)
}

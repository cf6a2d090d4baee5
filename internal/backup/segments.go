package backup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rookery-mail/rookery/mailstore/bloblog"
)

// A segment that is full never changes, so that a link does as well as a copy. But
// files rot: whatever comes into a backup is read, and compared with what was known
// of it, so that one bad sector does not go from backup to backup.

// segments links or copies the messages.
func (w *writer) segments(ctx context.Context, hold *bloblog.Hold) error {
	for _, f := range hold.Files {
		w.total += f.Size
	}
	for i := range hold.Files {
		if err := w.segment(ctx, hold, &hold.Files[i]); err != nil {
			return err
		}
	}
	return nil
}

// segment takes one of them, and sees whether it is whole.
func (w *writer) segment(ctx context.Context, hold *bloblog.Hold, f *bloblog.HeldFile) error {
	name := messagesDir + "/" + f.Name
	known, before := w.knownSegment(f, name)
	linked, err := w.linkSegment(ctx, f, known, before)
	if err != nil {
		return err
	}
	if !linked {
		r, err := f.Open()
		if err != nil {
			return err
		}
		err = w.copy(ctx, r, name)
		r.Close()
		if err != nil {
			return err
		}
	}
	file := &w.manifest.Files[len(w.manifest.Files)-1]
	if known != nil && file.SHA256 == known.SHA256 && !known.Damaged {
		return nil // it is what it was when it was looked at
	}
	damaged := 0
	err = hold.Verify(ctx, f, func(d bloblog.Damage) {
		if file.Damaged = true; d.Live {
			damaged++
		}
	})
	if damaged > 0 {
		w.result.Damaged += damaged
		w.note("%s of the store has damaged messages (%d), and so has the backup: `rookery check` names them; an earlier backup may have them whole", name, damaged)
	}
	return err
}

// knownSegment returns what the previous backup says of a segment, and its path
// there; nil and "" where it does not have it.
func (w *writer) knownSegment(f *bloblog.HeldFile, name string) (known *File, before string) {
	file, ok := w.previous[name]
	before = filepath.Join(w.opts.Previous, filepath.FromSlash(name))
	if !ok || !f.Sealed || file.Size != f.Size || !sameSegment(w.inStore(f), before, f.Size) {
		return nil, ""
	}
	return &file, before
}

func (w *writer) inStore(f *bloblog.HeldFile) string {
	return filepath.Join(w.src.Dir, messagesDir, f.Name)
}

// linkSegment takes a segment that never changes from the store or from the previous
// backup, without copying it, if it is whole there as far as anybody can tell. Its
// checksum may be missing then.
func (w *writer) linkSegment(ctx context.Context, f *bloblog.HeldFile, known *File, before string) (bool, error) {
	if !f.Sealed {
		return false, nil
	}
	name := messagesDir + "/" + f.Name
	to := filepath.Join(w.dest, filepath.FromSlash(name))
	rotten := false // in the store
	if !w.opts.Copy && os.Link(w.inStore(f), to) == nil {
		if known == nil {
			w.add(File{Path: name, Size: f.Size})
			w.progress(f.Size)
			return true, nil
		}
		if whole, err := w.isWhole(ctx, to, known); whole || err != nil {
			w.add(*known)
			return true, err
		}
		if err := os.Remove(to); err != nil {
			return false, err
		}
		rotten = true
	}
	if known == nil {
		return false, nil
	}
	whole, err := w.isWhole(ctx, before, known)
	if err != nil {
		return false, err
	}
	if !whole {
		w.note("%s is damaged: the new backup has the store's instead, and other backups that are linked to it are damaged as well", before)
		return false, nil
	}
	if os.Link(before, to) != nil {
		return false, nil
	}
	if rotten {
		w.note("%s of the store is not what it was: the new backup has it as %s does, whole; `rookery check` names what is hit", name, w.opts.Previous)
	}
	w.add(*known)
	return true, nil
}

// isWhole reads a file and compares it with its checksum. The error is of ctx alone:
// a file that cannot be read is not whole.
func (w *writer) isWhole(ctx context.Context, path string, known *File) (bool, error) {
	if w.opts.Trust {
		w.progress(known.Size)
		return true, nil
	}
	sum, n, err := hashFile(ctx, path, w.progress)
	return err == nil && n == known.Size && sum == known.SHA256, ctx.Err()
}

func (w *writer) note(format string, args ...any) {
	w.result.Notes = append(w.result.Notes, fmt.Sprintf(format, args...))
}

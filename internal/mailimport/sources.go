package mailimport

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/maildir"
	"github.com/rookery-mail/rookery/internal/mbox"
)

// Maildir imports a Maildir with all its folders. With a mailbox given, the top
// of the tree goes there and its folders below; else they keep their names. A
// message is known by where it goes, its base name and its size.
func Maildir(ctx context.Context, m *maildir.Maildir, mailbox string, target Target, report Reporter) (*Result, error) {
	res := &Result{}
	sources, total, err := list(m, mailbox, res, report)
	if err != nil {
		return res, err
	}
	var done int64
	var later []string // notes on folders without messages
	for _, s := range sources {
		im := &importer{target: target, mailbox: s.mailbox, report: report, result: res, notes: s.notes}
		if len(s.msgs) == 0 {
			if err := im.prepare(ctx); err != nil {
				return res, err
			}
			later = append(later, s.notes...)
		}
		for i := range s.msgs {
			msg := &s.msgs[i]
			err := im.add(ctx, candidate{
				key: fmt.Sprintf("maildir:%s\x00%s\x00%d", s.mailbox, msg.Base, msg.Size), flags: msg.Flags, date: imap.TimeOf(msg.Date), where: msg.Path(),
				open: func() (io.ReadCloser, error) { return msg.Open() },
			})
			if err != nil {
				return res, err
			}
			done++
			report.Progress(done, total)
		}
		if err := im.flush(ctx); err != nil {
			return res, err
		}
	}
	// Nobody can tell whether an empty mailbox is new; where nothing else is, a
	// run before has told it.
	if res.Imported > 0 || res.Known == 0 {
		for _, note := range later {
			report.Note(note)
		}
	}
	return res, nil
}

// source is a folder to import.
type source struct {
	mailbox string
	notes   []string
	msgs    []maildir.Message
}

// list lists all folders, and reports what cannot be read.
func list(m *maildir.Maildir, mailbox string, res *Result, report Reporter) (sources []source, total int64, err error) {
	unread := func(n maildir.Note) {
		res.Unread++
		res.Odd++
		report.Note(n.Text)
	}
	folders, skipped, err := m.Folders()
	if err != nil {
		return nil, 0, err
	}
	for _, n := range skipped {
		unread(n)
	}
	for i := range folders {
		f := &folders[i]
		s := source{notes: f.Notes}
		var notes []maildir.Note
		if s.msgs, notes, err = f.Messages(); err != nil {
			return nil, 0, err
		}
		for _, n := range notes {
			if n.Unread {
				unread(n)
			} else {
				s.notes = append(s.notes, n.Text)
			}
		}
		if s.mailbox, err = below(mailbox, f.Name); err != nil {
			return nil, 0, fmt.Errorf("folder %s: %w", f.Dir, err)
		}
		sources = append(sources, s)
		total += int64(len(s.msgs))
	}
	return sources, total, nil
}

// below returns the name under which a folder goes when the tree is imported
// into a mailbox.
func below(mailbox, folder string) (string, error) {
	switch {
	case mailbox == "":
		return folder, nil
	case folder == imap.Inbox:
		return mailbox, nil
	}
	return imap.NormalizeMailbox(mailbox+string(maildir.Separator)+folder, maildir.Separator)
}

// Mbox imports an mbox into a mailbox, INBOX where none is given. A message is
// known by where it goes, the file's path, what it says (but for the headers that mail
// programs rewrite in place) and its position among those of the file that say
// the same: so two equal messages are two, and a run after messages have been
// added, marked or taken away in the file brings what is new and nothing else.
func Mbox(ctx context.Context, r *mbox.Reader, mailbox string, target Target, report Reporter) (*Result, error) {
	res := &Result{}
	if mailbox == "" {
		mailbox = imap.Inbox
	}
	source, err := sourceID(r.Path())
	if err != nil {
		return res, err
	}
	im := &importer{target: target, mailbox: mailbox, report: report, result: res}
	equal := make(map[[sha256.Size]byte]int)
	for n := 1; ; n++ {
		msg, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return res, err
		}
		equal[msg.Digest]++
		date := imap.TimeOf(msg.Date)
		if msg.Date.IsZero() {
			date = 0
		}
		err = im.add(ctx, candidate{
			key:   fmt.Sprintf("mbox:%s\x00%s\x00%s\x00%d", mailbox, source, base64.RawURLEncoding.EncodeToString(msg.Digest[:18]), equal[msg.Digest]),
			flags: msg.Flags, date: date, where: fmt.Sprintf("%s: message %d (at byte %d)", r.Path(), n, msg.Offset),
			open: func() (io.ReadCloser, error) { return io.NopCloser(msg.Open()), nil },
		})
		if err != nil {
			return res, err
		}
		report.Progress(msg.Offset, r.Size())
	}
	if err := im.flush(ctx); err != nil {
		return res, err
	}
	report.Progress(r.Size(), r.Size())
	return res, nil
}

// sourceID names a file in few letters, whatever way it was given.
func sourceID(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return "", fmt.Errorf("cannot read the mbox: %w", err)
	}
	sum := sha256.Sum256([]byte(abs))
	return base64.RawURLEncoding.EncodeToString(sum[:9]), nil
}

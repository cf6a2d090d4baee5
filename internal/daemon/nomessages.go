package daemon

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/datadir"
)

// hasSegments reports whether a folder has any file with messages.
func hasSegments(dir *datadir.Dir) (bool, error) {
	names, err := dir.FS().List(dir.Join(messagesDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return slices.ContainsFunc(names, func(name string) bool {
		return strings.HasSuffix(name, ".seg") || strings.HasSuffix(name, ".mov") || strings.HasSuffix(name, ".log")
	}), nil
}

// refuseWithoutMessages is an error where the folder has no file with messages
// but an index that names some: a disk that is not mounted, say. Clients must
// not be told that their mail is gone, nor new mail be put where it is not
// looked for later. The folder stays as it is, so that what is missing can be
// put back. An index that cannot be read is left to who opens it.
func refuseWithoutMessages(ctx context.Context, dir *datadir.Dir) error {
	if there, err := hasSegments(dir); there || err != nil {
		return err
	}
	if _, err := dir.FS().Stat(dir.Join(indexDir)); err != nil {
		return nil // a new store, or one to be repaired: see hasMail
	}
	s, err := look(ctx, dir)
	if err != nil || s.store == nil || s.broken != nil {
		return errors.Join(ctx.Err(), s.closeLook())
	}
	account, mailbox, err := named(ctx, s.store)
	if err = errors.Join(err, s.closeLook()); err != nil || account == "" {
		return err
	}
	return told(imap.ContactAdmin, "the folder with the messages (%s) is gone or empty, but the index names messages (%s of %s has some): "+
		"if it is on a disk of its own, mount that; if it was moved, put it back; otherwise restore a backup into another folder (`rookery restore`). "+
		"Where there is none, `rookery check --repair --data %s` says what is lost and goes on without it",
		dir.Join(messagesDir), mailbox, account, dir.Join())
}

// closeLook closes what look has opened, but the folder stays locked.
func (s *storage) closeLook() error {
	if s == nil {
		return nil
	}
	var err error
	if s.store != nil {
		err = s.store.Close(context.Background())
	}
	return errors.Join(err, s.closeEngines())
}

// named returns an account and a mailbox in it that has messages, or "".
func named(ctx context.Context, store *mailstore.Store) (account, mailbox string, err error) {
	list, err := store.Accounts(ctx)
	if err != nil {
		return "", "", err
	}
	for _, info := range list {
		a, err := store.Lookup(ctx, info.Name)
		if err != nil {
			return "", "", err
		}
		for _, m := range a.Mailboxes() {
			if m.NoSelect || m.Missing {
				continue
			}
			if st, err := a.Status(m.Name); err == nil && st.Messages > 0 {
				return info.Name, m.Name, nil
			}
		}
	}
	return "", "", nil
}

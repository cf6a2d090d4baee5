package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/lmtp"
	"github.com/rookery-mail/rookery/internal/passwd"
)

// userStore is the list of users in the store.
type userStore interface {
	Get(ctx context.Context, name string) (hash string, err error)
	List(ctx context.Context) ([]string, error)
}

// directory knows all users: those of the passwd file, which come first, and
// those of the store. It is safe for concurrent use.
type directory struct {
	file    *passwd.File // nil where there is none
	store   userStore
	checker *passwd.Checker
	log     *slog.Logger
	now     func() time.Time
	stored  atomic.Bool // the store has users
}

// lookup returns the hash of a user; kind NotFound where there is none.
func (d *directory) lookup(ctx context.Context, name string) (passwd.Hash, error) {
	if d.file != nil {
		if changed, err := d.file.Refresh(d.now()); err != nil {
			d.log.Error("the passwd file has changed and cannot be used; the users stay as they were", "err", err)
		} else if changed {
			d.log.Info("the passwd file has been read again", "users", d.file.Len())
		}
		if h, ok := d.file.Lookup(name); ok {
			return h, nil
		}
	}
	text, err := d.store.Get(ctx, name)
	if err != nil {
		return passwd.Hash{}, err
	}
	d.stored.Store(true)
	h, err := passwd.Parse(text)
	if err != nil {
		return passwd.Hash{}, fmt.Errorf("the password of user %q in the store cannot be used: %w; set it anew with `rookery user passwd`", name, err)
	}
	return h, nil
}

// Why a login is refused. The IMAP server logs it with the address, and tells
// the client nothing of it.
var (
	errNoUser        = errors.New("there is no such user")
	errWrongPassword = errors.New("wrong password")
)

// CheckPassword implements imapserver.Authenticator.
func (d *directory) CheckPassword(ctx context.Context, name, password string, addr netip.Addr) (string, error) {
	op := "check the password of " + name
	h, err := d.lookup(ctx, name)
	switch {
	case imap.KindOf(err) == imap.NotFound:
		if _, err := d.checker.CheckNobody(ctx, name, password, d.models(), d.stored.Load()); err != nil {
			return "", imap.E(op, imap.Unavailable, err)
		}
		return "", imap.E(op, imap.AuthFailed, errNoUser)
	case err != nil:
		d.log.Error("login not possible", "user", name, "addr", addr, "err", err)
		return "", imap.E(op, imap.Unavailable, err)
	}
	ok, err := d.checker.Check(ctx, h, password)
	if err != nil {
		return "", imap.E(op, imap.Unavailable, err)
	}
	if !ok {
		return "", imap.E(op, imap.AuthFailed, errWrongPassword)
	}
	return name, nil
}

// models returns hashes whose cost is like that of the users there are.
func (d *directory) models() []passwd.Hash {
	if d.file == nil {
		return nil
	}
	return d.file.Hashes()
}

// Resolve returns the user that a mail address belongs to.
func (d *directory) Resolve(ctx context.Context, address string) (string, error) {
	for _, name := range lmtp.Addresses(address) {
		_, err := d.lookup(ctx, name)
		if imap.KindOf(err) != imap.NotFound {
			return name, err
		}
	}
	return "", imap.E("find the user of "+address, imap.NotFound, nil)
}

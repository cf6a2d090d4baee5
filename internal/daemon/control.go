package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/internal/mailimport"
	"github.com/rookery-mail/rookery/internal/passwd"
	"github.com/rookery-mail/rookery/mailstore"
)

// Connect returns what can be asked of a data folder: by way of the server
// that has it, or else with the store opened here, and made where create is
// set. The caller closes it.
func Connect(ctx context.Context, dataDir, version string, create bool) (admin.Service, error) {
	if !create {
		if err := mustExist(dataDir); err != nil {
			return nil, err
		}
	}
	return connect(ctx, dataDir, version, func() (*storage, error) {
		return openStorage(ctx, dataDir, slog.New(slog.DiscardHandler))
	})
}

func mustExist(dataDir string) error {
	if _, err := os.Stat(dataDir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no data folder %s: is the name right?", dataDir)
	}
	return nil
}

// connect reaches the server that has a folder, or opens it.
func connect(ctx context.Context, dataDir, version string, open func() (*storage, error)) (admin.Service, error) {
	// A server that is just starting has the folder, but no socket yet.
	for wait := 50 * time.Millisecond; ; wait *= 2 {
		c, err := admin.Dial(ctx, dataDir)
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, admin.ErrNoServer) {
			return nil, err
		}
		s, err := open()
		if err == nil {
			return &control{store: s.store, storage: s, metrics: newMetrics(s, nil), version: version, close: s.Close}, nil
		}
		if imap.KindOf(err) != imap.InUse || wait > 2*time.Second {
			return nil, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// control is the admin.Service over the store in this process.
type control struct {
	store   *mailstore.Store
	storage *storage // that store is in
	metrics *metrics
	version string
	close   func() error
}

var _ admin.Service = (*control)(nil)

// Status implements admin.Service.
func (c *control) Status(context.Context) (admin.Status, error) {
	return admin.Status{Version: c.version, PID: os.Getpid()}, nil
}

// Numbers implements admin.Service.
func (c *control) Numbers(ctx context.Context) ([]admin.Number, error) {
	if c.storage.looking && c.storage.store != nil && c.storage.broken == nil {
		if _, _, err := c.storage.store.CountMissing(ctx); err != nil { // a server does so when it starts
			return nil, err
		}
	}
	return c.metrics.numbers()
}

// Close implements admin.Service.
func (c *control) Close() error {
	if c.close == nil {
		return nil
	}
	return c.close()
}

// Users implements admin.Service.
func (c *control) Users(ctx context.Context) ([]admin.User, error) {
	names, err := c.store.Users().List(ctx)
	if err != nil {
		return nil, err
	}
	users := make([]admin.User, len(names))
	for i, name := range names {
		users[i] = admin.User{Name: name}
	}
	return users, nil
}

// AddUser implements admin.Service.
func (c *control) AddUser(ctx context.Context, name, hash string) error {
	if err := checkUser(name, hash); err != nil {
		return err
	}
	_, err := c.store.Users().Get(ctx, name)
	switch {
	case err == nil:
		return told(imap.Exists, "there is a user %q already; `rookery user passwd` changes the password", name)
	case imap.KindOf(err) != imap.NotFound:
		return err
	}
	return c.store.Users().Set(ctx, name, hash)
}

// SetPassword implements admin.Service.
func (c *control) SetPassword(ctx context.Context, name, hash string) error {
	if err := checkUser(name, hash); err != nil {
		return err
	}
	_, err := c.store.Users().Get(ctx, name)
	if imap.KindOf(err) == imap.NotFound {
		return noUser(name)
	}
	if err != nil {
		return err
	}
	return c.store.Users().Set(ctx, name, hash)
}

// RemoveUser implements admin.Service.
func (c *control) RemoveUser(ctx context.Context, name string) error {
	err := c.store.Users().Delete(ctx, name)
	if imap.KindOf(err) == imap.NotFound {
		return noUser(name)
	}
	return err
}

// told makes an error whose text is all that is to be said.
func told(kind imap.Kind, format string, args ...any) error {
	return &toldError{fmt.Sprintf(format, args...), kind, nil}
}

type toldError struct {
	text  string
	kind  imap.Kind
	cause error // nil where there is none
}

func (e *toldError) Error() string   { return e.text }
func (e *toldError) Unwrap() []error { return []error{e.kind, e.cause} }

func noUser(name string) error {
	return told(imap.NotFound, "there is no user %q in the store; `rookery user list` shows those there are (users of a passwd file are changed in that file)", name)
}

// checkUser refuses what could not log in.
func checkUser(name, hash string) error {
	if _, err := passwd.Parse(hash); err != nil {
		return fmt.Errorf("user %q: %w", name, err)
	}
	if err := checkName(name); err != nil {
		return err
	}
	return nil
}

// checkName is passwd.CheckName with the kind that clients of the socket get.
func checkName(name string) error {
	if err := passwd.CheckName(name); err != nil {
		return told(imap.Cannot, "%v", err)
	}
	return nil
}

// Import implements admin.Service.
func (c *control) Import(user string) mailimport.Target { return &target{c.store, user} }

// target is an account that mail is imported into.
type target struct {
	store *mailstore.Store
	user  string
}

func (t *target) account(ctx context.Context) (*mailstore.Account, error) {
	if err := checkName(t.user); err != nil {
		return nil, err
	}
	return t.store.Account(ctx, t.user)
}

// Prepare implements mailimport.Target.
func (t *target) Prepare(ctx context.Context, mailbox string) error {
	a, err := t.account(ctx)
	if err != nil {
		return err
	}
	_, err = a.Create(ctx, mailbox, nil)
	if imap.KindOf(err) == imap.Exists {
		return nil
	}
	if err != nil {
		return err
	}
	return a.Subscribe(ctx, mailbox, true)
}

// Known implements mailimport.Target. It does not make the account.
func (t *target) Known(ctx context.Context, keys []string) ([]bool, error) {
	if err := checkName(t.user); err != nil {
		return nil, err
	}
	a, err := t.store.Lookup(ctx, t.user)
	if imap.KindOf(err) == imap.NotFound {
		return make([]bool, len(keys)), nil
	}
	if err != nil {
		return nil, err
	}
	return a.ImportSeen(ctx, keys)
}

// Import implements mailimport.Target.
func (t *target) Import(ctx context.Context, mailbox string, items []mailimport.Item) error {
	a, err := t.account(ctx)
	if err != nil {
		return err
	}
	batch := make([]mailstore.AppendItem, 0, len(items))
	defer func() {
		for _, b := range batch {
			b.Upload.Discard()
		}
	}()
	for _, it := range items {
		u, err := upload(ctx, a, it)
		if err != nil {
			return err
		}
		batch = append(batch, mailstore.AppendItem{Upload: u, Flags: it.Flags, Date: it.Date, ImportKey: it.Key})
	}
	_, err = a.Append(ctx, mailbox, batch)
	return err
}

func upload(ctx context.Context, a *mailstore.Account, it mailimport.Item) (*mailstore.Upload, error) {
	r, err := it.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return uploadFrom(ctx, a, r, it.Size)
}

// uploadFrom uploads size bytes; fewer or more are an error.
func uploadFrom(ctx context.Context, a *mailstore.Account, r io.Reader, size int64) (*mailstore.Upload, error) {
	u, err := a.Upload(ctx, size)
	if err != nil {
		return nil, err
	}
	n, err := u.ReadFrom(r)
	if err == nil && n != size {
		err = fmt.Errorf("a message of %d bytes came as %d: did it change meanwhile? Try again", size, n)
	}
	if err != nil {
		u.Discard()
		return nil, err
	}
	return u, nil
}

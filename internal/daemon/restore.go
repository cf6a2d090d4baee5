package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/internal/backup"
	"github.com/rookery-mail/rookery/internal/mailimport"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// RestoreStore copies a backup into the folder dataDir, which must be empty or
// not there. Unless same is set, mailboxes get a new UIDVALIDITY, which they
// need where mail has come or gone since the backup: see
// mailstore.Store.MarkRestored.
func RestoreStore(ctx context.Context, from, dataDir string, same bool, progress func(done, total int64)) (*backup.Manifest, error) {
	m, err := backup.Read(from)
	if err != nil {
		return nil, err
	}
	done, total := int64(0), m.Bytes()
	finish := func() error { return markRestored(ctx, dataDir) }
	if same {
		finish = nil
	}
	err = backup.Restore(ctx, from, m, dataDir, func(n int64) {
		done += n
		progress(done, total)
	}, finish)
	return m, err
}

// markRestored marks the store in a folder that is no data folder yet, so that
// nobody else has it.
func markRestored(ctx context.Context, path string) (err error) {
	log := slog.New(slog.DiscardHandler)
	s := &storage{}
	defer func() {
		if e := s.closeEngines(); err == nil {
			err = e
		}
	}()
	if s.blobs, err = bloblog.Open(filepath.Join(path, "messages"), bloblog.Options{Logger: log, Manual: true}); err != nil {
		return err
	}
	if s.kv, err = pebblekv.Open(filepath.Join(path, "index"), pebblekv.Options{Logger: log}); err != nil {
		return err
	}
	// What the backup has cut off is finished when a server opens the store.
	store, err := mailstore.Open(ctx, s.kv, s.blobs, mailstore.Options{Logger: log, AsItIs: true})
	if err != nil {
		return err
	}
	err = store.MarkRestored(ctx)
	if e := store.Close(ctx); err == nil {
		err = e
	}
	return err
}

// RestoreRequest says what of a backup is restored into a store, and where to.
type RestoreRequest struct {
	User string // in the backup
	As   string // in the store
	// Mailbox is the one to restore; empty means all of the account.
	Mailbox string
	Into    string // the name that Mailbox gets
}

// RestoreResult says what a restore has done.
type RestoreResult struct {
	Mailboxes, Messages int
	Unread              int // messages that the backup has damaged, left out
}

// Restore copies mail from a backup (or any data folder that nobody uses) to a
// store. The backup is not changed.
func Restore(ctx context.Context, from string, to admin.Service, req RestoreRequest, r mailimport.Reporter) (*RestoreResult, error) {
	s, err := openToLook(ctx, from)
	if err != nil {
		return nil, err
	}
	if s.broken != nil {
		return nil, errors.Join(fmt.Errorf("the index of %s cannot be opened: %w", from, s.broken), s.Close())
	}
	res := &restoring{to: to, req: req, report: r}
	err = res.run(ctx, s.store)
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	return &res.res, err
}

// restoring is a Restore on its way.
type restoring struct {
	to     admin.Service
	req    RestoreRequest
	report mailimport.Reporter
	res    RestoreResult
	done   int64
	total  int64
}

func (r *restoring) run(ctx context.Context, store *mailstore.Store) error {
	a, err := store.Lookup(ctx, r.req.User)
	if imap.KindOf(err) == imap.NotFound {
		return r.noSuchUser(ctx, store)
	}
	if err != nil {
		return err
	}
	plan, names, err := r.plan(a)
	if err != nil {
		return err
	}
	for from := range names {
		if st, err := a.Status(from); err == nil {
			r.total += int64(st.Messages)
		}
	}
	if err := r.to.PrepareRestore(ctx, plan); err != nil {
		return err
	}
	r.res.Mailboxes = len(names)
	for _, m := range a.Mailboxes() { // in their order
		into, ok := names[m.Name]
		if !ok {
			continue
		}
		if err := r.mailbox(ctx, a, m.Name, into); err != nil {
			return fmt.Errorf("%s of %s is restored in part only (remove it, and run the command again): %w", into, r.req.As, err)
		}
	}
	return nil
}

func (r *restoring) noSuchUser(ctx context.Context, store *mailstore.Store) error {
	list, err := store.Accounts(ctx)
	if err != nil {
		return err
	}
	text := "it has none"
	const most = 10
	for i, info := range list {
		switch i {
		case 0:
			text = "it has " + info.Name
		case most:
			text += fmt.Sprintf(" and %d others", len(list)-most)
		default:
			if i < most {
				text += ", " + info.Name
			}
		}
	}
	return told(imap.NotFound, "the backup has no account %q; %s", r.req.User, text)
}

// plan says which mailboxes are to be made, and which of the backup are copied
// to which of them.
func (r *restoring) plan(a *mailstore.Account) (admin.RestorePlan, map[string]string, error) {
	plan := admin.RestorePlan{User: r.req.As, Whole: r.req.Mailbox == ""}
	names := make(map[string]string)
	if !plan.Whole {
		if _, err := a.Status(r.req.Mailbox); err != nil {
			return plan, nil, told(imap.NotFound, "the account %s has no mailbox %s in the backup", r.req.User, r.req.Mailbox)
		}
		names[r.req.Mailbox] = r.req.Into
		plan.Mailboxes = []admin.RestoreMailbox{{Name: r.req.Into, Subscribed: true}}
		return plan, names, nil
	}
	for _, m := range a.Mailboxes() {
		if m.Missing {
			plan.Subscriptions = append(plan.Subscriptions, m.Name)
			continue
		}
		box := admin.RestoreMailbox{Name: m.Name, NoSelect: m.NoSelect, Subscribed: m.Subscribed}
		for _, use := range m.SpecialUse {
			box.Uses = append(box.Uses, string(use))
		}
		plan.Mailboxes = append(plan.Mailboxes, box)
		if !m.NoSelect {
			names[m.Name] = m.Name
		}
	}
	return plan, names, nil
}

// mailbox copies the messages of a mailbox in their order.
func (r *restoring) mailbox(ctx context.Context, a *mailstore.Account, name, into string) error {
	m, err := a.Mailbox(ctx, name)
	if err != nil {
		return err
	}
	defer m.Close()
	snap, err := m.Snapshot(ctx)
	if err != nil {
		return err
	}
	c := &mailboxCopy{restoring: r, m: m, snap: snap, from: name, into: into, target: r.to.Import(r.req.As)}
	for _, row := range snap.Rows() {
		large := int64(row.Size) > mailimport.MaxBatchBytes
		if large || len(c.rows) == mailimport.MaxBatch || c.bytes+int64(row.Size) > mailimport.MaxBatchBytes {
			if err := c.flush(ctx); err != nil {
				return err
			}
		}
		if large {
			err = c.sendLarge(ctx, row)
		} else {
			c.rows = append(c.rows, row)
			c.bytes += int64(row.Size)
		}
		if err != nil {
			return err
		}
	}
	return c.flush(ctx)
}

// mailboxCopy is a mailbox on its way.
type mailboxCopy struct {
	*restoring
	m      *mailstore.Mailbox
	snap   *mailindex.Snapshot
	from   string // names
	into   string
	target mailimport.Target
	rows   []mailindex.Row // the batch
	bytes  int64
}

func (c *mailboxCopy) item(row mailindex.Row, size int64, open func() (io.ReadCloser, error)) mailimport.Item {
	return mailimport.Item{Flags: c.snap.Flags(row.Flags).List(), Date: row.Date, Size: size, Open: open}
}

// flush sends the batch.
func (c *mailboxCopy) flush(ctx context.Context) error {
	items := make([]mailimport.Item, 0, len(c.rows))
	err := c.m.Fetch(ctx, c.rows, mailstore.NeedBody, func(i int, msg *mailstore.Message) error {
		data, err := []byte(nil), msg.Err
		if err == nil {
			data = make([]byte, msg.RawSize)
			_, err = io.ReadFull(io.NewSectionReader(msg.Raw, 0, msg.RawSize), data)
		}
		if err != nil {
			return c.unreadable(ctx, c.rows[i].UID, err)
		}
		items = append(items, c.item(c.rows[i], msg.RawSize, func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(data)), nil
		}))
		return nil
	})
	if err != nil {
		return err
	}
	c.rows, c.bytes = c.rows[:0], 0
	return c.send(ctx, items)
}

// sendLarge sends one message without keeping it in memory.
func (c *mailboxCopy) sendLarge(ctx context.Context, row mailindex.Row) error {
	return c.m.Fetch(ctx, []mailindex.Row{row}, mailstore.NeedBody, func(_ int, msg *mailstore.Message) error {
		err := msg.Err
		if err == nil { // what is damaged is found out before any of it is sent
			_, err = io.Copy(io.Discard, io.NewSectionReader(msg.Raw, 0, msg.RawSize))
		}
		if err != nil {
			return c.unreadable(ctx, row.UID, err)
		}
		return c.send(ctx, []mailimport.Item{c.item(row, msg.RawSize, func() (io.ReadCloser, error) {
			return io.NopCloser(io.NewSectionReader(msg.Raw, 0, msg.RawSize)), nil
		})})
	})
}

// unreadable notes a message that the backup has damaged. The restore goes on.
func (c *mailboxCopy) unreadable(ctx context.Context, uid imap.UID, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c.res.Unread++
	c.report.Note(fmt.Sprintf("%s UID %d is left out, since the backup is damaged there: %v", c.from, uid, err))
	return nil
}

func (c *mailboxCopy) send(ctx context.Context, items []mailimport.Item) error {
	if len(items) == 0 {
		return nil
	}
	if err := c.target.Import(ctx, c.into, items); err != nil {
		return err
	}
	c.res.Messages += len(items)
	c.done += int64(len(items))
	c.report.Progress(c.done, c.total)
	return nil
}

package imapmodel

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rookery-mail/rookery/imap"
)

// account is what the connections of one user share: the list of mailboxes,
// and those that were opened.
//
// Locks, in the order in which they are taken: write, tree, a box's turn; mu
// and a box's mu are for moments only, and the model is never called with them.
type account struct {
	b    *Backend
	user string
	uses int // guarded by b.mu

	write semaphore // held by what changes the model, from end to end
	tree  semaphore // held while the model's list is read or changed
	dirty atomic.Bool
	looks atomic.Int64 // how often the model was asked for the list
	retry backoff      // of a list that fails

	mu     sync.Mutex
	loaded bool
	rec    accountRecord // replaced whole, under tree
	list   []*entry      // sorted by name
	names  map[string]*entry
	boxes  map[string]*box
	polled time.Time
}

// entry is a mailbox as the model lists it, under its normalised name.
type entry struct {
	name    string
	info    Mailbox
	virtual bool // an INBOX that the model does not have
}

// accountRecord is what a State keeps of a user.
type accountRecord struct {
	Format int
	// LastUIDValidity is the greatest one that was given.
	LastUIDValidity imap.UIDValidity
	Mailboxes       map[string]mailboxRecord
	// Retired has the last UIDVALIDITY of names whose mailbox is gone.
	Retired    map[string]imap.UIDValidity `json:",omitempty"`
	Subscribed []string                    `json:",omitempty"`
}

type mailboxRecord struct {
	ID          imap.ObjectID
	UIDValidity imap.UIDValidity
	// Given says that the model chose the UIDVALIDITY.
	Given bool `json:",omitempty"`
}

const accountFormat = 1

func (r accountRecord) clone() accountRecord {
	r.Mailboxes = maps.Clone(r.Mailboxes)
	r.Retired = maps.Clone(r.Retired)
	r.Subscribed = slices.Clone(r.Subscribed)
	return r
}

func newAccount(b *Backend, user string) *account {
	a := &account{
		b: b, user: user, write: newSemaphore(), tree: newSemaphore(),
		rec:   accountRecord{Format: accountFormat, Mailboxes: map[string]mailboxRecord{}, Retired: map[string]imap.UIDValidity{}},
		names: map[string]*entry{}, boxes: map[string]*box{},
	}
	a.dirty.Store(true)
	return a
}

// load reads what is kept of the user, once, and lists the mailboxes.
func (a *account) load(ctx context.Context) error {
	if err := a.tree.acquire(ctx); err != nil {
		return err
	}
	defer a.tree.release()
	if !a.loaded && a.b.state != nil {
		data, err := a.b.state.Load(ctx, accountRecordName(a.user))
		if err != nil {
			return fmt.Errorf("imapmodel: load the state of %s: %w", a.user, err)
		}
		if data != nil {
			rec := a.rec.clone()
			if err := json.Unmarshal(data, &rec); err != nil || rec.Format != accountFormat {
				return fmt.Errorf("imapmodel: the state of %s has format %d and cannot be read (%v); restore it, or remove it to begin anew", a.user, rec.Format, err)
			}
			a.mu.Lock()
			a.rec = rec
			a.mu.Unlock()
		}
	}
	a.loaded = true
	return a.refresh(ctx)
}

// save makes rec durable and then current. tree is held.
func (a *account) save(ctx context.Context, rec accountRecord) error {
	if a.b.state != nil {
		data, err := json.Marshal(rec)
		if err == nil {
			err = a.b.state.Save(ctx, accountRecordName(a.user), data)
		}
		if err != nil {
			return fmt.Errorf("imapmodel: save the state of %s: %w", a.user, err)
		}
	}
	a.mu.Lock()
	old := a.rec
	a.rec = rec
	a.mu.Unlock()
	a.forget(ctx, old, rec)
	return nil
}

// forget removes the records of mailboxes that are not in rec any more.
func (a *account) forget(ctx context.Context, old, rec accountRecord) {
	if a.b.state == nil {
		return
	}
	kept := map[imap.ObjectID]bool{}
	for _, m := range rec.Mailboxes {
		kept[m.ID] = true
	}
	for name, m := range old.Mailboxes {
		if kept[m.ID] {
			continue
		}
		if err := a.b.state.Save(ctx, mailboxRecordName(a.user, m.ID), nil); err != nil {
			a.b.opts.Log.Warn("the state of a mailbox that is gone could not be removed", "user", a.user, "mailbox", name, "err", err)
		}
	}
}

// changed is Backend.Changed for this user.
func (a *account) changed(mailbox string) {
	a.retry.reset()
	a.mu.Lock()
	var touched []*box
	if mailbox != "" {
		if name, err := imap.NormalizeMailbox(mailbox, a.b.opts.Separator); err == nil {
			if bx := a.boxes[name]; bx != nil {
				touched = append(touched, bx)
			}
			if a.names[name] == nil {
				a.dirty.Store(true)
			}
		}
	} else {
		a.dirty.Store(true)
		for _, bx := range a.boxes {
			touched = append(touched, bx)
		}
	}
	a.mu.Unlock()
	for _, bx := range touched {
		bx.retry.reset()
		bx.dirty.Store(true)
		bx.wake()
	}
}

// due reports whether the mailboxes are to be listed again.
func (a *account) due() bool {
	if a.dirty.Load() {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.b.stale(false, a.polled)
}

// current lists the mailboxes again if that is due.
func (a *account) current(ctx context.Context) error {
	if !a.due() {
		return nil
	}
	before := a.looks.Load()
	if err := a.tree.acquire(ctx); err != nil {
		return err
	}
	defer a.tree.release()
	if a.looks.Load() != before && !a.dirty.Load() {
		return nil // a list that was begun meanwhile will do
	}
	return a.refresh(ctx)
}

// keepUp is current for the sessions in bx, who must hear of it if their
// mailbox is not in the list any more. A list that fails changes nothing for
// them, and is not asked for again at each of their commands.
func (a *account) keepUp(ctx context.Context, bx *box) {
	if !a.due() || a.retry.waiting(a.b.opts.Clock()) {
		return
	}
	if err := a.current(ctx); err != nil && ctx.Err() == nil {
		a.b.opts.Log.Warn("listing the mailboxes failed; clients see them as they were", "user", a.user, "err", err)
		bx.wakeIn(retryAfter(0))
	}
}

// refresh lists the mailboxes. tree is held.
func (a *account) refresh(ctx context.Context) error {
	now := a.b.opts.Clock()
	a.looks.Add(1)
	a.dirty.Store(false)
	listed, err := a.b.model.Mailboxes(ctx, a.user)
	if err != nil {
		a.dirty.Store(true)
		if ctx.Err() == nil {
			a.retry.failed(now)
		}
		return serverError("list the mailboxes of "+a.user, err)
	}
	a.retry.reset()
	list, names := a.normalise(listed)
	rec, changed := a.reconcile(names)
	if changed {
		if err := a.save(ctx, rec); err != nil {
			a.dirty.Store(true)
			return err
		}
	}
	a.publish(list, names, now)
	return nil
}

// normalise brings the model's list into the order and form that the engine
// wants.
func (a *account) normalise(listed []Mailbox) ([]*entry, map[string]*entry) {
	list := make([]*entry, 0, len(listed)+1)
	names := make(map[string]*entry, len(listed)+1)
	for _, info := range listed {
		name, err := imap.NormalizeMailbox(info.Name, a.b.opts.Separator)
		if err != nil {
			a.b.opts.Log.Warn("a mailbox is left out: its name is not possible", "user", a.user, "mailbox", info.Name, "err", err)
			continue
		}
		if names[name] != nil {
			a.b.opts.Log.Warn("a mailbox is left out: another one has the same name", "user", a.user, "mailbox", info.Name)
			continue
		}
		e := &entry{name: name, info: info}
		names[name] = e
		list = append(list, e)
	}
	if inbox := names[imap.Inbox]; inbox == nil {
		e := &entry{name: imap.Inbox, info: Mailbox{Name: imap.Inbox, ReadOnly: true}, virtual: true}
		names[imap.Inbox] = e
		list = append(list, e)
	}
	slices.SortFunc(list, func(x, y *entry) int { return cmp.Compare(x.name, y.name) })
	return list, names
}

// selectable reports whether e is a mailbox that can be opened.
func (e *entry) selectable() bool {
	return e != nil && !e.info.NoSelect && !e.info.Missing
}

// reconcile compares the record with the mailboxes that there are now: names
// without a mailbox are retired, new mailboxes get an identifier and a
// UIDVALIDITY.
func (a *account) reconcile(names map[string]*entry) (rec accountRecord, changed bool) {
	rec = a.rec.clone()
	for name, m := range rec.Mailboxes {
		e := names[name]
		if e.selectable() && (e.info.UIDValidity == 0 || e.info.UIDValidity == m.UIDValidity) {
			continue
		}
		rec.retire(name)
		changed = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		e := names[name]
		if _, known := rec.Mailboxes[name]; known || !e.selectable() {
			continue
		}
		m := mailboxRecord{ID: newID("M"), UIDValidity: e.info.UIDValidity, Given: e.info.UIDValidity != 0}
		if !m.Given {
			m.UIDValidity = rec.nextValidity(name, a.b.started, a.b.opts.Clock())
		}
		rec.Mailboxes[name] = m
		changed = true
	}
	return rec, changed
}

func (r *accountRecord) retire(name string) {
	r.Retired[name] = max(r.Retired[name], r.Mailboxes[name].UIDValidity)
	delete(r.Mailboxes, name)
}

// nextValidity chooses the UIDVALIDITY of a mailbox: greater than that of all
// that had the name before, and than any that the user's mailboxes had if there
// was one; without a State, greater than before the last restart, because it
// begins with the time.
func (r *accountRecord) nextValidity(name string, started, now time.Time) imap.UIDValidity {
	v := max(imap.UIDValidity(max(started.Unix(), 1)), r.LastUIDValidity)
	if _, before := r.Retired[name]; before {
		v = max(imap.UIDValidity(max(now.Unix(), 1)), r.LastUIDValidity+1)
	}
	r.LastUIDValidity = max(r.LastUIDValidity, v)
	return v
}

// publish makes a new list current and closes the boxes of mailboxes that are
// gone. tree is held.
func (a *account) publish(list []*entry, names map[string]*entry, now time.Time) {
	var gone []*box
	a.mu.Lock()
	a.list, a.names, a.polled = list, names, now
	for name, bx := range a.boxes {
		if m, ok := a.rec.Mailboxes[name]; !ok || m.ID != bx.id {
			delete(a.boxes, name)
			gone = append(gone, bx)
			continue
		}
		bx.setInfo(names[name])
	}
	a.mu.Unlock()
	for _, bx := range gone {
		bx.gone.Store(true)
		bx.wake()
	}
}

// find returns the entry of a mailbox, listing again if that is due.
func (a *account) find(ctx context.Context, name string) (*entry, error) {
	if err := a.current(ctx); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if e := a.names[name]; e != nil && !e.info.Missing {
		return e, nil
	}
	return nil, imap.E("imapmodel: mailbox "+name, imap.NotFound, nil)
}

// box returns the shared state of a mailbox, with a first look at its messages
// still to be made.
func (a *account) box(ctx context.Context, name string) (*box, error) {
	e, err := a.find(ctx, name)
	if err != nil {
		return nil, err
	}
	if !e.selectable() {
		return nil, &imap.Error{Op: "imapmodel: open " + name, Kind: imap.Cannot, Text: "This mailbox only holds other mailboxes"}
	}
	a.mu.Lock()
	bx, m := a.boxes[name], a.rec.Mailboxes[name]
	a.mu.Unlock()
	if bx != nil {
		return bx, nil
	}
	fresh, err := loadBox(ctx, a, e, m)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if bx := a.boxes[name]; bx != nil {
		return bx, nil
	}
	if a.rec.Mailboxes[name].ID != m.ID {
		return nil, imap.E("imapmodel: open "+name, imap.NotFound, nil)
	}
	a.boxes[name] = fresh
	return fresh, nil
}

// below reports whether name is under parent.
func (a *account) below(name, parent string) bool {
	sep := a.b.opts.Separator
	return sep != 0 && strings.HasPrefix(name, parent+string(sep))
}

// newID makes an identifier that no other object has (RFC 8474).
func newID(prefix string) imap.ObjectID {
	var raw [15]byte
	_, _ = rand.Read(raw[:]) // never fails
	return imap.ObjectID(fmt.Sprintf("%s%x", prefix, raw))
}

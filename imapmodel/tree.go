package imapmodel

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapserver"
)

var errReadOnlyTree = &imap.Error{Op: "imapmodel: change mailboxes", Kind: imap.Cannot, Text: "Mailboxes cannot be changed here"}

// changeTree runs f, which changes the model's list, with all locks of the
// list held, and lists again.
func (a *account) changeTree(ctx context.Context, f func() error) error {
	if a.b.parts.editor == nil {
		return errReadOnlyTree
	}
	if err := a.write.acquire(ctx); err != nil {
		return err
	}
	defer a.write.release()
	if err := a.tree.acquire(ctx); err != nil {
		return err
	}
	defer a.tree.release()
	if err := a.refresh(ctx); err != nil {
		return err
	}
	err := f()
	// Whatever f came to, the model is right about what there is now. What it
	// has done is told even if the client has gone meanwhile.
	if after := a.refresh(context.WithoutCancel(ctx)); err == nil {
		err = after
	}
	return err
}

func (s *accountSession) Create(ctx context.Context, name string, opts imapserver.CreateOptions) (imap.ObjectID, error) {
	err := s.changeTree(ctx, func() error {
		if e := s.names[name]; e != nil && !e.info.NoSelect && !e.info.Missing && !e.virtual {
			return imap.E("imapmodel: create "+name, imap.Exists, nil)
		}
		if err := s.createAbove(ctx, name); err != nil {
			return err
		}
		return modelError("create "+name, s.b.parts.editor.CreateMailbox(ctx, s.user, name, opts.SpecialUse))
	})
	if err != nil || s.b.state == nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec.Mailboxes[name].ID, nil
}

// createAbove makes the mailboxes above name that are missing.
func (a *account) createAbove(ctx context.Context, name string) error {
	parent := imap.MailboxParent(name, a.b.opts.Separator)
	if parent == "" {
		return nil
	}
	e := a.names[parent]
	switch {
	case e != nil && e.info.NoInferiors:
		return &imap.Error{Op: "imapmodel: create " + name, Kind: imap.Cannot, Text: "Mailbox " + parent + " cannot hold other mailboxes"}
	case e != nil && !e.info.Missing && !e.virtual:
		return nil
	case e != nil && e.virtual:
		return nil // INBOX, as far as clients can see
	}
	if err := a.createAbove(ctx, parent); err != nil {
		return err
	}
	return modelError("create "+parent, a.b.parts.editor.CreateMailbox(ctx, a.user, parent, nil))
}

func (s *accountSession) Delete(ctx context.Context, name string) error {
	if name == imap.Inbox {
		return &imap.Error{Op: "imapmodel: delete INBOX", Kind: imap.Cannot, Text: "INBOX cannot be deleted"}
	}
	return s.changeTree(ctx, func() error {
		e := s.names[name]
		children := slices.ContainsFunc(s.list, func(c *entry) bool {
			return !c.info.Missing && s.below(c.name, name)
		})
		switch {
		case (e == nil || e.info.Missing) && !children:
			return imap.E("imapmodel: delete "+name, imap.NotFound, nil)
		case !e.selectable() && children:
			return imap.E("imapmodel: delete "+name, imap.HasChildren, nil)
		}
		if err := s.b.parts.editor.DeleteMailbox(ctx, s.user, e.info.Name); err != nil {
			return modelError("delete "+name, err)
		}
		// Even if the model lists the name again at once, it is a new mailbox.
		rec := s.rec.clone()
		if _, ok := rec.Mailboxes[name]; !ok {
			return nil
		}
		rec.retire(name)
		return s.save(context.WithoutCancel(ctx), rec)
	})
}

func (s *accountSession) Rename(ctx context.Context, from, to string) error {
	if s.below(to, from) {
		return &imap.Error{Op: "imapmodel: rename " + from, Kind: imap.Cannot, Text: "A mailbox cannot become its own child"}
	}
	if from == imap.Inbox {
		return s.renameInbox(ctx, to)
	}
	return s.changeTree(ctx, func() error {
		if err := s.checkRename(from, to); err != nil {
			return err
		}
		if err := s.createAbove(ctx, to); err != nil {
			return err
		}
		model := from
		if e := s.names[from]; e != nil {
			model = e.info.Name
		}
		moved := s.moving(from)
		// No mailbox is looked at while its name changes.
		for _, bx := range moved {
			if err := bx.turn.acquire(ctx); err != nil {
				return err
			}
			defer bx.turn.release()
		}
		if err := s.b.parts.editor.RenameMailbox(ctx, s.user, model, to); err != nil {
			return modelError("rename "+from, err)
		}
		return s.moveRecords(context.WithoutCancel(ctx), from, to)
	})
}

func (a *account) checkRename(from, to string) error {
	exists := func(name string) bool {
		return slices.ContainsFunc(a.list, func(e *entry) bool {
			return !e.info.Missing && (e.name == name || a.below(e.name, name))
		})
	}
	if !exists(from) {
		return imap.E("imapmodel: rename "+from, imap.NotFound, nil)
	}
	if exists(to) {
		return imap.E("imapmodel: rename "+from+" to "+to, imap.Exists, nil)
	}
	return nil
}

// moving returns the open boxes of a mailbox and of those below it, in order
// of name.
func (a *account) moving(from string) []*box {
	a.mu.Lock()
	defer a.mu.Unlock()
	var moved []*box
	for _, name := range slices.Sorted(maps.Keys(a.boxes)) {
		if name == from || a.below(name, from) {
			moved = append(moved, a.boxes[name])
		}
	}
	return moved
}

// moveRecords gives what is known of renamed mailboxes to their new names: a
// renamed mailbox keeps its UIDs, unless the new name has had a UIDVALIDITY
// that is not less; then the mailbox begins anew. tree is held.
func (a *account) moveRecords(ctx context.Context, from, to string) error {
	rec := a.rec.clone()
	boxes := map[string]*box{}
	for _, name := range slices.Sorted(maps.Keys(a.rec.Mailboxes)) {
		if name != from && !a.below(name, from) {
			continue
		}
		target := to + strings.TrimPrefix(name, from)
		m := rec.Mailboxes[name]
		rec.retire(name)
		if last, used := rec.Retired[target]; used && last >= m.UIDValidity {
			continue
		}
		rec.Mailboxes[target] = m
		boxes[target] = a.boxes[name]
	}
	if err := a.save(ctx, rec); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, bx := range a.boxes {
		if m, kept := rec.Mailboxes[name]; !kept || m.ID != bx.id {
			if slices.Contains(slices.Collect(maps.Values(boxes)), bx) {
				delete(a.boxes, name)
			}
		}
	}
	for name, bx := range boxes {
		if bx != nil {
			a.boxes[name] = bx
			bx.rename(name)
		}
	}
	return nil
}

// renameInbox moves the messages of INBOX to a new mailbox (RFC 9051 section
// 6.3.6).
func (s *accountSession) renameInbox(ctx context.Context, to string) error {
	if !s.b.Features().Has(imapserver.FeatureMove) {
		return &imap.Error{Op: "imapmodel: rename INBOX", Kind: imap.Cannot, Text: "Messages cannot be moved here"}
	}
	if _, err := s.Create(ctx, to, imapserver.CreateOptions{}); err != nil {
		return err
	}
	bx, err := s.box(ctx, imap.Inbox)
	if err != nil {
		return err
	}
	snap, err := bx.current(ctx)
	if err != nil || snap.Len() == 0 {
		return err
	}
	_, err = bx.copyTo(ctx, imap.UIDSetOfRange(1, snap.LastUID()), to, true)
	return err
}

func (s *accountSession) Subscribe(ctx context.Context, name string, on bool) error {
	sub := s.b.parts.subscriber
	if sub == nil && !s.b.opts.KeepSubscriptions {
		if on {
			return nil // every mailbox is subscribed to
		}
		return &imap.Error{Op: "imapmodel: unsubscribe " + name, Kind: imap.Cannot, Text: "Subscriptions are not kept here"}
	}
	if err := s.write.acquire(ctx); err != nil {
		return err
	}
	defer s.write.release()
	if err := s.tree.acquire(ctx); err != nil {
		return err
	}
	defer s.tree.release()
	if sub != nil {
		model := name
		if e := s.names[name]; e != nil {
			model = e.info.Name
		}
		if err := sub.Subscribe(ctx, s.user, model, on); err != nil {
			return modelError("subscribe to "+name, err)
		}
		return s.refresh(context.WithoutCancel(ctx))
	}
	rec := s.rec.clone()
	i, found := slices.BinarySearch(rec.Subscribed, name)
	switch {
	case on && !found:
		rec.Subscribed = slices.Insert(rec.Subscribed, i, name)
	case !on && found:
		rec.Subscribed = slices.Delete(rec.Subscribed, i, i+1)
	default:
		return nil
	}
	return s.save(ctx, rec)
}

package imapmodel

import (
	"context"
	"slices"
	"sync"

	"github.com/rookery-mail/rookery/imapserver"
)

// accountSession is an account as one connection sees it.
type accountSession struct {
	*account
	closed sync.Once
}

var _ imapserver.Account = (*accountSession)(nil)

func (s *accountSession) Separator() rune { return s.b.opts.Separator }

func (s *accountSession) Mailboxes(ctx context.Context) ([]imapserver.MailboxInfo, error) {
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	infos := make([]imapserver.MailboxInfo, 0, len(s.list))
	for _, e := range s.list {
		info := imapserver.MailboxInfo{
			Name: e.name, NoSelect: e.info.NoSelect, NoInferior: e.info.NoInferiors,
			Missing: e.info.Missing, Subscribed: s.subscribed(e),
			SpecialUse: e.info.SpecialUse, Attrs: e.info.Attrs,
		}
		if s.b.state != nil {
			info.ID = s.rec.Mailboxes[e.name].ID
		}
		infos = append(infos, info)
	}
	if s.keepsSubscriptions() {
		infos = append(infos, s.missing()...)
		slices.SortFunc(infos, func(x, y imapserver.MailboxInfo) int {
			if x.Name < y.Name {
				return -1
			} else if x.Name > y.Name {
				return 1
			}
			return 0
		})
	}
	return infos, nil
}

// keepsSubscriptions reports whether it is the record that has subscriptions.
func (a *account) keepsSubscriptions() bool {
	return a.b.parts.subscriber == nil && a.b.opts.KeepSubscriptions
}

// subscribed is asked for with mu held.
func (a *account) subscribed(e *entry) bool {
	switch {
	case a.b.parts.subscriber != nil:
		return e.info.Subscribed
	case a.b.opts.KeepSubscriptions:
		_, found := slices.BinarySearch(a.rec.Subscribed, e.name)
		return found
	}
	return true
}

// missing returns the subscriptions to mailboxes that do not exist; mu is held.
func (a *account) missing() []imapserver.MailboxInfo {
	var infos []imapserver.MailboxInfo
	for _, name := range a.rec.Subscribed {
		if a.names[name] == nil {
			infos = append(infos, imapserver.MailboxInfo{Name: name, Missing: true, Subscribed: true})
		}
	}
	return infos
}

func (s *accountSession) Status(ctx context.Context, name string) (*imapserver.Status, error) {
	bx, err := s.box(ctx, name)
	if err != nil {
		return nil, err
	}
	snap, err := bx.current(ctx)
	if err != nil {
		return nil, err
	}
	st := &imapserver.Status{
		Messages: uint32(snap.Len()), Recent: uint32(snap.Recent()),
		Unseen: uint32(snap.Unseen()), Deleted: uint32(snap.Deleted()),
		UIDNext: snap.UIDNext(), UIDValidity: snap.UIDValidity(),
		HighestModSeq: snap.HighestModSeq(), Size: snap.Size(), DeletedStorage: snap.DeletedSize(),
	}
	if s.b.state != nil {
		st.ID = bx.id
	}
	return st, nil
}

func (s *accountSession) Mailbox(ctx context.Context, name string) (imapserver.Mailbox, error) {
	bx, err := s.box(ctx, name)
	if err != nil {
		return nil, err
	}
	begun := bx.looks.Load()
	if _, err := bx.current(ctx); err != nil {
		return nil, err
	}
	model := bx.modelName()
	if hook := s.b.parts.selectHook; hook != nil {
		if err := hook.Selected(ctx, s.user, model); err != nil {
			return nil, modelError("open "+name, err)
		}
	}
	return bx.open(ctx, model, begun), nil
}

func (s *accountSession) Close() error {
	s.closed.Do(func() {
		if hook := s.b.parts.userHook; hook != nil {
			hook.LoggedOut(s.user)
		}
		s.b.leave(s.account)
	})
	return nil
}

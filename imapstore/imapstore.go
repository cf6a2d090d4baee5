// Package imapstore shows a mailstore.Store to the protocol engine: it is an
// imapserver.Backend. It only translates; the rules of mail are in mailstore.
//
// Start with [New].
package imapstore

import (
	"context"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore"
)

// Backend serves the accounts of a store. It makes an account for every user
// that the server has authenticated.
type Backend struct{ store *mailstore.Store }

var (
	_ imapserver.Backend     = (*Backend)(nil)
	_ imapserver.SearchIndex = mailbox{}
)

// New returns a back end over a store, which stays the caller's to close.
func New(store *mailstore.Store) *Backend { return &Backend{store} }

// Features implements imapserver.Backend.
func (b *Backend) Features() imapserver.Features {
	return imapserver.FeatureHistory | imapserver.FeatureObjectID | imapserver.FeatureSaveDate |
		imapserver.FeatureAppend | imapserver.FeatureMultiAppend | imapserver.FeatureCopy |
		imapserver.FeatureMove | imapserver.FeatureMailboxes | imapserver.FeatureSubscribe |
		imapserver.FeatureSpecialUse | imapserver.FeatureBinary | imapserver.FeatureUTF8
}

// Open implements imapserver.Backend.
func (b *Backend) Open(ctx context.Context, user string) (imapserver.Account, error) {
	a, err := b.store.Account(ctx, user)
	if err != nil {
		return nil, err
	}
	return account{a}, nil
}

type account struct{ a *mailstore.Account }

func (account) Separator() rune { return mailstore.Separator }

func (a account) Mailboxes(context.Context) ([]imapserver.MailboxInfo, error) {
	list := a.a.Mailboxes()
	infos := make([]imapserver.MailboxInfo, len(list))
	for i, m := range list {
		infos[i] = imapserver.MailboxInfo{
			Name: m.Name, NoSelect: m.NoSelect, Missing: m.Missing, Subscribed: m.Subscribed,
			SpecialUse: m.SpecialUse, ID: m.ID,
		}
	}
	return infos, nil
}

func (a account) Status(_ context.Context, name string) (*imapserver.Status, error) {
	s, err := a.a.Status(name)
	if err != nil {
		return nil, err
	}
	return &imapserver.Status{
		Messages: s.Messages, Recent: s.Recent, Unseen: s.Unseen, Deleted: s.Deleted,
		UIDNext: s.UIDNext, UIDValidity: s.UIDValidity, HighestModSeq: s.HighestModSeq,
		Size: s.Size, DeletedStorage: s.DeletedSize, ID: s.ID,
	}, nil
}

func (a account) Mailbox(ctx context.Context, name string) (imapserver.Mailbox, error) {
	m, err := a.a.Mailbox(ctx, name)
	if err != nil {
		return nil, err
	}
	return mailbox{m}, nil
}

func (a account) Create(ctx context.Context, name string, opts imapserver.CreateOptions) (imap.ObjectID, error) {
	return a.a.Create(ctx, name, opts.SpecialUse)
}

func (a account) Delete(ctx context.Context, name string) error { return a.a.Delete(ctx, name) }

func (a account) Rename(ctx context.Context, from, to string) error { return a.a.Rename(ctx, from, to) }

func (a account) Subscribe(ctx context.Context, name string, on bool) error {
	return a.a.Subscribe(ctx, name, on)
}

func (a account) Upload(ctx context.Context, size int64) (imapserver.Upload, error) {
	u, err := a.a.Upload(ctx, size)
	if err != nil {
		return nil, err
	}
	return u, nil
}

func (a account) Append(ctx context.Context, name string, msgs []imapserver.AppendMessage) (*imapserver.AppendResult, error) {
	items := make([]mailstore.AppendItem, len(msgs))
	for i, m := range msgs {
		u, ok := m.Upload.(*mailstore.Upload)
		if !ok {
			for _, m := range msgs {
				m.Upload.Discard()
			}
			return nil, imap.E("imapstore: append an upload of another back end", imap.ServerBug, nil)
		}
		items[i] = mailstore.AppendItem{Upload: u, Flags: m.Flags, Date: m.Date}
	}
	res, err := a.a.Append(ctx, name, items)
	if err != nil {
		return nil, err
	}
	return &imapserver.AppendResult{UIDValidity: res.UIDValidity, UIDs: res.UIDs}, nil
}

// Close does nothing: accounts belong to the store.
func (account) Close() error { return nil }

type mailbox struct{ m *mailstore.Mailbox }

func (m mailbox) Snapshot(ctx context.Context) (*mailindex.Snapshot, error) { return m.m.Snapshot(ctx) }

func (m mailbox) ID() imap.ObjectID { return m.m.ID() }

func (mailbox) ReadOnly() bool { return false }

func (mailbox) PermanentFlags() (flags []imap.Flag, newKeywords bool) {
	return []imap.Flag{imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagSeen, imap.FlagDraft}, true
}

func (m mailbox) Watch(wake func()) (stop func()) { return m.m.Watch(wake) }

func (m mailbox) ClaimRecent(ctx context.Context) (first, last imap.UID, err error) {
	first, last, err = m.m.ClaimRecent(ctx)
	if imap.KindOf(err) == imap.Unavailable {
		// Mail can be read while nothing can be written: a full disk must not
		// keep a mailbox from being opened. Nobody gets \Recent then.
		return 1, 0, nil
	}
	return first, last, err
}

func (m mailbox) Fetch(ctx context.Context, rows []mailindex.Row, need imapserver.Need, fn func(i int, m *imapserver.Message) error) error {
	var out imapserver.Message
	return m.m.Fetch(ctx, rows, needs(need), func(i int, msg *mailstore.Message) error {
		out = imapserver.Message{
			Digest: msg.Digest, Wire: msg.Wire, Fields: msg.Fields, Header: msg.Header, Body: msg.Body, Size: msg.Size, Raw: msg.Raw, RawSize: msg.RawSize,
			Text: msg.Text, EmailID: msg.EmailID, ThreadID: msg.ThreadID, Err: msg.Err,
		}
		return fn(i, &out)
	})
}

func (m mailbox) Search(ctx context.Context, view *mailindex.Snapshot, term *imapserver.SearchTerm, answers []imapserver.SearchAnswer) error {
	t := mailstore.Term{Text: term.Text, Sent: (*mailstore.SentDays)(term.Sent), Narrow: term.Narrow}
	// The two types have the same values, for the same reason.
	list := make([]mailstore.Answer, len(answers))
	for i, a := range answers {
		list[i] = mailstore.Answer(a)
	}
	if err := m.m.Search(ctx, view, &t, list); err != nil {
		return err
	}
	for i, a := range list {
		answers[i] = imapserver.SearchAnswer(a)
	}
	return nil
}

func needs(need imapserver.Need) mailstore.Need {
	var n mailstore.Need
	for _, pair := range [...]struct {
		from imapserver.Need
		to   mailstore.Need
	}{
		{imapserver.NeedDigest, mailstore.NeedDigest},
		{imapserver.NeedHeader, mailstore.NeedHeader},
		{imapserver.NeedBody, mailstore.NeedBody},
		{imapserver.NeedText, mailstore.NeedText},
		{imapserver.NeedIDs, mailstore.NeedIDs},
		{imapserver.NeedWire, mailstore.NeedWire},
		{imapserver.NeedFields, mailstore.NeedFields},
		{imapserver.NeedSound, mailstore.NeedSound},
	} {
		if need&pair.from != 0 {
			n |= pair.to
		}
	}
	return n
}

func (m mailbox) Store(ctx context.Context, req *imapserver.StoreRequest) (*imapserver.StoreResult, error) {
	ops := map[imapserver.FlagOp]mailstore.FlagOp{
		imapserver.FlagsReplace: mailstore.FlagsReplace,
		imapserver.FlagsAdd:     mailstore.FlagsAdd,
		imapserver.FlagsRemove:  mailstore.FlagsRemove,
	}
	res, err := m.m.Store(ctx, &mailstore.StoreRequest{
		UIDs: req.UIDs, Op: ops[req.Op], Flags: req.Flags,
		UnchangedSince: req.UnchangedSince, HasUnchangedSince: req.HasUnchangedSince,
	})
	if err != nil {
		return nil, err
	}
	return &imapserver.StoreResult{ModSeq: res.ModSeq, Modified: res.Modified, Missing: res.Missing}, nil
}

func (m mailbox) Copy(ctx context.Context, uids imap.UIDSet, dest string, move bool) (*imapserver.CopyResult, error) {
	do := m.m.Copy
	if move {
		do = m.m.Move
	}
	res, err := do(ctx, uids, dest)
	if err != nil {
		return nil, err
	}
	return &imapserver.CopyResult{UIDValidity: res.UIDValidity, Source: res.Source, Dest: res.Dest}, nil
}

func (m mailbox) Expunge(ctx context.Context, uids *imap.UIDSet) error { return m.m.Expunge(ctx, uids) }

func (m mailbox) Expunged(ctx context.Context, since imap.ModSeq) (imap.UIDSet, bool, error) {
	return m.m.Expunged(ctx, since)
}

func (m mailbox) Release(upTo imap.ModSeq) { m.m.Release(upTo) }

func (m mailbox) Close() error { return m.m.Close() }

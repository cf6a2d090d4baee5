package memory

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapmodel"
)

// journal is how to undo what was done in an Atomically.
type journal struct{ undo []func() }

type journalKey struct{}

// did notes how to undo a change, if ctx is that of an Atomically; mu is held,
// as it will be when undo is called.
func did(ctx context.Context, undo func()) {
	if j, ok := ctx.Value(journalKey{}).(*journal); ok {
		j.undo = append(j.undo, undo)
	}
}

// Atomically runs several changes of messages, all or none. Other sessions may
// see a part of them while do runs.
func (m *Model) Atomically(ctx context.Context, user string, do func(context.Context) error) error {
	if ctx.Value(journalKey{}) != nil {
		return do(ctx) // inside another one
	}
	j := &journal{}
	err := do(context.WithValue(ctx, journalKey{}, j))
	if err == nil {
		return nil
	}
	m.mu.Lock()
	for _, undo := range slices.Backward(j.undo) {
		undo()
	}
	m.mu.Unlock()
	m.notify(user, "")
	return err
}

// Append adds a message.
func (m *Model) Append(ctx context.Context, user, mailbox string, msg *imapmodel.NewMessage) (key string, err error) {
	text, err := io.ReadAll(msg.Text)
	if err != nil {
		return "", err
	}
	m.mu.Lock()
	b, err := m.mailbox(user, mailbox)
	if err == nil {
		key = m.store(b, text, msg.Flags, msg.Date).key
		did(ctx, func() { b.take([]string{key}) })
	}
	m.mu.Unlock()
	m.notify(user, mailbox)
	return key, err
}

// SetFlags adds flags and takes flags away.
func (m *Model) SetFlags(ctx context.Context, user, mailbox string, keys []string, add, remove []imap.Flag) error {
	m.mu.Lock()
	b, err := m.mailbox(user, mailbox)
	if err == nil {
		m.setFlags(ctx, b, keys, add, remove)
	}
	m.mu.Unlock()
	m.notify(user, mailbox)
	return err
}

func (m *Model) setFlags(ctx context.Context, b *mailbox, keys []string, add, remove []imap.Flag) {
	changed := map[*stored]*stored{}
	for _, key := range keys {
		if s := b.byKey[key]; s != nil {
			after := *s
			after.flags = imapmodel.ChangeFlags(s.flags, add, remove)
			changed[s] = &after
			b.byKey[key] = &after
			did(ctx, func() {
				if b.byKey[key] != nil {
					b.replace(s)
				}
			})
		}
	}
	for i, s := range b.messages {
		if after := changed[s]; after != nil {
			b.messages[i] = after
		}
	}
}

// Remove removes messages.
func (m *Model) Remove(ctx context.Context, user, mailbox string, keys []string) error {
	m.mu.Lock()
	b, err := m.mailbox(user, mailbox)
	if err == nil {
		before := slices.Clone(b.messages)
		taken := b.take(keys)
		did(ctx, func() { b.putBack(before, taken) })
	}
	m.mu.Unlock()
	m.notify(user, mailbox)
	return err
}

// putBack undoes take: the messages go back to where they stood in before.
func (b *mailbox) putBack(before []*stored, taken []*stored) {
	for _, s := range taken {
		b.byKey[s.key] = s
	}
	var order []*stored
	seen := map[string]bool{}
	for _, s := range before {
		if now := b.byKey[s.key]; now != nil {
			order = append(order, now)
			seen[s.key] = true
		}
	}
	for _, s := range b.messages {
		if !seen[s.key] {
			order = append(order, s)
		}
	}
	b.messages = order
}

// Copy copies messages. Copies share their text.
func (m *Model) Copy(_ context.Context, user, from string, keys []string, to string) (newKeys []string, err error) {
	m.mu.Lock()
	newKeys, err = m.copyAll(user, from, keys, to)
	m.mu.Unlock()
	m.notify(user, to)
	return newKeys, err
}

// copyAll copies messages, all or none; mu is held.
func (m *Model) copyAll(user, from string, keys []string, to string) (newKeys []string, err error) {
	src, err := m.mailbox(user, from)
	if err != nil {
		return nil, err
	}
	dst, err := m.mailbox(user, to)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if src.byKey[key] == nil {
			return nil, imap.E("memory: copy message "+key, imap.ExpungeIssued, nil)
		}
	}
	for _, key := range keys {
		s := src.byKey[key]
		newKeys = append(newKeys, m.store(dst, s.text, s.flags, s.date).key)
	}
	return newKeys, nil
}

// Move moves messages.
func (m *Model) Move(_ context.Context, user, from string, keys []string, to string) (newKeys []string, err error) {
	m.mu.Lock()
	newKeys, err = m.copyAll(user, from, keys, to)
	if err == nil {
		m.users[user].mailboxes[from].take(keys)
	}
	m.mu.Unlock()
	m.notify(user, from)
	m.notify(user, to)
	return newKeys, err
}

// CreateMailbox makes a mailbox.
func (m *Model) CreateMailbox(_ context.Context, user, name string, specialUse []imap.MailboxAttr) error {
	m.mu.Lock()
	u := m.user(user)
	b := u.mailboxes[name]
	exists := b != nil && !b.info.NoSelect
	switch {
	case b == nil:
		u.mailboxes[name] = newMailbox(imapmodel.Mailbox{Name: name, SpecialUse: specialUse})
	case !exists:
		b.info.NoSelect, b.info.SpecialUse = false, specialUse
	}
	m.mu.Unlock()
	if exists {
		return imap.E("memory: create "+name, imap.Exists, nil)
	}
	m.notify(user, "")
	return nil
}

// DeleteMailbox removes a mailbox with its messages.
func (m *Model) DeleteMailbox(_ context.Context, user, name string) error {
	m.mu.Lock()
	_, err := m.mailbox(user, name)
	if err == nil {
		delete(m.users[user].mailboxes, name)
	}
	m.mu.Unlock()
	m.notify(user, "")
	return err
}

// RenameMailbox renames a mailbox and all below it.
func (m *Model) RenameMailbox(_ context.Context, user, from, to string) error {
	m.mu.Lock()
	u := m.user(user)
	renamed := map[string]*mailbox{}
	for name, b := range u.mailboxes {
		if name == from || strings.HasPrefix(name, from+separator) {
			renamed[name] = b
		}
	}
	for name, b := range renamed {
		delete(u.mailboxes, name)
		b.info.Name = to + strings.TrimPrefix(name, from)
	}
	for _, b := range renamed {
		u.mailboxes[b.info.Name] = b
	}
	m.mu.Unlock()
	if len(renamed) == 0 {
		return imap.E("memory: rename "+from, imap.NotFound, nil)
	}
	m.notify(user, "")
	return nil
}

// Subscribe keeps a subscription or forgets it.
func (m *Model) Subscribe(_ context.Context, user, name string, on bool) error {
	m.mu.Lock()
	u := m.user(user)
	if on {
		u.subscribed[name] = true
	} else {
		delete(u.subscribed, name)
	}
	m.mu.Unlock()
	m.notify(user, "")
	return nil
}

package main

import (
	"context"
	"io"
	"net/mail"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapmodel"
)

// Features says which of the optional methods list has.
func (l *list) Features() imapmodel.Features {
	return imapmodel.FeatureAppend | imapmodel.FeatureFlags | imapmodel.FeatureRemove | imapmodel.FeatureWatch
}

// Mailboxes: one, with the flags that mean something.
func (l *list) Mailboxes(context.Context, string) ([]imapmodel.Mailbox, error) {
	return []imapmodel.Mailbox{{Name: "INBOX", Flags: []imap.Flag{imap.FlagSeen, imap.FlagDeleted}}}, nil
}

// Messages lists the items.
func (l *list) Messages(context.Context, string, string) ([]imapmodel.Message, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var msgs []imapmodel.Message
	for _, it := range l.items {
		m := imapmodel.Message{Key: it.key(), Version: it.Title, Date: it.Added}
		if it.Done {
			m.Flags = append(m.Flags, imap.FlagSeen)
		}
		if it.Deleted {
			m.Flags = append(m.Flags, imap.FlagDeleted)
		}
		msgs = append(msgs, m)
	}
	return msgs, nil
}

// Open writes an item as a message.
func (l *list) Open(_ context.Context, _, _, key string) (io.ReadCloser, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.items, func(it item) bool { return it.key() == key })
	if i < 0 {
		return nil, imap.E("todo: open item "+key, imap.NotFound, nil)
	}
	return imapmodel.OpenBytes(imapmodel.Compose(&imapmodel.Draft{
		From:    mail.Address{Name: "To do", Address: "todo@example.org"},
		Subject: l.items[i].Title,
		Date:    l.items[i].Added,
		Text:    "Mark this message as read when it is done.\n",
	})), nil
}

// Append makes an item of a message: its subject.
func (l *list) Append(_ context.Context, _, _ string, msg *imapmodel.NewMessage) (string, error) {
	m, err := mail.ReadMessage(msg.Text)
	if err != nil || m.Header.Get("Subject") == "" {
		return "", imap.No("", "A message without a subject is nothing to do")
	}
	return l.add(m.Header.Get("Subject"))
}

// SetFlags does items, and marks them as deleted.
func (l *list) SetFlags(_ context.Context, _, _ string, keys []string, add, remove []imap.Flag) error {
	set := func(field *bool, flag imap.Flag) {
		*field = *field && !imapmodel.HasFlag(remove, flag) || imapmodel.HasFlag(add, flag)
	}
	return l.change(func(items []item) []item {
		for i := range items {
			if slices.Contains(keys, items[i].key()) {
				set(&items[i].Done, imap.FlagSeen)
				set(&items[i].Deleted, imap.FlagDeleted)
			}
		}
		return items
	})
}

// Remove takes items off the list.
func (l *list) Remove(_ context.Context, _, _ string, keys []string) error {
	return l.change(func(items []item) []item {
		return slices.DeleteFunc(items, func(it item) bool {
			return slices.Contains(keys, it.key())
		})
	})
}

// Watch tells mail programs of what changes.
func (l *list) Watch(changed func(user, mailbox string)) (stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed = changed
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.changed = nil
	}
}

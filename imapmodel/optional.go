package imapmodel

import (
	"context"
	"io"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapserver"
)

// Every method here returns when its change is durable, in the model's own
// sense: the client is told OK then. The mailbox is listed again afterwards, so
// a model is free to do more than it was asked, or something else.

// NewMessage is a message that a client adds.
type NewMessage struct {
	Text  io.Reader // the message, Size bytes, valid until the method returns
	Size  int64
	Flags []imap.Flag // canonical case, without doubles and \Recent
	Date  time.Time   // the internal date, never zero
}

// Appender is a model to which clients add messages (FeatureAppend).
type Appender interface {
	// Append adds a message to a mailbox and returns its key. It may refuse,
	// with the words of its choice: imap.No("", "no mail on Sundays"). A model
	// that takes a message without showing it in this mailbox returns "".
	Append(ctx context.Context, user, mailbox string, msg *NewMessage) (key string, err error)
}

// Flagger is a model that keeps the flags of messages (FeatureFlags).
type Flagger interface {
	// SetFlags adds the flags in add to the messages and takes those in remove
	// away. Other flags stay as they are. Keys that are gone are skipped.
	// [ChangeFlags] does the arithmetic.
	SetFlags(ctx context.Context, user, mailbox string, keys []string, add, remove []imap.Flag) error
}

// Remover is a model from which clients expunge messages (FeatureRemove).
type Remover interface {
	// Remove removes messages for good. Keys that are gone are skipped.
	Remove(ctx context.Context, user, mailbox string, keys []string) error
}

// MailboxEditor is a model whose mailboxes clients may change
// (FeatureMailboxes). Names are checked and normalised before.
type MailboxEditor interface {
	// CreateMailbox makes a mailbox. The one above it exists.
	CreateMailbox(ctx context.Context, user, name string, specialUse []imap.MailboxAttr) error

	// DeleteMailbox removes a mailbox with its messages, and leaves those below
	// it. A model that cannot do without the parent returns imap.HasChildren.
	DeleteMailbox(ctx context.Context, user, name string) error

	// RenameMailbox renames a mailbox and all that are below it, in one step.
	// It is not called for INBOX. from need not be a mailbox itself where there
	// are some below it. The mailbox above to exists, to does not. Messages
	// keep their keys and versions.
	RenameMailbox(ctx context.Context, user, from, to string) error
}

// Subscriber is a model that keeps subscriptions (FeatureSubscribe) and shows
// them in Mailbox.Subscribed. Without one see Options.KeepSubscriptions.
type Subscriber interface {
	// Subscribe adds a name to the user's subscriptions or takes it away. The
	// mailbox need not exist.
	Subscribe(ctx context.Context, user, name string, on bool) error
}

// Transactor is a model that can make several changes in one step
// (FeatureAtomic). With it the server announces MULTIAPPEND, and a COPY, MOVE or
// STORE of several messages happens whole or not at all.
type Transactor interface {
	// Atomically calls do once, with a context made from ctx. What the model's
	// own methods change when they are called with that context, for the same
	// user, becomes durable when do returns nil, and is undone when it returns
	// an error, which Atomically returns.
	Atomically(ctx context.Context, user string, do func(ctx context.Context) error) error
}

// Copier is a model that can copy messages itself (FeatureCopy). Without one
// the text is read and appended.
type Copier interface {
	// Copy copies messages, with flags and dates, to another mailbox or the
	// same, all or none. It returns the new keys in the order of keys.
	Copy(ctx context.Context, user, from string, keys []string, to string) (newKeys []string, err error)
}

// Mover is a model that can move messages itself (FeatureMove). Without one
// they are copied and then removed.
type Mover interface {
	// Move moves messages, with flags and dates, to another mailbox, all or
	// none. It returns the new keys in the order of keys.
	Move(ctx context.Context, user, from string, keys []string, to string) (newKeys []string, err error)
}

// Searcher is a model that can tell for many messages at once which of them a
// SEARCH looks for (FeatureSearch), from a database's own index, say. Without it
// each message that flags, dates and sizes leave open is opened and read.
type Searcher interface {
	// Search answers term, a single key of a search, for the messages named by
	// keys: all of answers, of which the i-th is that of keys[i], are
	// imapserver.SearchOpen, and it makes those SearchYes or SearchNo that it
	// knows. What it leaves open is looked up in the message, so an index may be
	// incomplete, or only tell who does not match; but what it says must be what
	// the text of the message says, as [imapserver.SearchTerm] has it. Keys that
	// are gone are left open. What keeps the index alone from being read is no
	// error: then everything stays open.
	Search(ctx context.Context, user, mailbox string, term *imapserver.SearchTerm, keys []string, answers []imapserver.SearchAnswer) error
}

// Watcher is a model that knows when it has changed (FeatureWatch). Then
// mailboxes are listed only after it said so, and clients that idle are told
// at once. It must not stay silent about any change that the framework did not
// make itself; saying too much only costs time.
type Watcher interface {
	// Watch is called once, by New. From then on the model calls changed after
	// each change, when Mailboxes and Messages already show it: with the mailbox
	// whose messages changed; with mailbox "" when the list of mailboxes did, or
	// anything of the user; with user "" too when it cannot tell whose. changed
	// never blocks, and may be called by any goroutine and with locks held.
	// After stop it has no effect.
	Watch(changed func(user, mailbox string)) (stop func())
}

// SelectHook is told when clients open and close mailboxes (FeatureSelect).
// One mailbox may be open many times.
type SelectHook interface {
	// Selected is called before a client sees the mailbox; an error keeps it
	// closed.
	Selected(ctx context.Context, user, mailbox string) error
	// Unselected is called once for each Selected that returned nil.
	Unselected(user, mailbox string)
}

// UserHook is told when users come and go (FeatureUser).
type UserHook interface {
	// LoggedIn is called for each connection after its login; an error ends
	// the login.
	LoggedIn(ctx context.Context, user string) error
	// LoggedOut is called once for each LoggedIn that returned nil.
	LoggedOut(user string)
}

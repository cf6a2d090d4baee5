package imapmodel

import (
	"context"
	"io"
	"time"

	"github.com/rookery-mail/rookery/imap"
)

// Model is your data, seen as mailboxes that hold messages. One value serves
// all users: each method is told for whom, and in which mailbox, it works.
// What a model can do beyond reading it declares in Features and implements as
// the interface that belongs to each (see [Features]).
//
// All methods may be called by many goroutines at once. Writes of one user
// come one after the other. ctx ends when the client is gone or has waited too
// long; a method that may wait heeds it.
//
// Errors: an *imap.Error reaches the client as its kind says (imap.E), or in
// the model's own words (imap.No, imap.Bad). Any other error is a fault of the
// server: the client is told NO [SERVERBUG] and no more, the log has the cause.
// Where a mailbox or message is missing, the kind is imap.NotFound; an error
// that is fs.ErrNotExist says so, too.
type Model interface {
	// Features says what the model can do. The answer never changes.
	Features() Features

	// Mailboxes lists the user's mailboxes, in any order. It is asked again
	// whenever the list may have changed, so mailboxes may come and go.
	// Parents that are no mailboxes themselves may be left out. Where there is
	// no INBOX, clients see an empty one.
	Mailboxes(ctx context.Context, user string) ([]Mailbox, error)

	// Messages lists a mailbox: one Message for each message that it has now.
	// New messages appear to clients in the order of the list. mailbox is a
	// name that Mailboxes returned.
	Messages(ctx context.Context, user, mailbox string) ([]Message, error)

	// Open returns the text of a message in the form of RFC 5322: header, blank
	// line, body, with CRLF at the ends of lines. The same key and version give
	// the same bytes every time. For text with bare LF see [CRLF], for data
	// without such a text [Compose].
	Open(ctx context.Context, user, mailbox, key string) (io.ReadCloser, error)
}

// Mailbox describes a mailbox. Only Name is needed.
type Mailbox struct {
	// Name is in UTF-8, its levels parted by Options.Separator ("Work/2024").
	// The name INBOX is special and has no case.
	Name string

	NoSelect    bool // it only holds other mailboxes
	NoInferiors bool // it cannot have mailboxes below it
	ReadOnly    bool // messages and flags in it cannot be changed by clients

	// Subscribed counts for models with FeatureSubscribe only. Missing marks a
	// name that the user is subscribed to although there is no such mailbox.
	Subscribed, Missing bool

	// SpecialUse says what it is for (RFC 6154): imap.AttrSent. A model with
	// FeatureSpecialUse has it announced.
	SpecialUse []imap.MailboxAttr
	Attrs      []imap.MailboxAttr // other attributes to show: imap.AttrMarked

	// Flags are those that clients may set here; imap.FlagAny among them
	// allows keywords of their own making. nil allows all.
	Flags []imap.Flag

	// UIDValidity is for models whose messages bring UIDs that are kept for
	// good (see Message.UID); it must rise whenever they are given anew. 0
	// leaves it to the framework.
	UIDValidity imap.UIDValidity
}

// Message describes a message. Only Key is needed.
type Message struct {
	// Key names the message in its mailbox; clients never see it. A key that
	// vanishes from the list is an expunged message.
	Key string

	// Version changes whenever the text of the message does: messages never
	// change in IMAP, so the old version is expunged and a new message appears.
	Version string

	// Flags of the message, in any order. Where the model does not declare
	// FeatureFlags these are the ones it begins with (see Options.KeepFlags).
	Flags []imap.Flag

	// Date is the internal date; zero means the time at which the message was
	// first seen. Like Size, it counts when the message is first seen: what
	// changes later under the same Key and Version is not looked at.
	Date time.Time

	// Size is the number of bytes that Open gives; 0 means unknown. Then the
	// message is read once, when it is first seen.
	Size int64

	// UID is for models that number their messages themselves: ascending in
	// the order of arrival, never used twice. 0 leaves it to the framework, as
	// does a UID that breaks the rule.
	UID imap.UID

	// HasNUL says that the text holds NUL bytes, as messages appended with
	// BINARY may. Only models with FeatureBinary need it.
	HasNUL bool
}

// Features is a set of things that a model can do. For each that names an
// interface, [New] checks that the model implements it. A feature that is not
// declared is not used, even where its methods exist: a type that embeds a
// model can hide what it does not want by declaring less.
type Features uint32

// The features.
const (
	FeatureAppend    Features = 1 << iota // [Appender]: clients add messages
	FeatureFlags                          // [Flagger]: the model keeps flags
	FeatureRemove                         // [Remover]: clients expunge messages
	FeatureMailboxes                      // [MailboxEditor]: clients create, delete, rename mailboxes
	FeatureSubscribe                      // [Subscriber]: the model keeps subscriptions
	FeatureAtomic                         // [Transactor]: several changes at once, all or none
	FeatureCopy                           // [Copier]: copies without reading and appending
	FeatureMove                           // [Mover]: moves without copying and removing
	FeatureWatch                          // [Watcher]: the model says when something has changed
	FeatureSelect                         // [SelectHook]: is told when mailboxes are opened and closed
	FeatureUser                           // [UserHook]: is told when users come and go
	FeatureSearch                         // [Searcher]: answers SEARCH from an index of its own

	FeatureSpecialUse // mailboxes may have special uses (RFC 6154); CreateMailbox, where there is one, takes them
	FeatureBinary     // messages may hold NUL bytes (RFC 3516)
	FeatureUTF8       // headers may hold UTF-8 (RFC 9755)
)

// Has reports whether all of want are in f.
func (f Features) Has(want Features) bool { return f&want == want }

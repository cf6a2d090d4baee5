package imapserver

import (
	"context"
	"io"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/message"
)

// Backend is the rich seam: what the protocol engine needs of whatever keeps
// the mail. Two packages implement it: imapstore over the project's own store,
// and imapmodel over a small model of about ten methods. Who has data of their
// own to show wants imapmodel.
//
// Errors that cross the seam are *imap.Error; their kinds choose the response
// code. Any other error is NO [SERVERBUG] to the client and a line in the log.
// All methods of all interfaces here are safe for concurrent use unless they
// say otherwise.
type Backend interface {
	// Features says what this back end can do. New checks the declaration, and
	// a capability that needs what is not declared is not announced. The answer
	// never changes.
	Features() Features

	// Open returns the account of an authenticated user, making it where it is
	// missing. The engine calls Close on what it was given; each connection has
	// an Account value of its own.
	Open(ctx context.Context, user string) (Account, error)
}

// Features is a set of things that a back end can do.
type Features uint32

// The features. What is missing is refused with NO [CANNOT] or not announced.
const (
	// FeatureHistory: MODSEQ and the history of expunges outlive a restart, or
	// a restart gives a new UIDVALIDITY. Needed by CONDSTORE and QRESYNC.
	FeatureHistory Features = 1 << iota
	// FeatureObjectID: mailbox, message and thread identifiers that never
	// change once reported (RFC 8474).
	FeatureObjectID
	// FeatureSaveDate: rows have a save date (RFC 8514).
	FeatureSaveDate
	// FeatureAppend: Upload and Append work.
	FeatureAppend
	// FeatureMultiAppend: an Append of several messages is all or nothing.
	FeatureMultiAppend
	// FeatureCopy: Copy works; FeatureMove: with move set, too.
	FeatureCopy
	FeatureMove
	// FeatureMailboxes: Create, Delete and Rename work.
	FeatureMailboxes
	// FeatureSubscribe: subscriptions are kept.
	FeatureSubscribe
	// FeatureSpecialUse: CreateOptions.SpecialUse is honoured (RFC 6154).
	FeatureSpecialUse
	// FeatureBinary: messages may hold NUL (RFC 3516).
	FeatureBinary
	// FeatureUTF8: headers may hold UTF-8 (RFC 9755).
	FeatureUTF8
)

// Has reports whether all of want are in f.
func (f Features) Has(want Features) bool { return f&want == want }

// Account is the mail of one user, as one connection sees it. Mailbox names
// are UTF-8 in NFC with the hierarchy separator that Separator returns, INBOX
// in capitals; the engine has checked and normalised them.
type Account interface {
	// Separator is the hierarchy separator, or 0 where names are flat.
	Separator() rune

	// Mailboxes returns all mailboxes, sorted by name, a parent before its
	// children. Parents that do not exist themselves may be left out: the
	// engine infers them. Subscribed names of mailboxes that do not exist are
	// returned with Missing set.
	Mailboxes(ctx context.Context) ([]MailboxInfo, error)

	// Status returns the counters of one mailbox. Kind NotFound where there is
	// none.
	Status(ctx context.Context, name string) (*Status, error)

	// Mailbox opens a mailbox for one session. Kind NotFound where there is
	// none, Cannot where it cannot be selected.
	Mailbox(ctx context.Context, name string) (Mailbox, error)

	// Create makes a mailbox, and missing parents with it. Kind Exists where
	// there is one.
	Create(ctx context.Context, name string, opts CreateOptions) (imap.ObjectID, error)

	// Delete removes a mailbox and its messages. Where it has children, the
	// name stays as a parent that cannot be selected. Kind NotFound where there
	// is none, HasChildren where such a parent still has children.
	Delete(ctx context.Context, name string) error

	// Rename renames a mailbox and all below it; renaming INBOX moves its
	// messages to a new mailbox and leaves INBOX and its children (RFC 9051
	// section 6.3.6). Kinds NotFound and Exists.
	Rename(ctx context.Context, from, to string) error

	// Subscribe adds a name to the subscriptions or takes it away. The mailbox
	// need not exist.
	Subscribe(ctx context.Context, name string, on bool) error

	// Upload takes the bytes of a message that will be appended. size is exact.
	Upload(ctx context.Context, size int64) (Upload, error)

	// Append adds messages to a mailbox, all or none, and returns when they are
	// durable. It consumes the uploads, whatever it returns. Kind NotFound
	// where the mailbox is missing.
	Append(ctx context.Context, name string, msgs []AppendMessage) (*AppendResult, error)

	// Close ends the use of the account by this connection.
	Close() error
}

// MailboxInfo describes a mailbox for LIST.
type MailboxInfo struct {
	Name       string
	NoSelect   bool // exists as a parent only
	NoInferior bool // cannot have children
	Missing    bool // subscribed to, but does not exist
	Subscribed bool
	SpecialUse []imap.MailboxAttr // RFC 6154
	Attrs      []imap.MailboxAttr // others, for example \Marked
	ID         imap.ObjectID      // RFC 8474; empty where the back end has none
}

// Status has the counters of a mailbox (RFC 9051 section 6.3.11).
type Status struct {
	Messages, Recent, Unseen, Deleted uint32
	UIDNext                           imap.UID
	UIDValidity                       imap.UIDValidity
	HighestModSeq                     imap.ModSeq
	Size                              int64 // sum of RFC822.SIZE
	DeletedStorage                    int64 // sum over messages with \Deleted
	ID                                imap.ObjectID
}

// CreateOptions are the parameters of CREATE (RFC 4466, RFC 6154).
type CreateOptions struct {
	SpecialUse []imap.MailboxAttr
}

// Upload receives the bytes of one message. It is used by one goroutine at a
// time. An upload that is not given to Append must be discarded.
type Upload interface {
	io.Writer
	// Discard forgets the upload. It may be called after Append, and twice.
	Discard()
}

// AppendMessage is one message of an APPEND.
type AppendMessage struct {
	Upload Upload
	Flags  []imap.Flag // without \Recent; may hold duplicates
	Date   imap.Time   // internal date; the zero value means now
}

// AppendResult says where the messages went.
type AppendResult struct {
	UIDValidity imap.UIDValidity
	UIDs        []imap.UID // in the order of the messages
}

// Mailbox is an open mailbox, as one session sees it. Copies of it in several
// sessions share their snapshots. It may be a [Poller] too, and a [SearchIndex]
// where its data can answer SEARCH faster than by reading message for message.
type Mailbox interface {
	// Snapshot returns the latest published state. It is called before and
	// after every command, so it must be cheap where nothing has changed; then
	// it returns the same pointer. A mailbox that has been deleted gives kind
	// NotFound. The engine shows the snapshot to its client at its leisure. While
	// the client idles it may leave the mailbox before Snapshot has returned: its
	// context ends then, and Close may be called meanwhile.
	Snapshot(ctx context.Context) (*mailindex.Snapshot, error)

	// ID returns the mailbox's object identifier, or "".
	ID() imap.ObjectID

	// ReadOnly reports whether nothing in this mailbox may be changed.
	ReadOnly() bool

	// PermanentFlags returns the flags that a client may change for good, and
	// whether it may make new keywords.
	PermanentFlags() (flags []imap.Flag, newKeywords bool)

	// Watch calls wake whenever Snapshot may return something new. wake does
	// not block. stop ends it.
	Watch(wake func()) (stop func())

	// ClaimRecent gives \Recent of all messages that no session has claimed yet
	// to the caller: those with UIDs from first to last; first > last where
	// there are none. No two calls give the same message, across restarts too.
	ClaimRecent(ctx context.Context) (first, last imap.UID, err error)

	// Fetch calls fn for each of the rows in order with what need asks for. The
	// rows may be of any snapshot that this session has not released, so they
	// may have been expunged meanwhile. *Message and what it holds is valid
	// until fn returns. A row whose message is gone gets m.Err. No lock is held
	// while fn runs.
	Fetch(ctx context.Context, rows []mailindex.Row, need Need, fn func(i int, m *Message) error) error

	// Store changes flags and returns when the change is durable and published.
	// UIDs that are not in the mailbox any more are left out of the result.
	Store(ctx context.Context, req *StoreRequest) (*StoreResult, error)

	// Copy copies messages to another mailbox or the same, all or none; with
	// move set they leave this one in the same step. UIDs that are gone are
	// skipped when moving (RFC 6851) and, when copying, copied if they can
	// still be read. Kind NotFound where dest is missing.
	Copy(ctx context.Context, uids imap.UIDSet, dest string, move bool) (*CopyResult, error)

	// Expunge removes the messages that have \Deleted and, unless uids is nil,
	// are in it; it returns when that is durable and published.
	Expunge(ctx context.Context, uids *imap.UIDSet) error

	// Expunged returns the UIDs that were expunged after the mod-sequence
	// since. complete is false where the history does not reach back so far;
	// the engine then falls back as RFC 7162 section 3.2.5.2 describes.
	Expunged(ctx context.Context, since imap.ModSeq) (uids imap.UIDSet, complete bool, err error)

	// Release says that this session will not read messages that had been
	// expunged by the given mod-sequence. Until then they stay readable.
	Release(upTo imap.ModSeq)

	// Close ends the session's use of the mailbox.
	Close() error
}

// Poller is implemented by a Mailbox that does not look at its data with every
// Snapshot. The engine calls it where somebody says that there is something new
// (Conn.Poll).
type Poller interface {
	// Poll makes the next Snapshot look again, however short ago the last look
	// was. It must not block. It may be called from any goroutine, and shortly
	// after Close too.
	Poll()
}

// Need says what a Fetch is to deliver.
type Need uint8

// The parts of a Message that can be asked for.
const (
	NeedDigest Need = 1 << iota // Digest
	NeedHeader                  // Header
	NeedBody                    // Body, Size, Raw, RawSize
	NeedText                    // Text
	NeedIDs                     // EmailID, ThreadID
	NeedWire                    // Wire; costs less than Digest
	NeedFields                  // Fields, or Header where they are not kept
	// NeedSound asks, with NeedBody, that damage of the content be found before
	// the Message is delivered, as its Err: the length of a literal is sent before
	// its octets are. FETCH sets it for items that need a Body. A back end that
	// cannot tell ignores it.
	NeedSound
)

// Message is what Fetch delivers of one message.
type Message struct {
	Digest   *message.Digest
	Wire     *message.Wire
	Fields   message.Fields
	Header   []byte      // the top-level header as served, with its blank line
	Body     io.ReaderAt // the whole message as served
	Size     int64       // of Body
	Raw      io.ReaderAt // the message as it was appended, RawSize bytes
	RawSize  int64
	Text     *message.Text
	EmailID  imap.ObjectID
	ThreadID imap.ObjectID // "" where there is none: sent as NIL
	Err      error         // why this message cannot be read
}

// FlagOp is what a STORE does with its flags.
type FlagOp uint8

// The operations of STORE.
const (
	FlagsReplace FlagOp = iota // FLAGS
	FlagsAdd                   // +FLAGS
	FlagsRemove                // -FLAGS
)

// StoreRequest is a STORE.
type StoreRequest struct {
	UIDs  imap.UIDSet
	Op    FlagOp
	Flags []imap.Flag
	// UnchangedSince, where HasUnchangedSince is set, leaves out messages whose
	// mod-sequence is greater (RFC 7162 section 3.1.3).
	UnchangedSince    imap.ModSeq
	HasUnchangedSince bool
}

// StoreResult is the outcome of a STORE.
type StoreResult struct {
	ModSeq   imap.ModSeq // of the messages that have changed; 0 where none has
	Modified imap.UIDSet // left out because of UnchangedSince
	Missing  imap.UIDSet // not in the mailbox any more
}

// CopyResult is the outcome of a COPY or MOVE: Source[i] became Dest[i].
type CopyResult struct {
	UIDValidity imap.UIDValidity // of the destination
	Source      []imap.UID
	Dest        []imap.UID
}

package imapserver

import (
	"context"

	"github.com/emersion/go-sasl"

	"github.com/rookery-mail/rookery/imapwire"
)

// Extension is a feature of the protocol: everything that the server knows of
// it stands in this value, and nowhere else. The extensions of this package
// are listed in builtin; Options.Extensions takes those of a user, which have
// the same slots. From the lists the server derives the capability line,
// ENABLE, the UID forms, the checks of state and the tables of the
// documentation. New refuses what contradicts itself or another extension: two
// owners of one name, names that no client could write, values without the
// functions that they need.
//
// The functions named Parse read what follows their word, which has been read;
// the blank behind it has not, where something follows (Decoder.SP). They are
// called while the command is being read, so they must change nothing: what is
// to happen goes into the options that they are given, or the value they return.
// What the client wrote wrongly is told with Decoder.Fail(expected, got): the
// command is answered with BAD, whatever else Parse returns. After that, as
// after any error of the decoder, everything that is read has its zero value, so
// only loops need to look at Decoder.Err. Parse leaves unread what comes behind:
// a blank, a closing parenthesis, the line's end.
//
// Names are taken in any case; they are atoms without "[".
//
// What changes the sequence view or the codec itself (IMAP4rev2, CONDSTORE and
// QRESYNC, UTF8=ACCEPT, LITERAL+) is in part a named feature of the core; its
// Extension has the rest.
type Extension struct {
	Name  string   // as people call it: "MOVE"
	RFC   string   // "6851", or "-" for one without
	Needs Features // of the back end; where one is missing the extension is off
	// Requires names extensions that this one promises to clients, or is built
	// upon: Options.Without may not take one of them away and leave this one.
	Requires []string

	Capabilities  []Capability
	Commands      []*Command
	FetchItems    []*FetchItem
	FetchMods     []*FetchModifier
	StoreMods     []*StoreModifier
	SearchKeys    []*SearchKey
	SearchReturns []*SearchReturn
	StatusItems   []*StatusItem
	ListSelects   []*ListSelect
	ListReturns   []*ListReturn
	SelectParams  []*SelectParam
	CreateParams  []*CreateParam
	AppendData    []*AppendData
	Enables       []*Enable
	Mechanisms    []*Mechanism
}

// Capability is a word of the capability line.
type Capability struct {
	Name string
	// When says whether it is announced to this connection now; nil means
	// always. It is asked for before and after login.
	When func(*Conn) bool
	// Name may depend on the server: Value, where set, gives what follows it.
	Value func(*Server) string
}

// States is a set of connection states (RFC 9051 section 3).
type States uint8

// The states.
const (
	NotAuthenticated States = 1 << iota
	Authenticated           // and no mailbox selected
	Selected

	AnyState = NotAuthenticated | Authenticated | Selected
	LoggedIn = Authenticated | Selected
)

// Command is a command of the protocol. Parse reads the arguments, from the blank
// behind the name to before the line's end, and returns what runs the command;
// the engine reads the line's end, checks that nothing was wrong, runs it, tells
// the client what changed in the mailbox, and writes the tagged reply from the
// error that Run returned. Run writes untagged responses to Call.Writer, whole
// lines; the text of the OK is set with Call.OK. Commands that work with messages
// read a set with Decoder.NumSet and give it to Call.Resolve when they run.
type Command struct {
	Name   string // "MOVE"
	Args   string // the ABNF of its arguments, for BAD answers and the reference
	States States
	UID    bool // has a UID form, "UID MOVE"
	// KeepSeq forbids EXPUNGE responses while the command runs in its form with
	// sequence numbers (RFC 9051 section 7.5.1); KeepSeqUID in its UID form too.
	KeepSeq    bool
	KeepSeqUID bool
	// Stream is for commands that read on from the connection while they run
	// (APPEND, IDLE, AUTHENTICATE, STARTTLS, COMPRESS): Parse reads as far as
	// it needs, and Run answers for the rest of the line, its end included.
	Stream bool

	// Parse must not return nil, unless it has failed.
	Parse func(c *Call, d *imapwire.Decoder) Run
}

// Run runs a parsed command. A nil error is OK; *imap.Error chooses NO or BAD
// and the response code by its kind; any other error is NO [SERVERBUG].
type Run func(ctx context.Context) error

// FetchItem is a data item of FETCH (RFC 9051 section 6.4.5).
type FetchItem struct {
	Name string // "ENVELOPE"; of items with a section, what stands before "["
	// Parse reads what follows the name, as "[" does, and returns the item for
	// this command. It may add to the other options. An error's text is what was
	// expected in place of the item: it becomes a BAD. nil means that nothing
	// follows.
	Parse func(c *Call, d *imapwire.Decoder, opts *FetchOptions) (*FetchAtt, error)
	// Att is the item where Parse is nil. All connections share it.
	Att *FetchAtt
}

// FetchAtt is one item of one FETCH command. Its functions are called by the
// goroutine that runs the command, for one message after the other.
type FetchAtt struct {
	Need Need // what Check and Write use of FetchMessage.Message
	Seen bool // reading it sets \Seen
	// Enables, where set, is called before the first response.
	Enables func(*Conn)
	// Check, where set, reports why the item cannot be written, before anything
	// of the message's response is. The message is left out then, and the
	// command ends with this error when the others have been written. Write is
	// called for the same message before Check is for the next, so an item that
	// Parse has made can keep for it what Check has found out.
	Check func(m *FetchMessage) error
	// Write writes the item's name, a blank and the value. It should not fail:
	// half a response cannot be taken back, so an error ends the connection.
	Write func(w *imapwire.Encoder, m *FetchMessage) error

	// sent is what the client sees of it where that depends on arguments, with
	// the octets it asks for: equal ones are written once.
	sent string
	// row appends what Write writes, for items that the index alone has; see rowAtt.
	row func(dst []byte, m *FetchMessage) []byte
}

// FetchModifier is a modifier of FETCH, in parentheses behind the items (RFC 4466
// section 2.4).
type FetchModifier struct {
	Name  string
	Parse func(c *Call, d *imapwire.Decoder, opts *FetchOptions)
}

// StoreModifier is a modifier of STORE (RFC 4466 section 2.5). It stands between
// the set and the flags, so Parse knows neither; StoreOptions.Before and After
// do.
type StoreModifier struct {
	Name  string
	Parse func(c *Call, d *imapwire.Decoder, opts *StoreOptions)
}

// SearchKey is a key of SEARCH (RFC 9051 section 6.4.4).
type SearchKey struct {
	Name string
	// Parse returns what decides whether a message matches; Row or Match of it
	// must be set.
	Parse func(c *Call, d *imapwire.Decoder) Matcher
}

// SearchReturn is a return option of SEARCH (RFC 4731).
type SearchReturn struct {
	Name string
	// Parse reads the option's arguments, if it has any; it may be nil.
	Parse func(c *Call, d *imapwire.Decoder, opts *SearchOptions)
	// Write writes its item of the ESEARCH response, with a blank in front:
	// " COUNT 5". It reports whether it has written anything; nil writes nothing.
	Write func(w *imapwire.Encoder, r *SearchResult) bool
}

// StatusItem is an item of STATUS (RFC 9051 section 6.3.11).
type StatusItem struct {
	Name string
	// Enables, where set, is called before the response.
	Enables func(*Conn)
	// Write writes the item's value; its name has been written. After an error
	// nothing of the mailbox's response is sent, and the error is the command's.
	Write func(w *imapwire.Encoder, m *StatusMailbox) error
}

// ListSelect is a selection option of LIST (RFC 5258 section 3.1).
type ListSelect struct {
	Name string
	// Modifier marks an option that cannot stand alone (RECURSIVEMATCH).
	Modifier bool
	// Match says whether a mailbox is selected; nil selects all.
	Match func(m *ListEntry) bool
	// Implies names a return option that this option brings with it.
	Implies string
}

// ListReturn is a return option of LIST (RFC 5258 section 3.2).
type ListReturn struct {
	Name string
	// Parse reads the option's arguments; nil means that it has none.
	Parse func(c *Call, d *imapwire.Decoder, opts *ListOptions)
	// Attrs adds attributes to an entry.
	Attrs func(m *ListEntry, opts *ListOptions)
	// After writes what follows the LIST response of an entry: whole responses.
	// An error is the command's.
	After func(ctx context.Context, c *Call, m *ListEntry, opts *ListOptions) error
}

// SelectParam is a parameter of SELECT and EXAMINE (RFC 4466 section 2.1). What
// it does goes into SelectOptions.Then.
type SelectParam struct {
	Name  string
	Parse func(c *Call, d *imapwire.Decoder, opts *SelectOptions)
}

// CreateParam is a parameter of CREATE (RFC 4466 section 2.2).
type CreateParam struct {
	Name  string
	Parse func(c *Call, d *imapwire.Decoder, opts *CreateOptions)
}

// AppendData is a form of message data of APPEND other than a literal: a name
// and a list in parentheses (RFC 4466 section 2.7). Parse is called behind the
// opening parenthesis, while the command runs; it reads the message with
// Call.ReadMessage, and then the closing parenthesis (Decoder.Byte). It returns
// the decoder's error, or one of its own: then nothing is appended.
type AppendData struct {
	Name  string
	Parse func(ctx context.Context, c *Call, d *imapwire.Decoder, item *AppendItem) error
}

// Enable is a word of ENABLE (RFC 5161).
type Enable struct {
	Name string
	// Run turns it on. It is called when ENABLED has been written.
	Run func(c *Conn)
}

// Mechanism is a SASL mechanism (RFC 9051 section 6.2.2).
type Mechanism struct {
	Name string
	// Plaintext mechanisms are refused, and not announced, without TLS unless
	// Options.InsecureAuth is set.
	Plaintext bool
	// Start begins an exchange. done is called by the mechanism, before its
	// Next returns done, with the name of the user who is now logged in. ctx is
	// that of the command. Start must not return nil.
	Start func(ctx context.Context, c *Conn, done func(user string)) sasl.Server
}

// Has reports whether s and of overlap.
func (s States) Has(of States) bool { return s&of != 0 }

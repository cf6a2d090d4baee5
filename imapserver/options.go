package imapserver

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/netip"
	"time"

	"github.com/rookery-mail/rookery/imap"
)

// Authenticator checks who a client is.
type Authenticator interface {
	// CheckPassword returns the name of the user whose account is to be opened,
	// which may differ from what the client typed. Kind AuthFailed says that
	// name or password is wrong; Unavailable, that it cannot be told now. addr
	// is the client's address. It may be called by many goroutines.
	CheckPassword(ctx context.Context, name, password string, addr netip.Addr) (user string, err error)
}

// PasswordFunc is a function that is an Authenticator.
type PasswordFunc func(ctx context.Context, name, password string, addr netip.Addr) (user string, err error)

// CheckPassword calls f.
func (f PasswordFunc) CheckPassword(ctx context.Context, name, password string, addr netip.Addr) (string, error) {
	return f(ctx, name, password, addr)
}

// Passwords is an Authenticator that knows a fixed set of names and passwords
// in the clear: for examples, tests and one's own machine.
type Passwords map[string]string

// CheckPassword looks the name up. It takes as long for unknown names.
func (p Passwords) CheckPassword(_ context.Context, name, password string, _ netip.Addr) (string, error) {
	want, ok := p[name]
	if !equalConstantTime(want, password) || !ok {
		return "", imap.E("check password of "+name, imap.AuthFailed, nil)
	}
	return name, nil
}

// Options are what an operator or an embedding program may choose. The zero
// value is a server that is safe on a network, if it has a certificate.
type Options struct {
	// TLS is used by ServeTLS and by STARTTLS. nil: neither is possible.
	TLS *tls.Config
	// InsecureAuth allows passwords on connections without TLS.
	InsecureAuth bool

	// Name and Version are told to clients by ID and the greeting. Empty:
	// "Rookery" and the module's version.
	Name, Version string
	// Log gets what an operator must know. nil: slog.Default().
	Log *slog.Logger
	// Trace, where set, gets what each connection says, in the form of the
	// transcripts of package imaptest, without passwords and without the contents
	// of literals: {@octets310} is a literal of the client's, $_ one of the
	// server's. With a header (state: greeting; gen: octets310 310) it is a
	// transcript that runs. It is called by the connection's goroutines, a line at
	// a time, and must return soon. nil costs nothing.
	Trace func(c *Conn, line string)

	// Extensions are added to the built-in ones.
	Extensions []*Extension
	// Without names built-in extensions (Extension.Name) to be left out.
	Without []string
	// Hooks are told of what connections do.
	Hooks Hooks

	// Allow and Deny are matched against the client's address before anything
	// else; Deny wins. An empty Allow allows all.
	Allow, Deny []netip.Prefix

	Limits Limits

	// Clock is what the server takes for the time; nil: time.Now.
	Clock func() time.Time
}

// Limits bound what clients can make the server do. In each field zero stands
// for the default that its comment gives, and a negative value for no limit.
type Limits struct {
	Connections        int // in total; 20,000
	ConnectionsPerUser int // 100
	ConnectionsPerAddr int // by client address, IPv6 by /64; 2,000

	// LoginCommands is how many commands a client may give before it is logged
	// in; 20. BadCommands is how many in a row may be refused with BAD; 50.
	LoginCommands, BadCommands int

	// LoginIdle is how long a client may be silent before it is logged in; 5
	// minutes. Idle is the same afterwards; 65 minutes. RFC 9051 section 5.4
	// asks for 30 at least, so New refuses less, unless AllowShortIdle. Read is how long it may pause in the midst of a
	// command, Write how long it may take to accept what is sent; 5 minutes.
	LoginIdle, Idle, Read, Write time.Duration
	// AllowShortIdle lets Idle be shorter than the protocol promises to clients:
	// for tests.
	AllowShortIdle bool
	// KeepAlive is how often an idling client is sent an untagged OK, so that
	// routers do not forget the connection; 4 minutes.
	KeepAlive time.Duration
	// Command is how long a command may wait for the back end; 10 minutes. It may
	// be an eighth longer.
	Command time.Duration

	// Line bounds the octets of a command outside of literals; 256 kB, before
	// login 8 kB. Literal bounds literals that are arguments; 64 kB.
	Line, Literal int
	// Message bounds the size of a message that is appended; 64 MB. Skip is how
	// much of a refused non-synchronising literal is read and thrown away, so
	// that the connection can go on; 128 MB. Beyond it the server says BYE.
	Message, Skip int64
	// MultiAppend bounds the messages of one APPEND; 10,000.
	MultiAppend int
	// ListPatterns bounds the patterns of one LIST; 500. Together they may have
	// 8 kB, each counted with the reference.
	ListPatterns int
	// SearchKeys bounds the keys of one search program, SearchDepth their
	// nesting; 20,000 and 500.
	SearchKeys, SearchDepth int
}

// Hooks are called by the goroutine that serves the connection, one after the
// other for each connection. Any of them may be nil. An error ends what was
// about to happen; it reaches the client as its kind says.
type Hooks struct {
	// Connected is called before the greeting. An error is told with BYE.
	Connected func(ctx context.Context, c *Conn) error
	// Authenticated is called when the account is open. An error fails the login.
	Authenticated func(ctx context.Context, c *Conn) error
	// Selected is called for every SELECT and EXAMINE of a mailbox that can be
	// opened, that of the mailbox that is selected already too, before the client
	// is told anything of it and before \Recent is taken; Conn.Info does not have
	// it yet. After an error nothing is selected. readOnly is set for EXAMINE,
	// and where the back end allows no more.
	Selected func(ctx context.Context, c *Conn, mailbox string, readOnly bool) error
	// Unselected is called once for each Selected that returned nil, when that
	// mailbox is left: by another SELECT, CLOSE, DELETE, at the connection's end,
	// or because the rest of the SELECT failed. mailbox is the name that it has by
	// then: RENAME may have changed it.
	Unselected func(ctx context.Context, c *Conn, mailbox string)
	// CommandBegun is called after a command was parsed and before it runs. name
	// is in capitals: "NOOP", "UID FETCH". After an error the command is not run,
	// and CommandEnded not called.
	CommandBegun func(ctx context.Context, c *Conn, name string) error
	// CommandEnded is called once for each CommandBegun that returned nil, before
	// the tagged reply. err is what the command returned, nil where it succeeded;
	// after a panic it says so, and the connection ends.
	CommandEnded func(ctx context.Context, c *Conn, name string, err error)
	// Closed is called when everything else has ended. err is nil where the
	// client has left by itself.
	Closed func(c *Conn, err error)
}

func orDefault[T int | int64 | time.Duration](v *T, def, none T) {
	if *v == 0 {
		*v = def
	} else if *v < 0 {
		*v = none
	}
}

// withDefaults returns the limits with every zero replaced.
func (l Limits) withDefaults() Limits {
	const forever = 100 * 365 * 24 * time.Hour
	const many = 1 << 40
	orDefault(&l.Connections, 20_000, many)
	orDefault(&l.ConnectionsPerUser, 100, many)
	orDefault(&l.ConnectionsPerAddr, 2_000, many)
	orDefault(&l.LoginCommands, 20, many)
	orDefault(&l.BadCommands, 50, many)
	orDefault(&l.LoginIdle, 5*time.Minute, forever)
	orDefault(&l.Idle, 65*time.Minute, forever)
	orDefault(&l.Read, 5*time.Minute, forever)
	orDefault(&l.Write, 5*time.Minute, forever)
	orDefault(&l.KeepAlive, 4*time.Minute, forever)
	orDefault(&l.Command, 10*time.Minute, forever)
	orDefault(&l.Line, 256<<10, 1<<30)
	orDefault(&l.Literal, 64<<10, 1<<30)
	orDefault(&l.Message, 64<<20, 1<<32-1)
	orDefault(&l.Skip, 128<<20, 1<<40)
	orDefault(&l.MultiAppend, 10_000, many)
	orDefault(&l.ListPatterns, 500, many)
	orDefault(&l.SearchKeys, 20_000, many)
	orDefault(&l.SearchDepth, 500, 10_000)
	return l
}

package imaptest

import (
	"context"
	"crypto/tls"
	"embed"
	"io/fs"
	"net"
	"testing"
)

//go:embed transcripts/*.txtar
var embedded embed.FS

// Transcripts returns the transcripts of this package.
func Transcripts() fs.FS {
	sub, err := fs.Sub(embedded, "transcripts")
	if err != nil {
		panic(err) // the directory is compiled in
	}
	return sub
}

// A Target is what is tested.
type Target struct {
	// New makes a fresh server for one test: no connections, accounts with an
	// empty INBOX and nothing else. Where starting a server is dear, one server
	// with new accounts will do. What New starts it ends with t.Cleanup. It is
	// called from several goroutines at once.
	New func(t testing.TB) *Server

	// Lacks lists capabilities that the server is not meant to have. A
	// transcript that needs one is left out; one that needs a capability which
	// is neither announced nor listed here fails. These names are no
	// capabilities, but what a server can do unless they are listed:
	//
	//	ACCOUNTS     there are two users in Server.Users
	//	PLAIN-PORT   Server.DialPlain
	//	RESTART      Server.Restart
	//	APPEND       clients add messages (seeds, APPEND, COPY, MOVE)
	//	EXPUNGE      clients remove messages (EXPUNGE, CLOSE, MOVE, \Deleted)
	//	FLAGS        clients set flags (STORE, \Seen by FETCH)
	//	KEYWORDS     clients make keywords
	//	CREATE       clients create, delete and rename mailboxes
	//	HASCHILDREN  a mailbox that has others below it can be deleted
	//	SUBSCRIBE    subscriptions are kept
	//	EXACT        messages are given back as they were added: each byte, and the date
	//
	// Which of them a transcript of this package needs follows from what it
	// does. One of Transcripts is run unless its header names what is listed.
	Lacks []string

	// Transcripts are run in place of this package's own when not nil, and then
	// nothing else is.
	Transcripts fs.FS

	// Update, when not empty, is the directory where transcripts whose server
	// lines do not match are written anew, with what the server said.
	Update string
}

// A Server is one running server.
type Server struct {
	// Dial connects to it; passwords may be sent on the connection. Required.
	Dial func(context.Context) (net.Conn, error)

	// DialPlain connects without TLS to a server that allows passwords only
	// after STARTTLS; nil where there is no such thing.
	DialPlain func(context.Context) (net.Conn, error)

	// TLS is the client's side of STARTTLS on such a connection.
	TLS *tls.Config

	// Users are two accounts; one is enough where Lacks has ACCOUNTS.
	Users []User

	// Restart ends the server's connections and starts it anew on the same
	// data; nil where that cannot be done.
	Restart func(context.Context) error

	// Fail makes the server's storage fail from now on, until heal is called; n
	// says how. heal returns when the server works again. nil where that cannot
	// be done.
	Fail func(n uint32) (heal func(context.Context) error)
}

// A User is a name and password that the server accepts.
type User struct{ Name, Password string }

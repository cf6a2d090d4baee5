// Package admin lets commands that need the store work while a server has it:
// HTTP with JSON over a socket in the data folder that only its owner can open.
//
// It knows no store: a [Service] does the work, and [Client] is the same
// Service on the other side of the socket, so that a command does not care
// which of the two it has. The paths begin with /v1; a change that old programs
// cannot live with makes it /v2. Start with [Service].
package admin

import (
	"context"

	"github.com/rookery-mail/rookery/internal/mailimport"
)

// Service is what an operator can ask of a data folder. It is safe for
// concurrent use. Errors say what happened, to what, and what to do.
type Service interface {
	// Status says which server has the folder.
	Status(ctx context.Context) (Status, error)
	// Numbers are what is counted and measured of the store and the server.
	Numbers(ctx context.Context) ([]Number, error)

	// Users lists the users of the store, sorted by name.
	Users(ctx context.Context) ([]User, error)
	// AddUser adds a user with a hash as package passwd makes them. Kind Exists
	// where there is one.
	AddUser(ctx context.Context, name, hash string) error
	// SetPassword replaces the hash of a user. Kind NotFound where there is none.
	SetPassword(ctx context.Context, name, hash string) error
	// RemoveUser takes the user's login away. The mail stays, and is there again
	// when the user is added again. Kind NotFound where there is none.
	RemoveUser(ctx context.Context, name string) error

	// Import returns the account of a user, which is made when the first
	// mailbox is prepared, as a target of imports.
	Import(user string) mailimport.Target

	Care

	// Close ends the use of the service.
	Close() error
}

// Status describes the process that has a data folder.
type Status struct {
	Version string `json:"version"`
	PID     int    `json:"pid"`
}

// A Number is one that an operator may want to know. Names and labels are those
// of the server's metrics.
type Number struct {
	Name   string   `json:"name"`
	Labels []string `json:"labels,omitempty"` // name=value
	Value  float64  `json:"value"`
	Help   string   `json:"help"`
}

// User is a user of the store.
type User struct {
	Name string `json:"name"`
}

// What goes over the socket.
type (
	userRequest struct {
		Name string `json:"name,omitempty"`
		Hash string `json:"hash"`
	}
	knownRequest struct {
		User    string   `json:"user"`
		Mailbox string   `json:"mailbox,omitempty"`
		Keys    []string `json:"keys,omitempty"`
	}
	knownAnswer struct {
		Known []bool `json:"known"`
	}
	// importHeader is the first line of an import; the bytes of all messages
	// follow it, one after the other.
	importHeader struct {
		User    string       `json:"user"`
		Mailbox string       `json:"mailbox"`
		Items   []importItem `json:"items"`
	}
	importItem struct {
		Key   string   `json:"key"`
		Flags []string `json:"flags,omitempty"`
		Date  int64    `json:"date"` // an imap.Time
		Size  int64    `json:"size"`
	}
	errorAnswer struct {
		Error string `json:"error"`
		Kind  uint8  `json:"kind"` // an imap.Kind
	}
)

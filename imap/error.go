package imap

import (
	"errors"
	"strings"
)

// Kind says what sort of failure an error is, so that a client program, a
// user and an operator can each act on it. A Kind is itself an error, so
// errors.Is(err, imap.NotFound) works on anything that wraps an [Error].
type Kind uint8

// Kinds. The response code of each is RFC 5530's or RFC 9051 section 7.1's.
const (
	Other           Kind = iota // no kind: a bug or a fault, NO [SERVERBUG] to the client
	NotFound                    // NONEXISTENT; TRYCREATE where the protocol says so
	Exists                      // ALREADYEXISTS
	NoPermission                // NOPERM
	Cannot                      // CANNOT: never possible here, whoever asks
	TooBig                      // TOOBIG: the message is larger than this mailbox takes
	OverQuota                   // OVERQUOTA
	Limit                       // LIMIT: some other bound of this server
	Unavailable                 // UNAVAILABLE: a part of the server is down, try later
	InUse                       // INUSE: another session holds it, try later
	Expired                     // EXPIRED: the password or account has expired
	AuthFailed                  // AUTHENTICATIONFAILED: wrong name or password
	AuthzFailed                 // AUTHORIZATIONFAILED: may not act for that user
	PrivacyRequired             // PRIVACYREQUIRED: only over TLS
	Corruption                  // CORRUPTION: stored data is damaged
	ContactAdmin                // CONTACTADMIN: a person must look at it
	ServerBug                   // SERVERBUG: known to be our fault
	ClientBug                   // CLIENTBUG: the client misbehaves
	HasChildren                 // HASCHILDREN: has mailboxes below it
	UnknownCTE                  // UNKNOWN-CTE: a part cannot be decoded
	BadCharset                  // BADCHARSET
	BadComparator               // BADCOMPARATOR (RFC 5255)
	UIDNotSticky                // UIDNOTSTICKY: UIDs are not kept
	ExpungeIssued               // EXPUNGEISSUED: another session expunged it
	NotSaved                    // NOTSAVED: the saved search result is gone
	UseAttr                     // USEATTR: special use not possible here
	Parse                       // PARSE: the message cannot be parsed
	Conflict                    // a concurrent change: the operation may be repeated
	Closed                      // shut down, or closed by its owner
	Refused                     // NO with the model's own code and text: see No
	Malformed                   // BAD with the given text: see Bad
	kindCount
)

type kindInfo struct{ code, text string }

func (k Kind) info() kindInfo {
	table := [kindCount]kindInfo{
		Other:           {"", "internal error"},
		NotFound:        {"NONEXISTENT", "does not exist"},
		Exists:          {"ALREADYEXISTS", "exists already"},
		NoPermission:    {"NOPERM", "permission denied"},
		Cannot:          {"CANNOT", "not possible"},
		TooBig:          {"TOOBIG", "too big"},
		OverQuota:       {"OVERQUOTA", "over quota"},
		Limit:           {"LIMIT", "limit reached"},
		Unavailable:     {"UNAVAILABLE", "temporarily unavailable"},
		InUse:           {"INUSE", "in use"},
		Expired:         {"EXPIRED", "expired"},
		AuthFailed:      {"AUTHENTICATIONFAILED", "authentication failed"},
		AuthzFailed:     {"AUTHORIZATIONFAILED", "not authorized"},
		PrivacyRequired: {"PRIVACYREQUIRED", "encryption needed"},
		Corruption:      {"CORRUPTION", "data is damaged"},
		ContactAdmin:    {"CONTACTADMIN", "contact the administrator"},
		ServerBug:       {"SERVERBUG", "server error"},
		ClientBug:       {"CLIENTBUG", "client error"},
		HasChildren:     {"HASCHILDREN", "has mailboxes below it"},
		UnknownCTE:      {"UNKNOWN-CTE", "unknown content transfer encoding"},
		BadCharset:      {"BADCHARSET", "unknown charset"},
		BadComparator:   {"BADCOMPARATOR", "unknown comparator"},
		UIDNotSticky:    {"UIDNOTSTICKY", "UIDs are not kept here"},
		ExpungeIssued:   {"EXPUNGEISSUED", "expunged by another session"},
		NotSaved:        {"NOTSAVED", "no saved search result"},
		UseAttr:         {"USEATTR", "special use not supported"},
		Parse:           {"PARSE", "message cannot be parsed"},
		Conflict:        {"INUSE", "changed by someone else meanwhile"},
		Closed:          {"UNAVAILABLE", "closed"},
		Refused:         {"", "refused"},
		Malformed:       {"", "bad command"},
	}
	if k >= kindCount {
		return table[Other]
	}
	return table[k]
}

// Code returns the response code that tells a client of this kind, without
// brackets, or "" where there is none.
func (k Kind) Code() string { return k.info().code }

// Error returns a few words for a person.
func (k Kind) Error() string { return k.info().text }

// Error is the error type that crosses the seams of the server.
type Error struct {
	// Op is what was attempted and on what: "mailstore: rename Work".
	Op string
	// Kind decides what the client is told.
	Kind Kind
	// Code, where set, is the response code to send in place of the kind's,
	// with its arguments and without brackets: "BADCHARSET (UTF-8)".
	Code string
	// Text, where set, is sent to the client as it is. Everything else of an
	// Error is for the operator's log only.
	Text string
	// Err is the cause; may be nil.
	Err error
}

// Error returns operation, kind, text and cause, joined by ": ".
func (e *Error) Error() string {
	parts := make([]string, 0, 4)
	if e.Op != "" {
		parts = append(parts, e.Op)
	}
	if e.Err == nil {
		if e.Text != "" {
			parts = append(parts, e.Text)
		} else {
			parts = append(parts, e.Kind.Error())
		}
		return strings.Join(parts, ": ")
	}
	// Text and kind that were taken over from the cause are not said twice.
	cause := e.Err.Error()
	if e.Text != "" && !strings.Contains(cause, e.Text) {
		parts = append(parts, e.Text)
	} else if e.Text == "" && e.Kind != KindOf(e.Err) {
		parts = append(parts, e.Kind.Error())
	}
	parts = append(parts, cause)
	return strings.Join(parts, ": ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is this error's [Kind], or an *Error whose set
// fields are all equal to this one's.
func (e *Error) Is(target error) bool {
	switch t := target.(type) {
	case Kind:
		return e.Kind == t && t != Other
	case *Error:
		return (t.Op == "" || t.Op == e.Op) && (t.Kind == Other || t.Kind == e.Kind) &&
			(t.Code == "" || t.Code == e.Code) && (t.Text == "" || t.Text == e.Text) &&
			(t.Err == nil || errors.Is(e.Err, t.Err)) &&
			*t != (Error{})
	}
	return false
}

// ResponseCode returns the code to send: Code, or else the kind's.
func (e *Error) ResponseCode() string {
	if e.Code != "" {
		return e.Code
	}
	return e.Kind.Code()
}

// E makes an error for a failed operation. err may be nil. With Kind Other
// the error keeps the kind of err.
func E(op string, kind Kind, err error) error {
	if kind == Other && err != nil {
		kind = KindOf(err)
		// What the cause says to the client stays said.
		if inner, ok := errors.AsType[*Error](err); ok {
			return &Error{Op: op, Kind: kind, Code: inner.Code, Text: inner.Text, Err: err}
		}
	}
	return &Error{Op: op, Kind: kind, Err: err}
}

// KindOf returns the kind of the outermost error in err's chain that has one,
// and Other where none has (nil included).
func KindOf(err error) Kind {
	for err != nil {
		switch e := err.(type) {
		case Kind:
			return e
		case *Error:
			if e.Kind != Other {
				return e.Kind
			}
		case interface{ Unwrap() []error }:
			for _, sub := range e.Unwrap() {
				if k := KindOf(sub); k != Other {
					return k
				}
			}
			return Other
		}
		err = errors.Unwrap(err)
	}
	return Other
}

// No makes an error with which a model answers NO on purpose: code (may be
// empty; without brackets) and text go to the client as they are. The text is UTF-8;
// clients that have not enabled that see question marks.
func No(code, text string) error { return &Error{Kind: Refused, Code: code, Text: text} }

// Bad makes an error with which a model answers BAD on purpose: text goes to
// the client as it is.
func Bad(text string) error { return &Error{Kind: Malformed, Text: text} }

package imapserver

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
)

// reply is a status response: OK, NO, BAD or BYE with code and text.
type reply struct {
	status, code, text string
}

// errLogout ends the connection after the tagged reply to LOGOUT.
var errLogout = errors.New("imapserver: logout")

// hangUp ends the connection with BYE; no tagged reply is sent.
type hangUp struct{ code, text string }

func (h *hangUp) Error() string { return "imapserver: connection ended: " + h.text }

// bad is the error for a command whose syntax is right and whose use is wrong.
func bad(format string, args ...any) error { return imap.Bad(fmt.Sprintf(format, args...)) }

// replyTo is the one place that maps an error to a response.
func (c *Conn) replyTo(err error) reply {
	if imapwire.Recoverable(err) {
		return wireReply(err)
	}
	kind := imap.KindOf(err)
	if kind == imap.Other {
		return reply{"NO", "SERVERBUG", "Something went wrong on the server; its log says what"}
	}
	e := &imap.Error{} // the one that has the kind
	for cause := err; errors.As(cause, &e) && e.Kind == imap.Other; {
		cause = e.Err
	}
	if e.Kind != kind { // a Kind is an error, too
		e = &imap.Error{Kind: kind}
	}
	if e.Kind == imap.Malformed {
		return reply{"BAD", e.Code, orText(e.Text, e.Kind)}
	}
	return reply{"NO", e.ResponseCode(), orText(e.Text, e.Kind)}
}

// wireReply is the answer to what the decoder refused.
func wireReply(err error) reply {
	var limit *imapwire.LimitError
	if errors.As(err, &limit) && limit.Literal {
		return reply{"NO", "TOOBIG", err.Error()}
	}
	return reply{"BAD", "", err.Error()}
}

// isInternal reports whether the operator must hear of an error, because the
// client was told less than it says.
func isInternal(err error) bool {
	if imapwire.Recoverable(err) {
		return false
	}
	switch imap.KindOf(err) {
	case imap.Other, imap.ServerBug, imap.Corruption, imap.Unavailable, imap.ContactAdmin:
		return true
	}
	return false
}

// orText is a text for the client: the model's own, or that of the kind.
func orText(text string, k imap.Kind) string {
	if text != "" {
		return text
	}
	t := k.Error()
	return strings.ToUpper(t[:1]) + t[1:]
}

// cleanText makes a text fit for one line. What is not ASCII stays: whether the
// client can read it is the encoder's to know.
func cleanText(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// isCode reports whether a response code can stand in brackets (RFC 9051
// section 9, resp-text-code).
func isCode(code string) bool {
	return !strings.ContainsFunc(code, func(r rune) bool { return r < ' ' || r > '~' || r == ']' })
}

// reply writes a status response under a tag ("*" for untagged). mu is held.
func (c *Conn) reply(tag string, r reply) {
	if !isCode(r.code) {
		c.log().Error("a response code that cannot be sent was left out", "user", c.login.user, "code", r.code, "text", r.text)
		r.code = ""
	}
	w := c.enc
	w.Raw(tag)
	w.SP()
	w.Raw(r.status)
	w.SP()
	if r.code != "" {
		w.Raw("[")
		w.Raw(r.code)
		w.Raw("] ")
	}
	w.Text(cleanText(r.text))
	w.CRLF()
}

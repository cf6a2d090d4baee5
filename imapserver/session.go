package imapserver

import (
	"context"

	"github.com/rookery-mail/rookery/imapwire"
)

// Commands that are about the connection itself.

// capability is CAPABILITY (RFC 9051 section 6.1.1).
func capabilityCommand() *Command {
	return &Command{Name: "CAPABILITY", States: AnyState, Parse: func(c *Call, _ *imapwire.Decoder) Run {
		return func(context.Context) error {
			w := c.Writer()
			w.Raw("* CAPABILITY ")
			w.Append(c.Conn.appendCapabilities)
			w.CRLF()
			return nil
		}
	}}
}

// noopCommand is NOOP (RFC 9051 section 6.1.2): the news that it may bring are
// told after every command.
func noopCommand() *Command {
	return &Command{Name: "NOOP", States: AnyState, Parse: parseNothing}
}

// checkCommand is CHECK (RFC 3501 section 6.4.1): everything is on disk always.
func checkCommand() *Command {
	return &Command{Name: "CHECK", States: Selected, Parse: parseNothing}
}

func parseNothing(*Call, *imapwire.Decoder) Run {
	return func(context.Context) error { return nil }
}

// logoutCommand is LOGOUT (RFC 9051 section 6.1.3).
func logoutCommand() *Command {
	return &Command{Name: "LOGOUT", States: AnyState, Parse: func(c *Call, _ *imapwire.Decoder) Run {
		return func(context.Context) error {
			c.Writer().Raw("* BYE Logging out\r\n")
			return errLogout
		}
	}}
}

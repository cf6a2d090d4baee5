package imapserver

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"github.com/emersion/go-sasl"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
)

// loginDisabled reports whether passwords in the clear are refused here.
func (c *Conn) loginDisabled() bool {
	return c.login.account == nil && !c.transport.secure && !c.srv.opts.InsecureAuth
}

// offers reports whether a SASL mechanism can be used now.
func (c *Conn) offers(m *Mechanism) bool {
	return c.login.account == nil && !(m.Plaintext && c.loginDisabled())
}

// loginCommand is LOGIN (RFC 9051 section 6.2.3).
func loginCommand() *Command {
	return &Command{Name: "LOGIN", Args: "SP userid SP password", States: NotAuthenticated, Parse: func(c *Call, d *imapwire.Decoder) Run {
		d.SP()
		name := d.Astring()
		d.SP()
		password := d.Astring()
		return func(ctx context.Context) error {
			if c.Conn.loginDisabled() {
				return errPrivacy
			}
			user, err := c.Conn.srv.auth.CheckPassword(ctx, name, password, c.Conn.addr)
			if err != nil {
				return c.Conn.loginFailed(name, err)
			}
			return c.logIn(ctx, user)
		}
	}}
}

var errPrivacy = &imap.Error{Kind: imap.PrivacyRequired, Text: "Passwords are taken over TLS only; give STARTTLS first"}

// loginFailed logs and slows down a failed login. Only whether the name and
// password are right is told, never which of them was wrong.
func (c *Conn) loginFailed(name string, err error) error {
	c.log().Info("login failed", "name", name, "addr", c.addr, "err", err)
	return err
}

// logIn opens the account of a user who has been authenticated.
func (c *Call) logIn(ctx context.Context, user string) error {
	conn := c.Conn
	leave, ok := conn.srv.gate.enterUser(user)
	if !ok {
		return &imap.Error{Kind: imap.Limit, Text: "You have too many connections open"}
	}
	account, err := conn.srv.backend.Open(ctx, user)
	if err != nil {
		leave()
		return err
	}
	conn.login = login{user: user, account: account, leave: leave}
	conn.noteState()
	if hook := conn.srv.opts.Hooks.Authenticated; hook != nil {
		if err := hook(ctx, conn); err != nil {
			conn.logOff()
			conn.noteState()
			return err
		}
	}
	conn.dec.SetLimits(conn.decoderLimits())
	conn.log().Debug("logged in", "user", user, "addr", conn.addr, "tls", conn.transport.secure)
	c.OK("CAPABILITY "+string(conn.appendCapabilities(nil)), "Logged in")
	return nil
}

// authenticateCommand is AUTHENTICATE (RFC 9051 section 6.2.2) with the initial
// response of RFC 4959.
func authenticateCommand() *Command {
	return &Command{Name: "AUTHENTICATE", Args: "SP auth-type [SP initial-resp]", States: NotAuthenticated, Stream: true,
		Parse: func(c *Call, d *imapwire.Decoder) Run {
			d.SP()
			name := d.KeywordOf(func() string { return choice("mechanism", c.Conn.srv.reg.mechanisms) })
			var initial []byte
			if d.TrySP() {
				initial = d.InitialResponse()
			}
			d.CRLF()
			return func(ctx context.Context) error { return c.authenticate(ctx, name, initial) }
		}}
}

func (c *Call) authenticate(ctx context.Context, name string, response []byte) error {
	conn := c.Conn
	m := conn.srv.reg.mechanisms[name]
	if m == nil {
		return &imap.Error{Kind: imap.Cannot, Text: "SASL mechanism " + quoteArg(name) + " is not supported; see CAPABILITY"}
	}
	if !conn.offers(m) {
		return errPrivacy
	}
	var user string
	var known bool
	exchange := m.Start(ctx, conn, func(u string) { user, known = u, true })
	if exchange == nil {
		return imap.E("authenticate with "+name, imap.ServerBug, errors.New("the mechanism's Start has returned nil"))
	}
	for {
		challenge, done, err := exchange.Next(response)
		if err != nil {
			return conn.loginFailed(name, asAuthError(err))
		}
		if done && len(challenge) == 0 {
			break
		}
		if response, err = c.challenge(challenge); err != nil {
			return err
		}
		if done { // the last challenge was the mechanism's additional data
			break
		}
	}
	if !known {
		return imap.E("authenticate with "+name, imap.AuthFailed, errors.New("the mechanism ended without naming a user"))
	}
	return c.logIn(ctx, user)
}

// asAuthError gives the errors of SASL libraries the kind they have here.
func asAuthError(err error) error {
	if imap.KindOf(err) != imap.Other {
		return err
	}
	return &imap.Error{Op: "authenticate", Kind: imap.AuthFailed, Err: err}
}

// challenge sends a challenge and reads the client's answer.
func (c *Call) challenge(data []byte) ([]byte, error) {
	w, d := c.Writer(), c.Conn.dec
	w.Raw("+ ")
	w.Append(func(dst []byte) []byte { return appendBase64(dst, data) })
	w.CRLF()
	d.Begin()
	answer, cancelled := d.Base64Line()
	if d.Err() != nil {
		return nil, d.Err()
	}
	if cancelled {
		return nil, bad("AUTHENTICATE cancelled")
	}
	return answer, nil
}

// saslPlain is the mechanism PLAIN (RFC 4616).
func saslPlain() *Extension {
	return &Extension{Name: "AUTH=PLAIN", RFC: "4616", Mechanisms: []*Mechanism{{
		Name: "PLAIN", Plaintext: true,
		Start: func(ctx context.Context, c *Conn, done func(string)) sasl.Server {
			return sasl.NewPlainServer(func(authzid, name, password string) error {
				if authzid != "" && authzid != name {
					return &imap.Error{Kind: imap.AuthzFailed, Text: "Logging in as another user is not possible"}
				}
				user, err := c.srv.auth.CheckPassword(ctx, name, password, c.addr)
				switch {
				case err == nil:
					done(user)
				case imap.KindOf(err) == imap.Other:
					// Not the client's fault, as errors of SASL without a kind are.
					err = imap.E("check password", imap.ServerBug, err)
				}
				return err
			})
		},
	}}}
}

// saslIR is RFC 4959: authenticateCommand takes initial responses.
func saslIR() *Extension {
	return &Extension{Name: "SASL-IR", RFC: "4959", Capabilities: []Capability{{Name: "SASL-IR"}}}
}

func (c *Conn) canStartTLS() bool {
	return c.srv.opts.TLS != nil && !c.transport.secure && c.login.account == nil
}

// startTLSCommand is STARTTLS (RFC 9051 section 6.2.1).
func startTLSCommand() *Command {
	return &Command{Name: "STARTTLS", States: NotAuthenticated, Stream: true, Parse: func(c *Call, d *imapwire.Decoder) Run {
		d.CRLF()
		return func(ctx context.Context) error {
			conn := c.Conn
			switch {
			case conn.transport.secure:
				return bad("TLS is in use already")
			case !conn.canStartTLS():
				return bad("STARTTLS is not possible; the server has no certificate")
			}
			// What is read ahead may be from anybody: it is thrown away (RFC 9051
			// section 6.2.1).
			conn.reply(c.Tag, reply{"OK", "", "Begin TLS now"})
			if err := conn.enc.Flush(); err != nil {
				return err
			}
			return conn.startTLS(ctx)
		}
	}}
}

// errReplied says that the tagged reply has been given.
var errReplied = errors.New("imapserver: replied")

func (c *Conn) startTLS(ctx context.Context) error {
	tc := tls.Server(c.transport.nc, c.srv.opts.TLS)
	if err := c.handshake(ctx, tc); err != nil {
		return &broken{err}
	}
	c.transport.secure = true
	c.dropClientID()
	c.switchTransport(tc)
	c.noteState()
	return errReplied
}

// broken says that the transport cannot be used any more.
type broken struct{ error }

func (b *broken) Unwrap() error { return b.error }

// switchTransport makes the codec use nc from now on and returns what had been
// read ahead from the old one.
func (c *Conn) switchTransport(nc net.Conn) []byte {
	c.transport.nc = nc
	ahead := c.dec.Reset(c.reader(nc))
	c.enc.Reset(c.writer(nc))
	return ahead
}

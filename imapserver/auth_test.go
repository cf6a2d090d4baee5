package imapserver_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapserver"
)

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// TestPlain: the variants of AUTHENTICATE PLAIN. The message is authzid NUL
// authcid NUL password.
func TestPlain(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{})
	for name, test := range map[string]struct{ initial, answer, want string }{
		"in the command":    {base64Of("\x00ann\x00secret"), "", "OK [CAPABILITY "},
		"when asked":        {"", base64Of("\x00ann\x00secret"), "OK [CAPABILITY "},
		"authzid the same":  {base64Of("ann\x00ann\x00secret"), "", "OK [CAPABILITY "},
		"authzid another":   {base64Of("bob\x00ann\x00secret"), "", "NO [AUTHORIZATIONFAILED] "},
		"wrong password":    {base64Of("\x00ann\x00wrong"), "", "NO [AUTHENTICATIONFAILED] "},
		"unknown user":      {base64Of("\x00eve\x00secret"), "", "NO [AUTHENTICATIONFAILED] "},
		"no password":       {base64Of("\x00ann"), "", "NO [AUTHENTICATIONFAILED] "},
		"too many parts":    {base64Of("\x00ann\x00secret\x00more"), "", "NO [AUTHENTICATIONFAILED] "},
		"nothing":           {"=", "", "NO [AUTHENTICATIONFAILED] "},
		"not base64":        {"%%%", "", "BAD "},
		"cut off":           {base64Of("\x00ann\x00secret")[:7], "", "BAD "},
		"answer not base64": {"", "%%%", "BAD "},
		"cancelled":         {"", "*", "BAD "},
		"too long":          {"", strings.Repeat("A", 20_000), "BAD "},
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, srv)
			if test.initial != "" {
				c.send("p AUTHENTICATE PLAIN " + test.initial + "\r\n")
			} else {
				c.send("p AUTHENTICATE PLAIN\r\n")
				c.want("+ ")
				c.send(test.answer + "\r\n")
			}
			_, tagged := c.reply("p")
			if !strings.HasPrefix(tagged, test.want) {
				t.Errorf("got %q, want %q", tagged, test.want)
			}
			if !strings.HasPrefix(test.want, "OK") {
				c.gets("SELECT INBOX", "BAD ") // and not logged in
				c.ok("LOGIN ann secret")       // which is still possible
			}
		})
	}
}

// TestSecretsNeedTLS: no password is looked at on a connection without TLS.
func TestSecretsNeedTLS(t *testing.T) {
	asked := 0
	auth := imapserver.PasswordFunc(func(_ context.Context, name, password string, _ netip.Addr) (string, error) {
		asked++
		return users.CheckPassword(context.Background(), name, password, netip.Addr{})
	})
	srv, err := imapserver.New(memoryBackend(t), auth, imapserver.Options{TLS: testTLS(t), Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close() })
	c := connect(t, srv)
	if caps := c.ok("CAPABILITY")[0]; !strings.Contains(caps, " LOGINDISABLED") || !strings.Contains(caps, " STARTTLS") || strings.Contains(caps, "AUTH=PLAIN") {
		t.Errorf("without TLS: %s", caps)
	}
	c.gets("LOGIN ann secret", "NO [PRIVACYREQUIRED] ")
	c.gets("AUTHENTICATE PLAIN "+base64Of("\x00ann\x00secret"), "NO [PRIVACYREQUIRED] ")
	c.gets("AUTHENTICATE PLAIN", "NO [PRIVACYREQUIRED] ") // and no "+"
	if asked > 0 {
		t.Error("a password was looked at")
	}
	c.startTLS()
	if caps := c.ok("CAPABILITY")[0]; strings.Contains(caps, "LOGINDISABLED") || strings.Contains(caps, "STARTTLS") || !strings.Contains(caps, "AUTH=PLAIN") {
		t.Errorf("with TLS: %s", caps)
	}
	c.gets("STARTTLS", "BAD ")
	c.ok("LOGIN ann secret")
	if caps := c.ok("CAPABILITY")[0]; strings.Contains(caps, "AUTH=") || strings.Contains(caps, "LOGINDISABLED") {
		t.Errorf("after login: %s", caps)
	}
}

// TestInjected: what came in the clear behind STARTTLS is never run.
func TestInjected(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{TLS: testTLS(t)})
	for name, injected := range map[string]string{
		"a command":      "x CAPABILITY\r\n",
		"half a command": "x LOGOUT",
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, srv)
			c.startTLSBehind("s STARTTLS\r\n" + injected)
			untagged, tagged := c.do("NOOP")
			if len(untagged) > 0 || !strings.HasPrefix(tagged, "OK ") {
				t.Errorf("got %q, %s", untagged, tagged)
			}
		})
	}
}

// TestPasswordErrors: what the Authenticator returns reaches the client.
func TestPasswordErrors(t *testing.T) {
	var next error
	auth := imapserver.PasswordFunc(func(_ context.Context, name, _ string, _ netip.Addr) (string, error) {
		return strings.ToLower(name), next
	})
	srv, err := imapserver.New(memoryBackend(t), auth, imapserver.Options{InsecureAuth: true, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close() })
	for _, test := range []struct {
		err  error
		want string
	}{
		{imap.E("x", imap.AuthFailed, nil), "NO [AUTHENTICATIONFAILED] "},
		{imap.E("x", imap.Unavailable, nil), "NO [UNAVAILABLE] "},
		{imap.E("x", imap.Expired, nil), "NO [EXPIRED] "},
		{imap.No("ALERT", "Pay first"), "NO [ALERT] Pay first"},
	} {
		next = test.err
		c := connect(t, srv)
		c.gets("LOGIN ann x", test.want)
		c.gets("AUTHENTICATE PLAIN "+base64Of("\x00ann\x00x"), test.want)
	}
	next = errors.New("the database is down")
	c := connect(t, srv)
	c.gets("LOGIN ann x", "NO [SERVERBUG] ")
	c.gets("AUTHENTICATE PLAIN "+base64Of("\x00ann\x00x"), "NO [SERVERBUG] ")
	next = nil
	c.ok("LOGIN ANN x") // another name than the client has typed
	if u := c.user(srv); u != "ann" {
		t.Errorf("logged in as %q", u)
	}
}

// user is who the last connection of a server is logged in as.
func (c *client) user(srv *imapserver.Server) string {
	var last imapserver.ConnInfo
	for _, conn := range srv.Connections() {
		if i := conn.Info(); i.ID > last.ID {
			last = i
		}
	}
	return last.User
}

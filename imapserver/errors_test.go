package imapserver_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapserver"
)

// TestErrors: what a model returns reaches the client as its kind says, and
// nothing that is the operator's does.
func TestErrors(t *testing.T) {
	var next error
	fail := &imapserver.Extension{Name: "X-FAIL", RFC: "-", Commands: []*imapserver.Command{
		command("XFAIL", func(context.Context, *imapserver.Call) error { return next }),
	}}
	var log logBook
	srv := memoryServer(t, imapserver.Options{Extensions: []*imapserver.Extension{fail}, Log: log.logger()})
	c := login(t, srv)

	const secret = "disk /dev/sdb is full"
	cause := errors.New(secret)
	for _, test := range []struct {
		err  error
		want string
		logs bool
	}{
		{imap.E("x", imap.NotFound, cause), "NO [NONEXISTENT] Does not exist", false},
		{imap.E("x", imap.Exists, cause), "NO [ALREADYEXISTS] Exists already", false},
		{imap.E("x", imap.NoPermission, cause), "NO [NOPERM] Permission denied", false},
		{imap.E("x", imap.Cannot, cause), "NO [CANNOT] Not possible", false},
		{imap.E("x", imap.TooBig, cause), "NO [TOOBIG] Too big", false},
		{imap.E("x", imap.OverQuota, cause), "NO [OVERQUOTA] Over quota", false},
		{imap.E("x", imap.Limit, cause), "NO [LIMIT] Limit reached", false},
		{imap.E("x", imap.Unavailable, cause), "NO [UNAVAILABLE] Temporarily unavailable", true},
		{imap.E("x", imap.InUse, cause), "NO [INUSE] In use", false},
		{imap.E("x", imap.Expired, cause), "NO [EXPIRED] Expired", false},
		{imap.E("x", imap.AuthFailed, cause), "NO [AUTHENTICATIONFAILED] Authentication failed", false},
		{imap.E("x", imap.AuthzFailed, cause), "NO [AUTHORIZATIONFAILED] Not authorized", false},
		{imap.E("x", imap.PrivacyRequired, cause), "NO [PRIVACYREQUIRED] Encryption needed", false},
		{imap.E("x", imap.Corruption, cause), "NO [CORRUPTION] Data is damaged", true},
		{imap.E("x", imap.ContactAdmin, cause), "NO [CONTACTADMIN] Contact the administrator", true},
		{imap.E("x", imap.ServerBug, cause), "NO [SERVERBUG] Server error", true},
		{imap.E("x", imap.ClientBug, cause), "NO [CLIENTBUG] Client error", false},
		{imap.E("x", imap.HasChildren, cause), "NO [HASCHILDREN] Has mailboxes below it", false},
		{imap.E("x", imap.UnknownCTE, cause), "NO [UNKNOWN-CTE] Unknown content transfer encoding", false},
		{imap.E("x", imap.BadCharset, cause), "NO [BADCHARSET] Unknown charset", false},
		{imap.E("x", imap.BadComparator, cause), "NO [BADCOMPARATOR] Unknown comparator", false},
		{imap.E("x", imap.UIDNotSticky, cause), "NO [UIDNOTSTICKY] UIDs are not kept here", false},
		{imap.E("x", imap.ExpungeIssued, cause), "NO [EXPUNGEISSUED] Expunged by another session", false},
		{imap.E("x", imap.NotSaved, cause), "NO [NOTSAVED] No saved search result", false},
		{imap.E("x", imap.UseAttr, cause), "NO [USEATTR] Special use not supported", false},
		{imap.E("x", imap.Parse, cause), "NO [PARSE] Message cannot be parsed", false},
		{imap.E("x", imap.Conflict, cause), "NO [INUSE] Changed by someone else meanwhile", false},
		{imap.E("x", imap.Closed, cause), "NO [UNAVAILABLE] Closed", false},

		{imap.No("", "It is Sunday"), "NO It is Sunday", false},
		{imap.No("OVERQUOTA", "It is Sunday"), "NO [OVERQUOTA] It is Sunday", false},
		{fmt.Errorf("x: %w", imap.No("", "It is Sunday")), "NO It is Sunday", false},
		{imap.Bad("Give two arguments"), "BAD Give two arguments", false},
		{imap.No("X", "two\r\n* lines and \x00\x1b ü"), "NO [X] two  * lines and    ??", false},
		{imap.No("X", "\xff"), "NO [X] ???", false},
		{imap.No("X] OK\r\n", "text"), "NO text", true},
		{imap.No("X (a\rb)", "text"), "NO text", true},
		{imap.No("X\nY", "text"), "NO text", true},
		{imap.No("X é", "text"), "NO text", true},
		{&imap.Error{Kind: imap.Malformed, Code: "X]", Text: "text"}, "BAD text", true},
		{&imap.Error{Kind: imap.BadCharset, Code: "BADCHARSET (UTF-8)", Text: "Use UTF-8", Err: cause}, "NO [BADCHARSET (UTF-8)] Use UTF-8", false},
		{&imap.Error{Op: "x", Err: imap.E("y", imap.NotFound, cause)}, "NO [NONEXISTENT] Does not exist", false},
		{imap.NotFound, "NO [NONEXISTENT] Does not exist", false},

		{cause, "NO [SERVERBUG] ", true},
		{imap.E("x", imap.Other, cause), "NO [SERVERBUG] ", true},
		{&imap.Error{Text: "no kind"}, "NO [SERVERBUG] ", true},
		{errors.Join(cause, imap.No("", "It is Sunday")), "NO It is Sunday", false},
	} {
		next = test.err
		start := len(log.String())
		untagged, tagged := c.do("XFAIL")
		exact := !strings.HasSuffix(test.want, "] ")
		if len(untagged) > 0 || !strings.HasPrefix(tagged, test.want) || exact && tagged != test.want {
			t.Errorf("%v: got %q, want %q", test.err, tagged, test.want)
		}
		if strings.Contains(tagged, secret) {
			t.Errorf("%v: the client is told %q", test.err, tagged)
		}
		text := log.String()[start:]
		if logged := strings.Contains(text, "level=ERROR"); logged != test.logs {
			t.Errorf("%v: logged: %v, want %v", test.err, logged, test.logs)
		}
		if test.logs && strings.Contains(test.err.Error(), secret) && !strings.Contains(text, secret) {
			t.Errorf("%v: the log does not say why: %s", test.err, text)
		}
	}
	c.ok("NOOP")
	// Under UTF-8 the text is what it is.
	c.ok("ENABLE UTF8=ACCEPT")
	for text, want := range map[string]string{"Grüße\r\nan alle": "NO Grüße  an alle", "a\xffb": "NO a\ufffdb"} {
		next = imap.No("", text)
		if _, tagged := c.do("XFAIL"); tagged != want {
			t.Errorf("got %q, want %q", tagged, want)
		}
	}
}

// TestOKCode: what an extension says with OK does not break its line.
func TestOKCode(t *testing.T) {
	var code, text string
	say := &imapserver.Extension{Name: "X-SAY", RFC: "-", Commands: []*imapserver.Command{
		command("XSAY", func(_ context.Context, c *imapserver.Call) error { c.OK(code, text); return nil }),
	}}
	var log logBook
	srv := memoryServer(t, imapserver.Options{Extensions: []*imapserver.Extension{say}, Log: log.logger()})
	c := login(t, srv)
	code, text = "X a", "ok\r\nb"
	c.gets("XSAY", "OK [X a] ok  b")
	code, text = "X\r\n* BYE", "ok"
	c.gets("XSAY", "OK ok")
	if !strings.Contains(log.String(), "response code") {
		t.Error("not logged")
	}
	only(t, srv).Alert("Grüße\r\n* BYE")
	if got := c.ok("NOOP"); len(got) != 1 || got[0] != "* OK [ALERT] Gr????e  * BYE" {
		t.Errorf("got %q", got)
	}
}

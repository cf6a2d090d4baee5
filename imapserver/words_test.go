package imapserver_test

import (
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imapserver"
)

// TestRefusalsNameTheWords: where only some words make sense, BAD says which.
func TestRefusalsNameTheWords(t *testing.T) {
	c := selected(t, memoryServer(t, imapserver.Options{}))
	for _, test := range []struct{ command, want string }{
		{"SELECT INBOX ()", "parameter of SELECT: CONDSTORE, QRESYNC"},
		{"SELECT INBOX (LOUD)", "parameter of SELECT: CONDSTORE, QRESYNC"},
		{"CREATE x (LOUD)", "parameter of CREATE: USE"},
		{"STATUS INBOX ()", "STATUS item: APPENDLIMIT"},
		{"STATUS INBOX (MESSAGES AGE)", "UIDNEXT"},
		{`LIST (LOUD) "" *`, "selection option of LIST: RECURSIVEMATCH"},
		{`LIST "" * RETURN (LOUD)`, "return option of LIST: CHILDREN"},
		{`LIST "" * (LOUD)`, "RETURN"},
		{"FETCH 1 ()", "FETCH item: BINARY"},
		{"FETCH 1 LOUD", "or "},
		{"FETCH 1 BODY[()]", "HEADER.FIELDS"},
		{"FETCH 1 FLAGS (LOUD)", "modifier of FETCH: CHANGEDSINCE"},
		{"STORE 1 (LOUD 1) FLAGS ()", "modifier of STORE: UNCHANGEDSINCE"},
		{`STORE 1 "x" ()`, "+FLAGS"},
		{"SEARCH LOUD", "search key: "},
		{"SEARCH )", "search key: "},
		{"SEARCH RETURN (LOUD) ALL", "return option of SEARCH: ALL"},
		{`SEARCH MODSEQ "/flags/\\seen" loud 1`, "all, priv or shared"},
		{"COMPRESS (x)", "DEFLATE"},
	} {
		_, tagged := c.do(test.command)
		if !strings.HasPrefix(tagged, "BAD ") || !strings.Contains(tagged, test.want) {
			t.Errorf("%s is answered %s; want BAD with %q", test.command, tagged, test.want)
		}
	}
}

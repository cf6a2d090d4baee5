package imapserver_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/memory"
)

// spoilt is a back end of whose messages one cannot be read.
type spoilt struct {
	imapserver.Backend
	uid imap.UID
	err error
}

type spoiltAccount struct {
	imapserver.Account
	b *spoilt
}

type spoiltMailbox struct {
	imapserver.Mailbox
	b *spoilt
}

func (b *spoilt) Open(ctx context.Context, user string) (imapserver.Account, error) {
	a, err := b.Backend.Open(ctx, user)
	return spoiltAccount{a, b}, err
}

func (a spoiltAccount) Mailbox(ctx context.Context, name string) (imapserver.Mailbox, error) {
	box, err := a.Account.Mailbox(ctx, name)
	return spoiltMailbox{box, a.b}, err
}

func (m spoiltMailbox) Fetch(ctx context.Context, rows []mailindex.Row, need imapserver.Need, fn func(i int, msg *imapserver.Message) error) error {
	return m.Mailbox.Fetch(ctx, rows, need, func(i int, msg *imapserver.Message) error {
		if rows[i].UID == m.b.uid {
			msg = &imapserver.Message{Err: m.b.err}
		}
		return fn(i, msg)
	})
}

// TestSearchUnreadable: a SEARCH that had to look into a message which cannot be read
// tells what else it has found, and that this was not all. Who is gone is not found.
func TestSearchUnreadable(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
		logs bool
	}{
		{imap.E("read", imap.Corruption, errors.New("secret cause")), "NO [CORRUPTION]", true},
		{imap.E("read", imap.ExpungeIssued, nil), "OK", false},
	} {
		m := memory.New()
		for range 3 {
			m.Add("ann", "INBOX", hello)
		}
		var log logBook
		c := selected(t, newServer(t, &spoilt{overMemory(t, m), 2, tc.err}, imapserver.Options{Log: log.logger()}))
		for _, command := range []string{"SEARCH SUBJECT xyzzy", "SEARCH NOT SUBJECT xyzzy", "SEARCH RETURN (SAVE) NOT BODY xyzzy", "UID SEARCH BODY xyzzy"} {
			untagged, tagged := c.do(command)
			if !strings.HasPrefix(tagged, tc.want) || strings.Contains(tagged, "secret") {
				t.Errorf("%s: %q", command, tagged)
			}
			if command == "SEARCH NOT SUBJECT xyzzy" && strings.Join(untagged, "|") != "* SEARCH 1 3" {
				t.Errorf("%s: %q", command, untagged)
			}
		}
		if got := strings.Contains(log.String(), "secret cause"); got != tc.logs {
			t.Errorf("%v is logged: %t", tc.err, got)
		}
	}
}

//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestImaplib runs through most methods of Python's imaplib.
func TestImaplib(t *testing.T) {
	s := start(t)
	out := run(t, "", "/usr/bin/python3", "testdata/python.py",
		"localhost", s.ports["imaps"], s.ports["imap"], s.ca, user, password)
	contains(t, out, "imaplib is content")
}

// TestMailIMAPClient does the same with Perl's Mail::IMAPClient.
func TestMailIMAPClient(t *testing.T) {
	s := start(t)
	out := run(t, "", "perl", "testdata/perl.pl", s.ports["imaps"], s.ca, user, password)
	contains(t, out, "Mail::IMAPClient is content")
}

// TestImapfilter sorts mail by its header into another mailbox.
func TestImapfilter(t *testing.T) {
	s := start(t)
	c := s.login()
	msgs := messages(t)
	for _, m := range msgs[:9] {
		c.append("INBOX", m)
	}
	config := filepath.Join(t.TempDir(), "config.lua")
	write(t, config, fmt.Sprintf(`
options.timeout = 20
options.certificates = true
options.create = true
options.subscribe = true
account = IMAP { server = 'localhost', port = %s, ssl = 'auto', username = '%s', password = [[%s]] }
matches = account.INBOX:contain_subject('dots') + account.INBOX:contain_body('the end')
print('matches ' .. #matches)
matches:mark_flagged()
matches:move_messages(account['Sorted/Here'])
print('left ' .. #account.INBOX:select_all())
`, s.ports["imaps"], user, strings.ReplaceAll(password, `\`, `\\`)))
	out := run(t, "", "imapfilter", "-c", config, "-t", s.ca)
	contains(t, out, "matches 2", "left 7")
	sameMessages(t, "Sorted/Here", c.messages("Sorted/Here"), [][]byte{msgs[2], msgs[4]})
	contains(t, c.flags("Sorted/Here"), `\Flagged`)
}

//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestInterimap keeps two servers the same with interimap, which lives on
// CONDSTORE and QRESYNC.
func TestInterimap(t *testing.T) {
	one, two := start(t), start(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "config")
	text := fmt.Sprintf("database = %s\nlist-select-opts =\n", filepath.Join(dir, "state.db"))
	for name, s := range map[string]*server{"local": one, "remote": two} {
		text += fmt.Sprintf("\n[%s]\ntype = imaps\nhost = localhost\nport = %s\nusername = %s\npassword = %s\nSSL_CAfile = %s\ncompress = YES\n",
			name, s.ports["imaps"], user, password, s.ca)
	}
	write(t, config, text)
	sync := func() string {
		t.Helper()
		return run(t, "", "interimap", "--config="+config)
	}

	msgs := messages(t)
	a, b := one.login(), two.login()
	a.do("CREATE Sub/Here")
	for _, m := range msgs[:6] {
		a.append("Sub/Here", m, `\Seen`, "$Work")
	}
	for _, m := range msgs[6:] {
		b.append("INBOX", m)
	}
	sync()
	sameMessages(t, "Sub/Here of the second", b.messages("Sub/Here"), msgs[:6])
	sameMessages(t, "INBOX of the first", a.messages("INBOX"), msgs[6:])
	contains(t, b.flags("Sub/Here"), `\Seen`, "$Work")
	quiet(t, sync())

	// Changes on both sides, told by QRESYNC.
	a.do("SELECT INBOX")
	a.do(`UID STORE 1:2 +FLAGS.SILENT (\Flagged)`)
	a.do(`UID STORE 3:4 +FLAGS.SILENT (\Deleted)`)
	a.do("UID EXPUNGE 3:4")
	b.do("SELECT INBOX")
	b.do(`UID STORE 1 +FLAGS.SILENT (\Answered)`)
	b.append("INBOX", msgs[0])
	contains(t, sync(), "INBOX")
	want := append(append(msgs[6:8:8], msgs[10:]...), msgs[0])
	sameMessages(t, "INBOX of the first", a.messages("INBOX"), want)
	sameMessages(t, "INBOX of the second", b.messages("INBOX"), want)
	for _, c := range []*session{a, b} {
		contains(t, c.flags("INBOX"), `\Flagged`, `\Answered`)
	}
	quiet(t, sync())
}

// quiet fails the test if interimap tells of something that it did.
func quiet(t *testing.T, out string) {
	t.Helper()
	for _, line := range strings.Split(out, "\n") {
		if strings.Contains(line, "UID") || strings.Contains(line, "Updated") || strings.Contains(line, "WARNING") {
			t.Errorf("the second run found something to do:\n%s", out)
			return
		}
	}
}

// TestOfflineIMAP pulls and pushes with offlineimap.
func TestOfflineIMAP(t *testing.T) {
	s := start(t)
	c := s.login()
	msgs := messages(t)
	for _, m := range msgs {
		c.append("INBOX", m)
	}
	dir := t.TempDir()
	secret, config := filepath.Join(dir, "secret"), filepath.Join(dir, "rc")
	write(t, secret, password+"\n")
	write(t, config, fmt.Sprintf(`[general]
accounts = a
metadata = %[1]s/meta
[Account a]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = %[1]s/Mail
[Repository far]
type = IMAP
remotehost = localhost
remoteport = %[2]s
remoteuser = %[3]s
remotepassfile = %[4]s
ssl = yes
sslcacertfile = %[5]s
`, dir, s.ports["imaps"], user, secret, s.ca))
	sync := func() string {
		t.Helper()
		return run(t, "", "offlineimap", "-c", config, "-o", "-1", "-u", "basic")
	}
	sync()
	// offlineimap writes the headers anew, so that bytes cannot be compared.
	if got := len(maildirMessages(t, filepath.Join(dir, "Mail", "INBOX"))); got != len(msgs) {
		t.Errorf("the folder has %d messages, want %d", got, len(msgs))
	}
	write(t, filepath.Join(dir, "Mail", "INBOX", "new", "18.M1.host"), string(toLF(msgs[0])))
	sync()
	if out := sync(); strings.Contains(out, "Copy message") {
		t.Errorf("the last run found something to do:\n%s", out)
	}
	if got := len(c.messages("INBOX")); got != len(msgs)+1 {
		t.Errorf("INBOX has %d messages, want %d", got, len(msgs)+1)
	}
}

// TestGetmail fetches with getmail, twice: the second run gets nothing.
func TestGetmail(t *testing.T) {
	s := start(t)
	c := s.login()
	msgs := messages(t)
	for _, m := range msgs {
		c.append("INBOX", m)
	}
	dir := t.TempDir()
	box := filepath.Join(dir, "box")
	write(t, filepath.Join(dir, "rc"), fmt.Sprintf(`[retriever]
type = SimpleIMAPSSLRetriever
server = localhost
port = %s
username = %s
password = %s
ca_certs = %s
mailboxes = ("INBOX",)
[destination]
type = MDA_external
path = /bin/sh
arguments = ("-c", "cat >>%s")
allow_root_commands = true
[options]
read_all = false
delete = false
delivered_to = false
received = false
`, s.ports["imaps"], user, password, s.ca, box))
	for range 2 {
		run(t, "", "getmail", "--getmaildir="+dir, "--rcfile=rc")
		data, err := os.ReadFile(box)
		if err != nil {
			t.Fatal(err)
		}
		contains(t, string(data), "Subject: plain", "Subject: dots", "AAAA")
		if n := strings.Count(string(data), "Subject: twins"); n != 2 {
			t.Errorf("the twins came %d times", n)
		}
	}
}

// TestFetchmail takes all mail away with fetchmail.
func TestFetchmail(t *testing.T) {
	s := start(t)
	c := s.login()
	msgs := messages(t)
	for _, m := range msgs {
		c.append("INBOX", m)
	}
	dir := t.TempDir()
	rc, box := filepath.Join(dir, "rc"), filepath.Join(dir, "box")
	write(t, rc, fmt.Sprintf("poll localhost service %s protocol IMAP bad-header accept user '%s' password '%s' ssl sslcertck sslcertfile %s fetchall nokeep norewrite no forcecr mda \"cat >>%s\"\n",
		s.ports["imaps"], user, strings.ReplaceAll(password, `\`, `\\`), s.ca, box))
	out := run(t, "", "fetchmail", "-f", rc, "--nodetach", "--nosyslog", "-v", "-i", filepath.Join(dir, "ids"), "--pidfile", filepath.Join(dir, "pid"))
	data, err := os.ReadFile(box)
	if err != nil {
		t.Fatal(err)
	}
	contains(t, string(data), "Subject: plain", "Subject: dots", "AAAA")
	if got := len(c.messages("INBOX")); got != 0 {
		t.Errorf("%d messages are left; fetchmail says\n%s", got, out)
	}
}

//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mbsync is a folder that mbsync keeps the same as a server.
type mbsync struct {
	t           *testing.T
	config, dir string
}

func newMbsync(s *server) *mbsync {
	m := &mbsync{t: s.t, dir: filepath.Join(s.t.TempDir(), "Mail")}
	m.config = filepath.Join(filepath.Dir(m.dir), "mbsyncrc")
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	secret := filepath.Join(filepath.Dir(m.dir), "password")
	write(s.t, secret, password)
	write(s.t, m.config, fmt.Sprintf(`IMAPAccount rookery
Host localhost
Port %s
User %s
PassCmd "cat %s"
SSLType IMAPS
CertificateFile %s

IMAPStore far
Account rookery

MaildirStore near
Path %s/
Inbox %s/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Remove Both
Expunge Both
SyncState *
CopyArrivalDate yes
`, s.ports["imaps"], user, secret, s.ca, m.dir, m.dir))
	return m
}

// sync runs mbsync and returns what it did, "" for nothing.
func (m *mbsync) sync() string {
	m.t.Helper()
	out := run(m.t, "", "mbsync", "-V", "-c", m.config, "-a")
	if strings.Contains(out, "Warning") || strings.Contains(out, "Error") {
		m.t.Errorf("mbsync is not content:\n%s", out)
	}
	var did []string
	for _, line := range strings.Split(out, "\n") {
		if busy.MatchString(line) {
			did = append(did, line)
		}
	}
	return strings.Join(did, "\n")
}

// busy is a line of mbsync that tells of something done: "near: +0 *0 #0".
var busy = regexp.MustCompile(`[+*#][1-9]|[Oo]pening .* box .*\.\.\. creating|^(Creating|Deleting|Pulling|Pushing|Expunging)`)

// messages returns the messages of one of mbsync's folders, without the line
// that mbsync itself puts into the header.
func (m *mbsync) messages(mailbox string) [][]byte {
	m.t.Helper()
	all := maildirMessages(m.t, filepath.Join(m.dir, mailbox))
	for i, msg := range all {
		all[i] = tuid.ReplaceAll(msg, nil)
	}
	return all
}

var tuid = regexp.MustCompile(`(?m)^X-TUID: \S+\r\n`)

// TestMaildirToMbsync is the way of a person who moves in: an old Maildir is
// imported, and mbsync gets it back, byte for byte.
func TestMaildirToMbsync(t *testing.T) {
	s := start(t)
	old := filepath.Join(t.TempDir(), "Maildir")
	msgs := messages(t)
	maildir(t, old, msgs)
	maildir(t, filepath.Join(old, ".Work.K&APY-ln"), msgs[:3])
	for _, want := range []string{fmt.Sprintf("%d messages imported", len(msgs)+3), "nothing new"} {
		if out := s.rookery("import", "maildir", old, "--user", user); !strings.Contains(out, want) {
			t.Errorf("import says %q, want %q", out, want)
		}
	}
	m := newMbsync(s)
	m.sync()
	sameMessages(t, "INBOX", m.messages("INBOX"), msgs)
	sameMessages(t, "Work/Köln", m.messages("Work/K&APY-ln"), msgs[:3])
	if did := m.sync(); did != "" {
		t.Errorf("the second run found something to do:\n%s", did)
	}
	sameMessages(t, "the server", s.login().messages("INBOX"), msgs)
	seen := 0
	for _, name := range maildirFiles(t, filepath.Join(m.dir, "INBOX")) {
		if strings.Contains(name, ":2,") && strings.Contains(name[strings.Index(name, ":2,"):], "S") {
			seen++
		}
	}
	if want := len(msgs) * 3 / 4; seen < want-1 || seen > want+1 {
		t.Errorf("%d messages are seen, want about %d", seen, want)
	}
}

// TestMbsyncTwoWay changes both sides between runs.
func TestMbsyncTwoWay(t *testing.T) {
	s := start(t)
	c := s.login()
	m := newMbsync(s)
	msgs := messages(t)[:8]
	c.do("CREATE Far")
	for _, msg := range msgs[:4] {
		c.append("Far", msg)
	}
	maildir(t, filepath.Join(m.dir, "Near"), msgs[4:])
	m.sync()
	sameMessages(t, "Near on the server", withoutTUID(c.messages("Near")), msgs[4:])
	sameMessages(t, "Far in the folder", m.messages("Far"), msgs[:4])
	if did := m.sync(); did != "" {
		t.Errorf("the second run found something to do:\n%s", did)
	}

	// Flags and deletions both ways, and a new message each.
	c.do("SELECT Far")
	c.do(`UID STORE 1 +FLAGS (\Flagged)`)
	c.do(`UID STORE 2 +FLAGS (\Deleted)`)
	c.do("EXPUNGE")
	c.append("Far", msgs[7], `\Seen`)
	near := maildirFiles(t, filepath.Join(m.dir, "Near"))
	rename(t, near[0], near[0][:strings.Index(near[0], ":2,")]+":2,FS")
	remove(t, near[1])
	write(t, filepath.Join(m.dir, "Near", "new", "18.M1.host"), string(toLF(msgs[0])))
	m.sync()
	sameMessages(t, "Far in the folder", m.messages("Far"), [][]byte{msgs[0], msgs[2], msgs[3], msgs[7]})
	if got := len(c.messages("Near")); got != 4 {
		t.Errorf("Near has %d messages on the server, want 4", got)
	}
	contains(t, c.flags("Near"), `\Flagged`)
	if did := m.sync(); did != "" {
		t.Errorf("the last run found something to do:\n%s", did)
	}

	// mbsync removes a folder only when it is empty.
	c.do("SELECT Far")
	c.do(`UID STORE 1:* +FLAGS.SILENT (\Deleted)`)
	c.do("CLOSE")
	m.sync()
	c.do("DELETE Far")
	m.sync()
	if _, err := os.Stat(filepath.Join(m.dir, "Far", "cur")); err == nil {
		t.Error("Far is still in the folder")
	}
}

func withoutTUID(all [][]byte) [][]byte {
	for i, m := range all {
		all[i] = tuid.ReplaceAll(bytes.Clone(m), nil)
	}
	return all
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

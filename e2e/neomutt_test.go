//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// neomuttrc writes a configuration for the account of name.
func neomuttrc(s *server, name, secret string) string {
	s.t.Helper()
	dir := s.t.TempDir()
	rc := filepath.Join(dir, "neomuttrc")
	write(s.t, rc, fmt.Sprintf(`set folder = "imaps://%s@localhost:%s/"
set imap_pass = '%s'
set certificate_file = %s
set ssl_force_tls = yes
set spoolfile = "+INBOX"
set record = "+Sent"
set sendmail = /bin/true
set from = ann@example.org
set realname = "Ann"
set header_cache = %s
set imap_check_subscribed = no
set imap_qresync = yes
set sort = threads
set pager_index_lines = 0
set wait_key = no
set confirmappend = no
set quit = yes
set fast_reply = yes
set autoedit = yes
set editor = true
set delete = yes
set copy = yes
`, name, s.ports["imaps"], secret, s.ca, filepath.Join(dir, "cache")))
	return rc
}

// TestNeomuttSends writes a message; its copy goes into Sent by IMAP.
func TestNeomuttSends(t *testing.T) {
	s := start(t)
	c := s.login()
	c.do("CREATE Sent")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "body.txt"), "Grüße aus der Ferne\n")
	write(t, filepath.Join(dir, "notes.txt"), "to be attached\n")
	term := terminal(t, "neomutt", "-n", "-F", neomuttrc(s, user, password), "-s", "Ein Gruß",
		"-i", filepath.Join(dir, "body.txt"), "-a", filepath.Join(dir, "notes.txt"), "--", "bob@example.org")
	term.waitFor("Subject: Ein Gruß", "Atts: 2")
	term.keys("y")
	term.waitForEnd()
	sent := c.messages("Sent")
	if len(sent) != 1 {
		t.Fatalf("Sent has %d messages, want 1", len(sent))
	}
	contains(t, string(sent[0]), "To: bob@example.org", "Subject: Ein ", `filename="notes.txt"`)
	contains(t, c.flags("Sent"), `\Seen`)
}

// TestNeomutt reads the demo's mail on a terminal.
func TestNeomutt(t *testing.T) {
	s := start(t, "--demo")
	term := terminal(t, "neomutt", "-n", "-F", neomuttrc(s, "demo", "demo"))
	term.waitFor("Welcome to Rookery", "Tea on Thursday?", "A picture of the tower")

	// A message with text and attachments, another script, and a thread.
	term.keys("/The report", "Enter", "Enter")
	term.waitFor("The report, and the figures", "Bob O'Jackdaw", "application/")
	term.keys("i")
	term.waitFor("Tea on Thursday?")
	term.keys("/Κορ", "Enter")
	term.keys("c", "=Reisen/Köln", "Enter")
	term.waitFor("Fahrkarte nach Köln")
	term.keys("c", "=日本語", "Enter")
	term.waitFor("写真")
	term.keys("c", "=INBOX", "Enter")
	term.waitFor("Welcome to Rookery")

	// Searching at the server, flagging, moving, leaving.
	term.keys("l", "=b Thursday", "Enter")
	term.waitFor("Tea on Thursday?")
	term.keys("F", "s", "=Archive", "Enter")
	term.keys("l", "all", "Enter")
	term.keys("$")
	term.keys("c", "=Archive", "Enter")
	term.waitFor("Tea on Thursday?")
	term.keys("q")
	term.waitForEnd()
}

// screen is a program on a terminal.
type screen struct {
	t      *testing.T
	socket string
}

// terminal runs a program on a terminal of its own.
func terminal(t *testing.T, program string, args ...string) *screen {
	t.Helper()
	need(t, program)
	need(t, "tmux")
	s := &screen{t: t, socket: filepath.Join(t.TempDir(), "tmux")}
	command := append([]string{"-f", "/dev/null", "-u", "new-session", "-d", "-x", "120", "-y", "50", program}, args...)
	if out, err := s.tmux(command...); err != nil {
		t.Fatalf("tmux: %v\n%s", err, out)
	}
	t.Cleanup(func() { _, _ = s.tmux("kill-server") })
	return s
}

func (s *screen) tmux(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "tmux", append([]string{"-S", s.socket}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+filepath.Dir(s.socket), "LC_ALL=C.UTF-8", "TERM=xterm-256color", "TMUX=")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// keys types. Names of keys, as tmux has them, are keys.
func (s *screen) keys(keys ...string) {
	s.t.Helper()
	for _, k := range keys {
		if out, err := s.tmux("send-keys", k); err != nil {
			s.t.Fatalf("tmux send-keys %s: %v\n%s", k, err, out)
		}
	}
}

// waitFor waits until all of want is on the screen.
func (s *screen) waitFor(want ...string) {
	s.t.Helper()
	var text string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		text, _ = s.tmux("capture-pane", "-p")
		missing := false
		for _, w := range want {
			missing = missing || !strings.Contains(text, w)
		}
		if !missing {
			return
		}
	}
	s.t.Fatalf("waited for %q; the screen shows:\n%s", want, text)
}

// waitForEnd waits until the program has ended.
func (s *screen) waitForEnd() {
	s.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if _, err := s.tmux("has-session"); err != nil {
			return
		}
	}
	text, _ := s.tmux("capture-pane", "-p")
	s.t.Fatalf("the program has not ended; the screen shows:\n%s", text)
}

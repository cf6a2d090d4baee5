//go:build e2e

package e2e

import (
	"path/filepath"
	"testing"
)

// curl runs curl as the user, with more options.
func (s *server) curl(args ...string) string {
	s.t.Helper()
	base := []string{"-sS", "--cacert", s.ca, "-u", user + ":" + password}
	return run(s.t, "", "curl", append(base, args...)...)
}

func TestCurl(t *testing.T) {
	s := start(t)
	contains(t, s.curl(s.url("")), `* LIST (\HasNoChildren) "/" INBOX`)
	s.curl(s.url(""), "-X", "CREATE Archive/2020")
	contains(t, s.curl(s.url("")), `"/" Archive/2020`)

	msgs := messages(t)
	file := filepath.Join(t.TempDir(), "message")
	for _, m := range msgs {
		write(t, file, string(m))
		s.curl("-T", file, s.url("INBOX"))
	}
	for i, m := range msgs {
		got := s.curl(s.url("INBOX;UID=" + itoa(i+1)))
		if got != string(m) {
			t.Fatalf("message %d came back different at byte %d", i+1, firstDifference([]byte(got), m))
		}
	}
	contains(t, s.curl(s.url("INBOX;MAILINDEX=1;SECTION=HEADER.FIELDS%20(SUBJECT)")), "Subject: plain\r\n")
	contains(t, s.curl(s.url("INBOX?SUBJECT%20twins")), "* SEARCH 12 13")
	contains(t, s.curl(s.url("INBOX"), "-X", `SEARCH TEXT "From here"`), "* SEARCH 5")
	contains(t, s.curl(s.url("INBOX"), "-X", "FETCH 1:2 (FLAGS RFC822.SIZE)"), "* 1 FETCH", `\Seen`, "* 2 FETCH")
	contains(t, s.curl(s.url(""), "-X", "STATUS INBOX (MESSAGES UNSEEN)"), "MESSAGES "+itoa(len(msgs)), "UNSEEN 0")
	s.curl(s.url("INBOX"), "-X", `STORE 2:9 +FLAGS.SILENT (\Deleted)`)
	s.curl(s.url("INBOX"), "-X", "EXPUNGE")
	contains(t, s.curl(s.url(""), "-X", "STATUS INBOX (MESSAGES)"), "MESSAGES "+itoa(len(msgs)-8)+")")
}

// TestCurlStartTLS uses the plain port, which takes no password before TLS.
func TestCurlStartTLS(t *testing.T) {
	s := start(t)
	plain := "imap://localhost:" + s.ports["imap"] + "/"
	contains(t, s.curl("--ssl-reqd", plain), "* LIST")
	contains(t, s.curl("--ssl-reqd", "--login-options", "AUTH=PLAIN", plain), "* LIST")
	if out, err := try(t, "", "curl", "-sS", "-u", user+":"+password, plain); err == nil {
		t.Errorf("the password was taken without TLS: %s", out)
	}
	if out, err := try(t, "", "curl", "-sS", "--cacert", s.ca, "-u", user+":wrong", s.url("")); err == nil {
		t.Errorf("a wrong password was taken: %s", out)
	}

	insecure := start(t, "--insecure-auth")
	plain = "imap://localhost:" + insecure.ports["imap"] + "/"
	contains(t, run(t, "", "curl", "-sS", "-u", user+":"+password, plain), "* LIST")
}

//go:build e2e

package e2e

import (
	"bytes"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// trace is what a delivery puts before a message.
var trace = regexp.MustCompile(`^Return-Path: <sender@x\.org>\r\n(Delivered-To: .*\r\n)?Received: .*\r\n([ \t].*\r\n)*`)

// TestLMTP delivers as an MTA does. The message is in the INBOX, byte for byte.
func TestLMTP(t *testing.T) {
	s := start(t)
	var want [][]byte
	file := filepath.Join(t.TempDir(), "data")
	for _, m := range messages(t) {
		if !bytes.HasSuffix(m, []byte("\r\n")) || len(m) > 1<<16 {
			continue // LMTP cannot say the first, and swaks is slow
		}
		want = append(want, m)
		write(t, file, strings.ReplaceAll("\n"+string(m), "\n.", "\n..")[1:]+".\r\n")
		s.swaks("--to", user+"@example.org", "--data", "@"+file, "--no-data-fixup")
	}
	s.swaks("--to", strings.ToUpper(user)+"+detail@example.org,"+user+"@example.net", "--header", "Subject: for two")
	out, err := try(t, "", "swaks", s.swaksArgs("--to", "nobody@example.org,"+user+"@example.org", "--header", "Subject: for one")...)
	if !strings.Contains(out, "550 5.1.1") {
		t.Errorf("mail for nobody: %v\n%s", err, out)
	}

	var got [][]byte
	for _, m := range s.login().messages("INBOX") {
		if bytes.Contains(m, []byte("Subject: for ")) {
			continue
		}
		head := trace.Find(m)
		got = append(got, m[len(head):])
	}
	sameMessages(t, "INBOX", got, want)
	contains(t, s.curl(s.url("INBOX?SUBJECT%20%22for%20one%22")), "* SEARCH "+itoa(len(want)+3))
}

func (s *server) swaksArgs(args ...string) []string {
	return append([]string{"--protocol", "LMTP", "--server", "127.0.0.1", "--port", s.ports["lmtp"],
		"--from", "sender@x.org", "--helo", "client.example.org"}, args...)
}

func (s *server) swaks(args ...string) {
	s.t.Helper()
	run(s.t, "", "swaks", s.swaksArgs(args...)...)
}

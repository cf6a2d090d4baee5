package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestTerminate ends the server in order while one client idles, one is in the
// middle of an APPEND, and one has not said anything yet.
func TestTerminate(t *testing.T) {
	dir := t.TempDir()
	k := &killing{t: t, binary: filepath.Join(dir, "rookery"), data: filepath.Join(dir, "data"), users: filepath.Join(dir, "users")}
	k.build()
	if err := os.WriteFile(k.users, []byte("ann:{PLAIN}a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k.start()
	dial := func(commands ...string) *imapConn {
		t.Helper()
		c, err := dialIMAP(k.imaps)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		for _, cmd := range commands {
			if _, status, err := c.do(cmd); err != nil || !strings.HasPrefix(status, "OK") {
				t.Fatalf("%s: %s, %v", cmd, status, err)
			}
		}
		return c
	}
	send := func(c *imapConn, text string) {
		t.Helper()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(c *imapConn, prefix string) {
		t.Helper()
		_ = c.SetDeadline(time.Now().Add(patience))
		for {
			line, err := c.r.ReadString('\n')
			if err != nil {
				t.Fatalf("waiting for %q: %v", prefix, err)
			}
			if strings.HasPrefix(line, prefix) {
				return
			}
		}
	}
	idler := dial("LOGIN ann a", "SELECT INBOX")
	send(idler, "i IDLE\r\n")
	expect(idler, "+ ")
	writer := dial("LOGIN ann a")
	const message = "Subject: under way\r\n\r\nto the end\r\n"
	send(writer, "w APPEND INBOX {34}\r\n")
	expect(writer, "+ ")
	send(writer, message[:10])
	silent := dial()

	if err := k.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	expect(idler, "* BYE ")
	expect(silent, "* BYE ")
	send(writer, message[10:]+"\r\n")
	expect(writer, "w OK ")
	expect(writer, "* BYE ")
	if err := k.cmd.Wait(); err != nil {
		t.Fatalf("the server ended with %v\n%s", err, k.log.String())
	}
	k.start()
	defer k.kill()
	if answer, _, err := dial("LOGIN ann a").do("EXAMINE INBOX"); err != nil || !strings.Contains(answer, "* 1 EXISTS") {
		t.Errorf("after the restart: %q, %v", answer, err)
	}
}

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFewFiles runs the real server with 128 open files, and connects more
// often than that. Who is in goes on; who is one too many is sent away; nothing
// that was acknowledged is lost; and afterwards everyone can come in again.
func TestFewFiles(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("there is no sh here to set the limit with")
	}
	dir := t.TempDir()
	k := &killing{t: t, binary: filepath.Join(dir, "rookery"), data: filepath.Join(dir, "data"), users: filepath.Join(dir, "users"),
		before: "ulimit -n 128"}
	k.build()
	if err := os.WriteFile(k.users, []byte("ann:{PLAIN}a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k.start()
	defer k.kill()
	login := func() (*imapConn, error) {
		c, err := dialIMAP(k.imaps)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { c.Close() })
		if _, status, err := c.do("LOGIN ann a"); err != nil || !strings.HasPrefix(status, "OK") {
			return nil, fmt.Errorf("LOGIN: %s, %w", status, err)
		}
		return c, nil
	}
	c, err := login()
	if err != nil {
		t.Fatal(err)
	}
	var acked []string
	add := func(subject string) {
		t.Helper()
		_, status, err := c.do("APPEND INBOX ", literal([]byte("Subject: "+subject+"\r\n\r\nhello\r\n")))
		switch {
		case err != nil:
			t.Fatalf("APPEND: %v", err)
		case strings.HasPrefix(status, "OK"):
			acked = append(acked, subject)
		case !strings.HasPrefix(status, "NO [UNAVAILABLE]"):
			t.Errorf("APPEND: %s", status)
		}
	}
	add("before")
	for _, addr := range []string{k.imaps, k.lmtp} {
		for range 200 {
			c, err := net.DialTimeout("tcp", addr, patience)
			if err != nil {
				break // the system's own queue is full
			}
			defer c.Close()
		}
	}
	for i := range 30 {
		add(fmt.Sprintf("during-%d", i))
		if _, status, err := c.do("SELECT INBOX"); err != nil || !strings.HasPrefix(status, "OK") && !strings.HasPrefix(status, "NO [UNAVAILABLE]") {
			t.Fatalf("SELECT: %s, %v", status, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	add("after")
	if len(acked) < 10 {
		t.Errorf("only %d of 32 messages were taken", len(acked))
	}
	k.kill()
	k.start()
	if c, err = login(); err != nil {
		t.Fatal(err)
	}
	if _, status, err := c.do("SELECT INBOX"); err != nil || !strings.HasPrefix(status, "OK") {
		t.Fatalf("SELECT: %s, %v", status, err)
	}
	got, _, err := c.do("FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]")
	for _, subject := range acked {
		if !strings.Contains(got, "Subject: "+subject+"\r\n") {
			t.Errorf("%s was acknowledged and is lost (%v)", subject, err)
		}
	}
}

// TestFewFilesRecovers: when those who were too many are gone, others come in.
func TestFewFilesRecovers(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("there is no sh here to set the limit with")
	}
	dir := t.TempDir()
	k := &killing{t: t, binary: filepath.Join(dir, "rookery"), data: filepath.Join(dir, "data"), users: filepath.Join(dir, "users"),
		before: "ulimit -n 96"}
	k.build()
	if err := os.WriteFile(k.users, []byte("ann:{PLAIN}a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k.start()
	defer k.kill()
	var conns []net.Conn
	for range 300 {
		c, err := net.DialTimeout("tcp", k.imaps, patience)
		if err != nil {
			break
		}
		conns = append(conns, c)
	}
	time.Sleep(200 * time.Millisecond)
	for _, c := range conns {
		c.Close()
	}
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		c, err := dialIMAP(k.imaps)
		if err == nil {
			_, status, err := c.do("LOGIN ann a")
			c.Close()
			if err == nil && strings.HasPrefix(status, "OK") {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("nobody comes in any more: %v\n%s", err, k.log.String())
		}
	}
}

// TestFileSize runs the real server where the system bounds the size of files: a
// write beyond that fails and does not end the process, what is too long is
// refused, all else is taken, and nothing that was acknowledged is lost.
func TestFileSize(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("there is no sh here to set the limit with")
	}
	dir := t.TempDir()
	k := &killing{t: t, binary: filepath.Join(dir, "rookery"), data: filepath.Join(dir, "data"), users: filepath.Join(dir, "users"),
		before: "ulimit -f 4096"} // 2 MiB, or 4
	k.build()
	if err := os.WriteFile(k.users, []byte("ann:{PLAIN}x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k.start()
	defer func() { k.kill() }()
	acked := 0
	c := k.login("ann")
	add := func(size int) (status string) {
		t.Helper()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, status, err := c.do("APPEND INBOX ", literal([]byte("Subject: x\r\n\r\n"+strings.Repeat("Some words of a line.\r\n", size/23))))
		if err != nil {
			t.Fatalf("APPEND: %v\n%s", err, k.log.String())
		}
		if strings.HasPrefix(status, "OK") {
			acked++
		}
		return status
	}
	for i := range 30 {
		if status := add(500_000); !strings.HasPrefix(status, "OK") {
			t.Errorf("message %d: %s", i, status)
		}
		if i%10 == 5 {
			if status := add(6_000_000); !strings.HasPrefix(status, "NO [UNAVAILABLE]") {
				t.Errorf("a message that is longer than a file can be: %s", status)
			}
		}
	}
	for range 2 {
		if err := k.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := k.cmd.Wait(); err != nil {
			t.Errorf("the server ended with %v\n%s", err, k.log.String())
		}
		k.before = "ulimit -f unlimited"
		k.start()
		c = k.login("ann")
		if got, want := k.run(c, "SELECT INBOX"), fmt.Sprintf("* %d EXISTS", acked); !strings.Contains(got, want) {
			t.Errorf("after a restart: %s, want %s", got, want)
		}
		if status := add(6_000_000); !strings.HasPrefix(status, "OK") {
			t.Errorf("without the limit: %s", status)
		}
	}
}

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFullDisk: the program on a file system of its own that is full to the last
// octet, with a reserve and without. Commands get NO [UNAVAILABLE] or [OVERQUOTA],
// deliveries 4xx; when there is room again all goes on by itself; what was
// acknowledged is there, also after SIGKILL.
func TestFullDisk(t *testing.T) {
	for _, reserve := range []string{"8M", "0"} {
		t.Run("reserve "+reserve, func(t *testing.T) {
			disk := smallDisk(t)
			k := onSmallDisk(t, disk)
			k.more = []string{"--reserve", reserve}
			k.start()
			defer func() { k.kill() }()
			fullDisk(t, k, filepath.Join(disk, "filler"))
		})
	}
}

// smallDisk mounts a file system of 64 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=64m"); errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENODEV) {
		t.Skipf("a small file system cannot be mounted here, which takes root: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	return disk
}

// onSmallDisk is a server for ann whose data folder is on that disk.
func onSmallDisk(t *testing.T, disk string) *killing {
	t.Helper()
	dir := t.TempDir()
	k := &killing{t: t, binary: filepath.Join(dir, "rookery"), data: filepath.Join(disk, "data"), users: filepath.Join(dir, "users")}
	k.build()
	if err := os.WriteFile(k.users, []byte("ann:{PLAIN}x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return k
}

// TestStartOnAFullDisk: with the default reserve the program starts, serves and
// ends in order on a disk that others have filled, and takes mail again by itself
// when there is room.
func TestStartOnAFullDisk(t *testing.T) {
	disk := smallDisk(t)
	k := onSmallDisk(t, disk)
	k.start()
	defer func() { k.kill() }()
	c := k.login("ann")
	add := func() string {
		t.Helper()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, status, err := c.do("APPEND INBOX ", literal([]byte("Subject: x\r\n\r\n"+strings.Repeat("Some words of a line.\r\n", 2000))))
		if err != nil {
			t.Fatalf("APPEND: %v\n%s", err, k.log.String())
		}
		return status
	}
	const messages = 20
	for range messages {
		if status := add(); !strings.HasPrefix(status, "OK") {
			t.Fatal(status)
		}
	}
	term := func() {
		t.Helper()
		if err := k.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := k.cmd.Wait(); err != nil {
			t.Errorf("the server ended with %v\n%s", err, k.log.String())
		}
	}
	ballast, filler := filepath.Join(k.data, "BALLAST"), filepath.Join(disk, "filler")
	waitFor(t, ballast)
	fillDisk(t, filler)
	term()
	for _, end := range []func(){term, k.kill, term} {
		k.start()
		c = k.login("ann")
		if got := k.run(c, "SELECT INBOX"); !strings.Contains(got, fmt.Sprintf("* %d EXISTS", messages)) {
			t.Errorf("on a full disk: %s", got)
		}
		if got := k.run(c, "FETCH 7 BODY.PEEK[]"); !strings.Contains(got, "Some words of a line.") {
			t.Errorf("on a full disk: FETCH: %q", got)
		}
		for _, command := range []string{"STORE 1 +FLAGS (\\Flagged)", "CREATE other"} {
			if _, status, err := c.do(command); err != nil || !strings.HasPrefix(status, "NO [UNAVAILABLE]") {
				t.Errorf("on a full disk: %s: %s, %v", command, status, err)
			}
		}
		if status := add(); !strings.HasPrefix(status, "NO [UNAVAILABLE]") {
			t.Errorf("on a full disk: APPEND: %s", status)
		}
		end()
	}
	k.start()
	fillDisk(t, filepath.Join(disk, "more")) // now the ballast is used up, too
	term()
	for _, name := range []string{"filler", "more"} {
		if err := os.Remove(filepath.Join(disk, name)); err != nil {
			t.Fatal(err)
		}
	}
	k.start()
	c = k.login("ann")
	if got := k.run(c, "SELECT INBOX"); !strings.Contains(got, fmt.Sprintf("* %d EXISTS", messages)) {
		t.Errorf("with room again: %s", got)
	}
	fillDisk(t, filler)
	if status := add(); !strings.HasPrefix(status, "NO [UNAVAILABLE]") {
		t.Errorf("on a full disk: APPEND: %s", status)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if status := add(); !strings.HasPrefix(status, "OK") {
		t.Errorf("with room again: %s", status)
	}
	waitFor(t, ballast)
}

// waitFor waits until there is a file.
func waitFor(t *testing.T, name string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(name); err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s is not made", name)
		}
	}
}

func fullDisk(t *testing.T, k *killing, filler string) {
	c := k.login("ann")
	var acked []string
	add := func(subject string) (status string) {
		t.Helper()
		text := "Subject: " + subject + "\r\n\r\n" + strings.Repeat("Some words of a line.\r\n", 2000)
		_, status, err := c.do("APPEND INBOX ", literal([]byte(text)))
		if err != nil {
			t.Fatalf("APPEND: %v\n%s", err, k.log.String())
		}
		if strings.HasPrefix(status, "OK") {
			acked = append(acked, subject)
		} else if !strings.HasPrefix(status, "NO [UNAVAILABLE]") && !strings.HasPrefix(status, "NO [OVERQUOTA]") {
			t.Errorf("APPEND: %s", status)
		}
		return status
	}
	if status := add("before"); !strings.HasPrefix(status, "OK") {
		t.Fatal(status)
	}
	for round := range 3 {
		fillDisk(t, filler)
		refused := 0
		for i := range 400 {
			_ = c.SetDeadline(time.Now().Add(patience))
			if !strings.HasPrefix(add(fmt.Sprintf("full-%d-%d", round, i)), "OK") {
				if refused++; refused == 20 {
					break
				}
			}
		}
		if refused == 0 {
			t.Error("nothing was refused")
		}
		for i := 0; ; i++ {
			subject := fmt.Sprintf("lmtp-full-%d-%d", round, i)
			reply := deliverOne(t, k.lmtp, subject)
			if strings.HasPrefix(reply, "4") {
				break
			}
			if !strings.HasPrefix(reply, "2") || i == 100 {
				t.Errorf("LMTP: %s", reply)
				break
			}
			acked = append(acked, subject) // it still had room in what there was
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		after := fmt.Sprint("after-", round)
		for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			_ = c.SetDeadline(time.Now().Add(patience))
			status := add(after)
			if strings.HasPrefix(status, "OK") {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("with room again: %s\n%s", status, k.log.String())
			}
		}
		subject := fmt.Sprint("lmtp-", round)
		if reply := deliverOne(t, k.lmtp, subject); !strings.HasPrefix(reply, "2") {
			t.Errorf("LMTP with room again: %s", reply)
		}
		acked = append(acked, subject)
	}
	for range 2 {
		c = k.login("ann")
		k.run(c, "SELECT INBOX")
		got := k.run(c, "FETCH 1:* (RFC822.SIZE BODY.PEEK[])")
		for _, subject := range acked {
			if n := strings.Count(got, "Subject: "+subject+"\r\n"); n != 1 {
				t.Errorf("%s was acknowledged and is there %d times", subject, n)
			}
		}
		k.kill()
		k.start()
	}
}

// fillDisk writes a file until there is no room left.
func fillDisk(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 64<<10); len(chunk) > 0; {
		if _, err := f.Write(chunk); errors.Is(err, syscall.ENOSPC) {
			chunk = chunk[:len(chunk)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// deliverOne delivers a message to ann and returns the answer that decides.
func deliverOne(t *testing.T, addr, subject string) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	r, reply := bufio.NewReader(c), ""
	for _, line := range []string{"", "LHLO x", "MAIL FROM:<x@example.org>", "RCPT TO:<ann>", "DATA", "Subject: " + subject + "\r\n\r\n" + strings.Repeat("Words of a line.\r\n", 2000) + "."} {
		if line != "" {
			_, err = io.WriteString(c, line+"\r\n")
		}
		for err == nil {
			if reply, err = r.ReadString('\n'); len(reply) > 3 && reply[3] == ' ' {
				break
			}
		}
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if reply[0] > '3' {
			break
		}
	}
	return reply
}

// TestExpungeMakesRoom: where the reserve has come to refuse messages, taking away
// some of those that are there makes room for others, though most of every file
// of messages lives.
func TestExpungeMakesRoom(t *testing.T) {
	k := onSmallDisk(t, smallDisk(t))
	k.start()
	defer func() { k.kill() }()
	c := k.login("ann")
	text := []byte("Subject: x\r\n\r\n" + strings.Repeat("Some words of a line.\r\n", 10_000))
	add := func() bool {
		t.Helper()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, status, err := c.do("APPEND INBOX ", literal(text))
		if err != nil || !strings.HasPrefix(status, "OK") && !strings.HasPrefix(status, "NO [UNAVAILABLE]") {
			t.Fatalf("APPEND: %s, %v\n%s", status, err, k.log.String())
		}
		return strings.HasPrefix(status, "OK")
	}
	n := 0
	for add() {
		n++
	}
	var some []string
	for i := 1; i <= n; i += 4 {
		some = append(some, fmt.Sprint(i))
	}
	k.run(c, "SELECT INBOX")
	k.run(c, "STORE "+strings.Join(some, ",")+" +FLAGS (\\Deleted)")
	k.run(c, "EXPUNGE")
	n -= len(some)
	for end := time.Now().Add(patience); !add(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after an EXPUNGE of %d of %d messages there is no room\n%s", len(some), n, k.log.String())
		}
	}
	if got, want := k.run(c, "SELECT INBOX"), fmt.Sprintf("* %d EXISTS", n+1); !strings.Contains(got, want) {
		t.Errorf("%s, want %s", got, want)
	}
}

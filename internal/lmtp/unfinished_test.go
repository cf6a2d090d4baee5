package lmtp_test

import (
	"bufio"
	"bytes"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/lmtp"
)

// TestUnfinished: clients that send much of a message and never its end cost
// little memory, for nobody needs a password to be one of them.
func TestUnfinished(t *testing.T) {
	const clients, allowed = 60, 256 << 10
	d := &desk{}
	_, first := start(t, d, lmtp.Options{})
	line := append(bytes.Repeat([]byte("z"), 76), "\r\n"...)
	much := bytes.Repeat(line, 3<<20/len(line))
	before := heapInUse()
	var all []*client
	for range clients {
		conn, err := net.Dial("tcp", first.RemoteAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		c := &client{t, conn, bufio.NewReader(conn)}
		c.expect("220 ")
		c.say("LHLO there", "250 ")
		c.say("MAIL FROM:<a@example.com>", "250 ")
		c.say("RCPT TO:<ann>", "250 ")
		c.say("DATA", "354 ")
		c.send("Subject: long\r\n\r\n")
		if _, err := conn.Write(much); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	each := (heapInUse() - before) / clients
	runtime.KeepAlive(much)
	t.Logf("a client that has sent %d kB and not the end: %d kB", len(much)>>10, each>>10)
	if each > allowed {
		t.Errorf("a client that has sent %d bytes and not the end takes %d bytes, more than %d", len(much), each, allowed)
	}
	all[0].say(".", "250 ")
	if n := len(d.mail["ann"]); n != 1 {
		t.Errorf("%d messages were delivered, want 1", n)
	}
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what sync.Pools keep goes with the second
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestNoRoomWhileItComesIn: a client that does not say how long its message is, or lies,
// does not fill the disk, and what came in is given back.
func TestNoRoomWhileItComesIn(t *testing.T) {
	d, room, dir := &desk{}, atomic.Int64{}, t.TempDir()
	room.Store(3)
	_, c := start(t, d, lmtp.Options{TempDir: filepath.Join(dir, "gone"), Room: func(int64) error {
		if room.Add(-1) < 0 {
			return imap.Unavailable
		}
		return nil
	}})
	c.say("LHLO there", "250 ")
	long := "Subject: long\r\n\r\n" + strings.Repeat(strings.Repeat("z", 76)+"\r\n", 60_000) + "."
	for _, answer := range []string{"451 ", "250 "} { // the file's folder is made where it is missing
		c.say("MAIL FROM:<a@example.com>", "250 ")
		c.say("RCPT TO:<ann>", "250 ")
		c.say("DATA", "354 ")
		c.say(long, answer)
		room.Store(100)
	}
	if n := len(d.mail["ann"]); n != 1 {
		t.Errorf("%d messages were delivered, want 1", n)
	}
	if names, err := os.ReadDir(filepath.Join(dir, "gone")); err != nil || len(names) > 0 {
		t.Errorf("%v, %v are left", names, err)
	}
}

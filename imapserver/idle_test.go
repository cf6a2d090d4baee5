package imapserver_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/memory"
)

// TestIdleTells: what happens elsewhere is told while the client idles, in the
// order in which it happened, and before anything else is said.
func TestIdleTells(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{})
	c, other := selected(t, srv), selected(t, srv)
	c.idle()
	other.appendTo("INBOX", hello)
	c.want("* 1 EXISTS", "* ") // RECENT, 1 in the session that looks first
	other.ok("STORE 1 +FLAGS (\\Flagged)")
	if got := c.line(); !strings.HasPrefix(got, "* 1 FETCH (FLAGS (") || !strings.HasSuffix(got, `\Flagged))`) {
		t.Fatalf("got %q", got)
	}
	other.ok("STORE 1 +FLAGS ($Work)")
	c.want("* FLAGS (", "* 1 FETCH (")
	other.appendTo("INBOX", hello)
	c.want("* 2 EXISTS", "* ")
	other.ok("STORE 1 +FLAGS (\\Deleted)")
	c.want("* 1 FETCH (")
	other.ok("EXPUNGE")
	c.want("* 1 EXPUNGE")
	c.send("DONE\r\n")
	c.want("i OK ")
	if got := c.ok("NOOP"); len(got) != 0 {
		t.Errorf("told twice: %q", got)
	}
}

func TestKeepAlive(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{Limits: imapserver.Limits{KeepAlive: 5 * time.Millisecond}})
	c := selected(t, srv)
	c.idle()
	c.want("* OK ", "* OK ", "* OK ")
	c.send("DONE\r\n")
	c.reply("i")
	time.Sleep(20 * time.Millisecond) // nothing may come now
	if got := c.ok("NOOP"); len(got) != 0 {
		t.Errorf("still kept alive: %q", got)
	}
	for range 3 { // nor does a second IDLE make two of them
		c.idle()
		c.want("* OK ")
		c.send("DONE\r\n")
		c.reply("i")
	}
}

// TestIdlePipelines: clients send DONE with what they want next, or IDLE with
// its DONE, in one write.
func TestIdlePipelines(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{})
	c, other := selected(t, srv), login(t, srv)
	c.idle()
	c.send("DONE\r\na NOOP\r\nb SEARCH ALL\r\n")
	c.want("i OK ", "a OK ", "* SEARCH", "b OK ")
	for range 20 {
		c.send("i IDLE\r\nDONE\r\na NOOP\r\nj IDLE\r\nDONE\r\n")
		c.want("+ idling", "i OK ", "a OK ", "+ idling", "j OK ")
	}
	c.send("i IDLE\r\nDO")
	c.want("+ idling")
	other.appendTo("INBOX", hello)
	c.send("NE\r\na NOOP\r\n")
	untagged, _ := c.reply("i")
	more, _ := c.reply("a")
	if got := strings.Join(append(untagged, more...), "|"); got != "* 1 EXISTS|* 1 RECENT" {
		t.Errorf("got %s", got)
	}
}

// TestIdleMany: a change reaches all that idle on the mailbox.
func TestIdleMany(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{})
	var all []*client
	for range 90 {
		c := selected(t, srv)
		c.idle()
		all = append(all, c)
	}
	other := login(t, srv)
	for n := 1; n <= 3; n++ {
		other.appendTo("INBOX", hello)
		recent := 0
		for _, c := range all {
			c.want(fmt.Sprintf("* %d EXISTS", n))
			line := c.line()
			var r int
			if _, err := fmt.Sscanf(line, "* %d RECENT", &r); err != nil {
				t.Fatalf("got %q", line)
			}
			recent += r
		}
		if recent != n {
			t.Errorf("%d messages are recent in %d sessions", n, recent)
		}
	}
	for _, c := range all {
		c.send("DONE\r\n")
		c.want("i OK ")
	}
}

func TestIdleMailboxDeleted(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{})
	c, other := login(t, srv), login(t, srv)
	other.ok("CREATE Gone")
	c.ok("SELECT Gone")
	c.idle()
	other.ok("DELETE Gone")
	c.want("* BYE ")
	c.wantEnd()
}

// TestIdleCost: a connection that idles has one goroutine and no buffers, be
// it in IDLE or between commands.
func TestIdleCost(t *testing.T) {
	const n = 1000
	m := memory.New()
	m.Add("ann", "INBOX", hello)
	srv := newServer(t, overMemory(t, m), imapserver.Options{Limits: imapserver.Limits{ConnectionsPerUser: -1}})
	first := selected(t, srv)
	first.ok("FETCH 1 BODY.PEEK[]")
	before, heap := runtime.NumGoroutine(), heapInUse()
	clients := make([]*client, n)
	for i := range clients {
		c := selected(t, srv)
		c.ok("FETCH 1 (FLAGS ENVELOPE BODY.PEEK[])")
		if i%2 == 0 {
			c.idle()
		}
		clients[i] = c
	}
	until(t, "all are idle", func() bool {
		idle := 0
		for _, conn := range srv.Connections() {
			if conn.Info().Idling {
				idle++
			}
		}
		return idle == n/2
	})
	// One goroutine is the server's, one the test client's. A client that is not in
	// IDLE is taken to rest after a moment.
	until(t, "each has one goroutine", func() bool { return runtime.NumGoroutine()-before <= 2*n+20 })
	each := (heapInUse() - heap) / n
	t.Logf("%d bytes of heap for each connection, test client included", each)
	// The test client has buffers of 16 kB and 4 kB.
	if each > 40<<10 {
		t.Errorf("%d bytes of heap for each connection", each)
	}
	runtime.KeepAlive(clients)
}

// heapInUse is how much memory is reachable.
func heapInUse() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

package imapserver_test

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imaptest"
	"github.com/rookery-mail/rookery/memory"
)

// stalled logs in, asks for a lot, and reads none of it.
func stalled(t *testing.T, srv *imapserver.Server, command string) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	go srv.ServeConn(t.Context(), theirs)
	return stall(t, ours, command)
}

func stall(t *testing.T, nc net.Conn, command string) net.Conn {
	t.Helper()
	t.Cleanup(func() { nc.Close() })
	go io.WriteString(nc, "a LOGIN ann secret\r\nb SELECT INBOX\r\nc "+command+"\r\n")
	// It reads as far as the reply to SELECT.
	var seen strings.Builder
	var one [1]byte
	for !strings.Contains(seen.String(), "\r\nb OK ") {
		nc.SetReadDeadline(time.Now().Add(patience))
		if _, err := nc.Read(one[:]); err != nil {
			t.Fatal(err)
		}
		seen.Write(one[:])
	}
	return nc
}

var bigMessage = "Subject: big\r\n\r\n" + strings.Repeat("A line of some length, and then many more of them.\r\n", 20_000)

// TestSlowReader: who does not read what was asked for stops nobody else on the
// same mailbox, whatever is behind it.
func TestSlowReader(t *testing.T) {
	for name, target := range map[string]imaptest.Target{"memory": memoryTarget(), "store": storeTarget()} {
		for kind, command := range map[string]string{
			"bodies": "FETCH 1:* BODY[]", // sets \Seen before
			"flags":  "FETCH 1:* (FLAGS BODY.PEEK[]<0.1000000>)",
		} {
			t.Run(name+" "+kind, func(t *testing.T) {
				server := target.New(t)
				dial := func() net.Conn {
					nc, err := server.Dial(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					return nc
				}
				other := newClient(t, dial())
				other.want("* OK ")
				other.ok("LOGIN ann secret")
				other.appendTo("INBOX", bigMessage, bigMessage, bigMessage)
				slow := stall(t, dial(), command)
				other.ok("SELECT INBOX")
				other.ok("STORE 1:* +FLAGS ($Other)")
				other.ok("FETCH 1:* (FLAGS ENVELOPE)")
				other.ok("FETCH 1 BODY[]")
				other.ok("SEARCH BODY length")
				other.appendTo("INBOX", hello)
				other.ok("STORE * +FLAGS (\\Deleted)")
				other.ok("EXPUNGE")
				other.ok("STATUS INBOX (MESSAGES UNSEEN SIZE)")
				other.ok("CREATE Other")
				other.ok("MOVE 1 Other")
				// It can still have all of it, what has been moved away too.
				slow.SetReadDeadline(time.Now().Add(patience))
				got, _ := io.ReadAll(io.LimitReader(slow, 3_000_000))
				if len(got) != 3_000_000 {
					t.Errorf("only %d octets came", len(got))
				}
			})
		}
	}
}

// TestSlowReaderIsCutOff: the limit of Write ends it. Here and below clocks stand
// still while anybody works, so that the machine is never the slow one.
func TestSlowReaderIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memory.New()
		m.Add("ann", "INBOX", bigMessage)
		srv := newServer(t, overMemory(t, m), imapserver.Options{Limits: imapserver.Limits{Write: 30 * time.Millisecond}})
		stalled(t, srv, "FETCH 1:* BODY[]")
		until(t, "the slow client is cut off", func() bool { return len(srv.Connections()) == 0 })
	})
}

// TestSlowNews: an idling client that does not read stops nobody either.
func TestSlowNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := memoryServer(t, imapserver.Options{Limits: imapserver.Limits{Write: 300 * time.Millisecond}})
		stalled(t, srv, "IDLE")
		other := selected(t, srv)
		for range 20 {
			other.appendTo("INBOX", hello)
		}
		other.ok("STORE 1:* +FLAGS (\\Seen)")
		until(t, "the slow client is cut off", func() bool { return len(srv.Connections()) == 1 })
	})
}

// TestLargeAppend: a message of 50 MB passes through without being in memory.
func TestLargeAppend(t *testing.T) {
	const size = 50 << 20
	swallow := &swallowing{Backend: memoryBackend(t)}
	srv := newServer(t, swallow, imapserver.Options{})
	c := login(t, srv)
	c.appendTo("INBOX", hello)
	line := []byte(strings.Repeat("x", 8190) + "\r\n")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c.send(fmt.Sprintf("a APPEND INBOX {%d+}\r\n", size))
	for range size / len(line) {
		if _, err := c.conn.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	c.send("\r\n")
	_, tagged := c.reply("a")
	runtime.ReadMemStats(&after)
	if !strings.HasPrefix(tagged, "OK ") || swallow.got != size+int64(len(hello)) {
		t.Fatalf("%d octets came, %s", swallow.got, tagged)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
		t.Errorf("%d MB allocated for a message of 50 MB", grown>>20)
	}
}

// TestLargeFetch: neither is one that is fetched from the store.
func TestLargeFetch(t *testing.T) {
	const size = 30 << 20
	server := storeTarget().New(t)
	open := func() net.Conn {
		nc, err := server.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return nc
	}
	c := newClient(t, open())
	c.want("* OK ")
	c.ok("LOGIN ann secret")
	c.appendTo("INBOX", "Subject: big\r\n\r\n"+strings.Repeat(strings.Repeat("x", 98)+"\r\n", size/100))
	fetch := func() {
		nc := open()
		go io.WriteString(nc, "a LOGIN ann secret\r\nb SELECT INBOX\r\nc FETCH 1 BODY.PEEK[1]\r\nd FETCH 1 BODY.PEEK[]\r\ne LOGOUT\r\n")
		if n, err := io.Copy(io.Discard, nc); n < 2*size || err != nil {
			t.Fatalf("%d octets came, %v", n, err)
		}
	}
	fetch() // whatever is kept is kept from now on
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fetch()
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Errorf("%d MB allocated to fetch 30 MB twice", grown>>20)
	}
}

// TestHugeSets: a set of few characters may name four thousand million
// messages, one of many characters many ranges.
func TestHugeSets(t *testing.T) {
	m := memory.New()
	for range 100 {
		m.Add("ann", "INBOX", hello)
	}
	srv := newServer(t, overMemory(t, m), imapserver.Options{Limits: imapserver.Limits{Line: 1 << 20}})
	c := selected(t, srv)
	var many strings.Builder
	for i := range 40_000 {
		fmt.Fprintf(&many, ",%d", 3*i+1)
	}
	overlapping := strings.Repeat(",1:*", 50_000)
	var keys strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&keys, " NOT LARGER %d", 1000+i)
	}
	for name, test := range map[string]struct {
		command string
		answers int
	}{
		"all UIDs":         {"UID FETCH 1:4294967295 FLAGS", 100},
		"backwards":        {"UID FETCH 4294967295:1 FLAGS", 100},
		"all twice":        {"UID FETCH 1:*,1:4294967295 UID", 100},
		"many ranges":      {"UID FETCH " + many.String()[1:] + " FLAGS", 34},
		"many overlapping": {"FETCH " + overlapping[1:] + " FLAGS", 100},
		"stored":           {"UID STORE 1:4294967295 +FLAGS.SILENT (\\Seen)", 0},
		"searched":         {"SEARCH UID " + many.String()[1:], 1},
		"copied":           {"UID COPY 4294967290:4294967295 INBOX", 0},
		"10,000 keys":      {"SEARCH" + keys.String(), 1},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got := c.ok(test.command)
			runtime.ReadMemStats(&after)
			if len(got) != test.answers {
				t.Errorf("%d responses, want %d", len(got), test.answers)
			}
			// The command itself is up to 270 kB, and held in a few forms.
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 24<<20 {
				t.Errorf("%d MB allocated", grown>>20)
			}
		})
	}
}

// TestManyKeysOverManyMessages: what a search allocates does not grow with the
// product of keys and messages.
func TestManyKeysOverManyMessages(t *testing.T) {
	m := memory.New()
	for range 20_000 {
		m.Add("ann", "INBOX", hello)
	}
	c := selected(t, newServer(t, overMemory(t, m), imapserver.Options{Limits: imapserver.Limits{Line: 1 << 20}}))
	for name, key := range map[string]string{"flags": " NOT KEYWORD k%d", "either": " OR KEYWORD k%d ALL"} {
		t.Run(name, func(t *testing.T) {
			var keys strings.Builder
			for i := range 3_000 {
				fmt.Fprintf(&keys, key, i+1)
			}
			command := "SEARCH RETURN (COUNT)" + keys.String()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			c.ok(command)
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 6<<20 {
				t.Errorf("%d MB allocated", grown>>20)
			}
		})
	}
}

// TestCommandLimitIsForTheBackEnd: a client on a slow line may take longer for
// its messages than a command may keep the back end.
func TestCommandLimitIsForTheBackEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 500 * time.Millisecond
		m := memory.New()
		for range 10 {
			m.Add("ann", "INBOX", "Subject: big\r\n\r\n"+strings.Repeat("A line.\r\n", 10_000))
		}
		srv := newServer(t, overMemory(t, m), imapserver.Options{Limits: imapserver.Limits{Command: limit}})
		slow := stalled(t, srv, "FETCH 1:* BODY.PEEK[]\r\nd LOGOUT")
		slow.SetReadDeadline(time.Now().Add(patience))
		var last []byte
		buf := make([]byte, 30_000)
		for {
			n, err := io.ReadFull(slow, buf)
			last = append(last, buf[:n]...)
			last = last[max(len(last)-100, 0):]
			if err != nil {
				break
			}
			time.Sleep(limit / 15)
		}
		if !strings.Contains(string(last), "\r\nc OK FETCH completed\r\n") {
			t.Errorf("FETCH ended with %q", last)
		}

		c := login(t, srv)
		c.send("a APPEND INBOX {1000+}\r\n")
		for range 20 {
			c.send(strings.Repeat("x", 50))
			time.Sleep(limit / 10)
		}
		c.send("\r\n")
		if _, tagged := c.reply("a"); !strings.HasPrefix(tagged, "OK ") {
			t.Errorf("APPEND ended with %s", tagged)
		}
	})
}

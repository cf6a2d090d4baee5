package lmtp_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/internal/lmtp"
)

// again connects to the same server.
func (c *client) again() *client {
	c.t.Helper()
	nc, err := net.Dial("tcp", c.RemoteAddr().String())
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	other := &client{c.t, nc, bufio.NewReader(nc)}
	other.expect("220 ")
	return other
}

// bodies are the messages of a user without what the delivery puts before them.
func (d *desk) bodies(user string) (list []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, text := range d.mail[user] {
		_, text, _ = strings.Cut(text, "+0000\r\n")
		list = append(list, text)
	}
	return list
}

// rest reads what the server says to the end of the connection, without the greeting of
// LHLO.
func (c *client) rest() string {
	c.t.Helper()
	all, err := io.ReadAll(c.r)
	if err != nil {
		c.t.Fatal(err)
	}
	var lines strings.Builder
	for line := range strings.Lines(string(all)) {
		if len(line) > 3 && line[3] != '-' {
			lines.WriteString(line)
		}
	}
	return strings.ReplaceAll(lines.String(), "\r\n", "\n")
}

// TestAnySplit: a session is answered the same whether it comes byte by byte, as one
// packet, or in parts.
func TestAnySplit(t *testing.T) {
	const session = "LHLO c\r\nMAIL FROM:<a@x> SIZE=30\r\nRCPT TO:<ann@x>\r\nRCPT TO:<nobody@x>\r\nRCPT TO:<full@x>\r\nDATA\r\n" +
		"..one\r\n.\n.\r.\r\n...\r\n.\r\nNOOP\r\nMAIL FROM:<>\nRCPT TO:<bob@x>\nBDAT 5\r\n.\r\nQUBDAT 4 LAST\r\nIT\r\nMAIL FROM:<>\r\n" +
		"RCPT TO:<nobody@x>\r\nDATA\r\nRSET\r\nMAIL FROM:<>\r\nRCPT TO:<ann@x>\r\nDATA\r\n.\r\nQUIT\r\n"
	const want = `250 LIMITS RCPTMAX=1000
250 2.1.0 Sender OK
250 2.1.5 Recipient OK
550 5.1.1 No such user here
250 2.1.5 Recipient OK
354 Send the message, and end it with <CR><LF>.<CR><LF>
250 2.1.5 <ann@x> Delivered
552 5.2.2 <full@x> Mailbox is full
250 2.0.0 OK
250 2.1.0 Sender OK
250 2.1.5 Recipient OK
250 2.0.0 Continue
250 2.1.5 <bob@x> Delivered
250 2.1.0 Sender OK
550 5.1.1 No such user here
503 5.5.1 No recipient was accepted
250 2.0.0 Session reset
250 2.1.0 Sender OK
250 2.1.5 Recipient OK
354 Send the message, and end it with <CR><LF>.<CR><LF>
250 2.1.5 <ann@x> Delivered
221 2.0.0 Bye
`
	d := &desk{}
	_, first := start(t, d, lmtp.Options{})
	for _, size := range []int{len(session), 1, 2, 3, 7, 50, 101} {
		c := first.again()
		if err := c.Conn.(*net.TCPConn).SetNoDelay(true); err != nil {
			t.Fatal(err)
		}
		for rest := session; rest != ""; {
			n := min(size, len(rest))
			c.send(rest[:n])
			rest = rest[n:]
		}
		if diff := cmp.Diff(want, c.rest()); diff != "" {
			t.Fatalf("in parts of %d bytes (-want +got):\n%s", size, diff)
		}
	}
	for _, body := range d.bodies("bob") {
		if body != ".\r\nQUIT\r\n" {
			t.Errorf("bob got %q", body)
		}
	}
	for i, body := range d.bodies("ann") {
		if want := [...]string{".one\r\n\n.\r.\r\n..\r\n", ""}[i%2]; body != want {
			t.Errorf("ann got %q, want %q", body, want)
		}
	}
}

// TestNoSmuggling: nothing but CR LF dot CR LF ends a message, so that nothing behind
// it can be a command that the MTA has not given.
func TestNoSmuggling(t *testing.T) {
	d := &desk{}
	_, c := start(t, d, lmtp.Options{})
	c.hello()
	var want []string
	for _, end := range []string{"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\n\r.\r\n", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\r\n.\r\r\n", "\r\n. \r\n"} {
		text := "a" + end + "MAIL FROM:<evil@x>\r\n"
		c.say("MAIL FROM:<>", "250 ")
		c.say("RCPT TO:<ann@x>", "250 ")
		c.say("DATA", "354 ")
		c.say(text+".", "250 2.1.5 <ann@x>")
		want = append(want, strings.ReplaceAll(text, "\r\n.", "\r\n"))
	}
	c.say("NOOP", "250 2.0.0 OK")
	if diff := cmp.Diff(want, d.bodies("ann")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestOrder: commands out of order are refused with 503, and change nothing. With
// MAIL in a transaction, above all, no recipient may be forgotten who has got a 250.
func TestOrder(t *testing.T) {
	d := &desk{}
	_, c := start(t, d, lmtp.Options{})
	c.say("RSET", "250 ")
	c.say("RCPT TO:<ann@x>", "503 5.5.1")
	c.hello()
	c.say("DATA", "503 5.5.1")
	c.say("MAIL FROM:<>", "250 ")
	c.say("DATA", "503 5.5.1")
	c.say("BDAT 6 LAST\r\nNOOP", "503 5.5.1") // whose chunk is taken anyway
	c.say("RCPT TO:<ann@x>", "250 ")
	c.say("MAIL FROM:<>", "503 5.5.1")
	c.say("RCPT TO:<bob@x>", "250 ")
	c.say("DATA now", "501 5.5.4")
	c.say("BDAT 5\r\nnew", "250 2.0.0 Continue")
	c.say("MAIL FROM:<>", "503 5.5.1")
	c.say("RCPT TO:<full@x>", "503 5.5.1")
	c.say("DATA", "503 5.5.1")
	c.say("BDAT 0 LAST", "250 2.1.5 <ann@x>")
	c.expect("250 2.1.5 <bob@x>")
	c.say("NOOP", "250 2.0.0 OK")
	for _, user := range []string{"ann", "bob"} {
		if diff := cmp.Diff([]string{"new\r\n"}, d.bodies(user)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", user, diff)
		}
	}
	// RSET and LHLO forget a message that has begun.
	for _, forget := range []string{"RSET", "LHLO c"} {
		c.send("MAIL FROM:<>\r\nRCPT TO:<ann@x>\r\nBDAT 1\r\nx" + forget + "\r\n")
		c.expect("250 ", "250 ", "250 2.0.0 Continue", "250 ")
		c.say("BDAT 0 LAST", "503 5.5.1")
	}
}

func TestChunkErrors(t *testing.T) {
	d := &desk{}
	_, c := start(t, d, lmtp.Options{MaxSize: 100})
	c.hello()
	c.send("MAIL FROM:<>\r\nRCPT TO:<ann@x>\r\n")
	c.expect("250 ", "250 ")
	c.say("BDAT 6 LUST\r\nQUIT", "501 5.5.4") // and its chunk is no command
	c.send("BDAT 50\r\n" + strings.Repeat("x", 50) + "BDAT 51\r\n" + strings.Repeat("y", 51) + "BDAT 6 LAST\r\nQUIT\r\n")
	c.expect("250 2.0.0 Continue", "552 5.3.4", "503 5.5.1")
	c.send("MAIL FROM:<>\r\nRCPT TO:<ann@x>\r\nRCPT TO:<bob@x>\r\nBDAT 101 last\r\n" + strings.Repeat("y", 101))
	c.expect("250 ", "250 ", "250 ", "552 5.3.4 <ann@x>", "552 5.3.4 <bob@x>")
	c.send("BDAT one\r\nQUIT\r\n") // where its chunk ends, nobody knows
	if got, want := c.rest(), "501 5.5.4 Syntax: BDAT size [LAST]\n500 5.5.1 Too many errors, closing the connection\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(d.mail) != 0 {
		t.Errorf("delivered: %q", d.mail)
	}
}

func TestHello(t *testing.T) {
	_, c := start(t, &desk{}, lmtp.Options{MaxSize: 1234, MaxRecipients: 5})
	c.say("EHLO c", "500 5.5.1")
	c.say("LHLO", "501 5.5.2")
	c.send("LHLO c.example\r\n")
	var got []string
	for more := true; more; {
		line, err := c.r.ReadString('\n')
		if err != nil || len(line) < 4 {
			t.Fatalf("got %q, %v", line, err)
		}
		more = line[3] == '-'
		got = append(got, strings.TrimSpace(line[4:]))
	}
	want := []string{"mx.example Hello c.example", "PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "CHUNKING", "SMTPUTF8", "SIZE 1234", "LIMITS RCPTMAX=5"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParameters(t *testing.T) {
	_, c := start(t, &desk{}, lmtp.Options{MaxSize: 1000})
	c.hello()
	for command, reply := range map[string]string{
		"MAIL FROM:<a@x>": "250 2.1.0",
		"mail from: <a@x> size=1000 body=8bitmime smtputf8": "250 2.1.0",
		"MAIL FROM:<a@x> BODY=7BIT AUTH=<>":                 "250 2.1.0",
		"MAIL FROM:<> SIZE=0":                               "250 2.1.0",
		"MAIL FROM:<@r,@s:a@x>":                             "250 2.1.0",
		"MAIL FROM:<\"a b\"@[127.0.0.1]>":                   "250 2.1.0",
		"MAIL FROM:<a@x> SIZE=1001":                         "552 5.3.4",
		"MAIL FROM:<a@x> SIZE=99999999999999999999":         "552 5.3.4",
		"MAIL FROM:<a@x> SIZE=-1":                           "501 5.5.4",
		"MAIL FROM:<a@x> SIZE":                              "501 5.5.4",
		"MAIL FROM:<a@x> BODY=9BIT":                         "501 5.5.4",
		"MAIL FROM:<a@x> BODY=BINARYMIME":                   "504 5.5.4",
		"MAIL FROM:<a@x> RET=HDRS":                          "555 5.5.4",
		"MAIL FROM:<a@x> SMTPUTF8=yes":                      "555 5.5.4",
		"MAIL FROM:<a@x>SIZE=5":                             "501 5.5.2",
		"MAIL FROM:<a>":                                     "501 5.5.2",
		"MAIL FROM:<a\x01@x>":                               "501 5.5.2",
		"MAIL <a@x>":                                        "501 5.5.2",
		"MAIL":                                              "501 5.5.2",
	} {
		c.say(command, reply)
		c.say("RSET", "250 ")
	}
	c.say("MAIL FROM:<a@x>", "250 ")
	c.say("RCPT TO:<ann@x> NOTIFY=NEVER", "555 5.5.4")
	c.say("RCPT TO:<nobody@x>", "550 5.1.1")
}

// TestErrors: whoever speaks something else, or nothing but errors, is sent away;
// unknown recipients are no errors.
func TestErrors(t *testing.T) {
	_, first := start(t, &desk{}, lmtp.Options{})
	c := first.again()
	c.send("POST / HTTP/1.1\r\nHost: here\r\n\r\nQUIT now\r\nMAIL FROM:<>\r\n")
	if got := c.rest(); strings.Count(got, "500 5.5.2") != 3 || !strings.HasSuffix(got, "221 2.0.0 Bye\n") {
		t.Errorf("three unknown commands and QUIT: %q", got)
	}
	c = first.again()
	c.send("POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\nMAIL FROM:<>\r\n")
	if got := c.rest(); strings.Count(got, "500 5.5.2") != 4 || !strings.HasSuffix(got, "closing the connection\n") {
		t.Errorf("four unknown commands: %q", got)
	}
	c = first.again()
	c.send("LHLO c\r\n" + strings.Repeat("RCPT TO:<ann@x>\r\n", 101))
	if got := c.rest(); strings.Count(got, "503 5.5.1") != 101 || !strings.HasSuffix(got, "closing the connection\n") {
		t.Errorf("101 commands out of order: %q", got)
	}
	first.hello()
	first.say("MAIL FROM:<>", "250 ")
	for range 300 {
		first.say("RCPT TO:<nobody@x>", "550 5.1.1")
	}
	for _, command := range []string{"AUTH PLAIN", "STARTTLS", "HELP"} {
		first.say(command, "502 5.5.1")
	}
}

// TestManyRecipients: each has a reply of its own, in order, whatever becomes of the
// others.
func TestManyRecipients(t *testing.T) {
	d := &desk{}
	_, c := start(t, d, lmtp.Options{})
	c.hello()
	c.send("MAIL FROM:<>\r\n")
	c.expect("250 2.1.0")
	replies := map[string]string{"ann": "250 2.1.5", "full": "552 5.2.2", "down": "451 4.3.0"}
	var want []string
	for i := range 1000 {
		user := [...]string{"ann", "ann", "ann", "full", "ann", "down", "ann"}[i%7]
		c.send(fmt.Sprintf("RCPT TO:<%s+%d@x>\r\n", user, i))
		want = append(want, fmt.Sprintf("%s <%s+%d@x> ", replies[user], user, i))
		c.expect("250 2.1.5 Recipient OK")
	}
	c.say("RCPT TO:<ann@x>", "452 4.5.3")
	c.say("DATA", "354 ")
	c.send("x\r\n.\r\n")
	c.expect(want...)
	if n := len(d.mail["ann"]); n != 714 {
		t.Errorf("ann got %d messages, want 714", n)
	}
}

// TestEarlyEnd: a client that goes away before the end of its message has delivered
// nothing, wherever that is.
func TestEarlyEnd(t *testing.T) {
	d := &desk{}
	_, first := start(t, d, lmtp.Options{})
	for _, session := range []string{
		"LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<ann@x>\r\nDATA\r\na\r\n..\r\n.\r\n",
		"LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<ann@x>\r\nBDAT 2\r\nxyBDAT 3 LAST\r\nabc",
	} {
		for n := range len(session) + 1 {
			c := first.again()
			c.send(session[:n])
			if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			told := strings.Contains(c.rest(), " Delivered")
			got := len(d.bodies("ann"))
			clear(d.mail)
			if whole := n == len(session); told != whole || whole != (got == 1) || got > 1 {
				t.Fatalf("%q: %d messages were delivered, and the client was told: %v", session[:n], got, told)
			}
			c.Close()
		}
	}
}

// shaky panics.
type shaky struct{ desk }

func (s *shaky) Resolve(ctx context.Context, address string) (string, error) {
	if address == "shaky@x" {
		panic("where does this live?")
	}
	return s.desk.Resolve(ctx, address)
}

func (s *shaky) Deliver(ctx context.Context, user string, r io.Reader, size int64) error {
	if user == "down" {
		panic("the floor has gone")
	}
	return s.desk.Deliver(ctx, user, r, size)
}

// TestPanics: a panic ends a delivery, or a connection, and nothing else.
func TestPanics(t *testing.T) {
	d := &shaky{}
	_, first := start(t, d, lmtp.Options{})
	for range 2 {
		c := first.again()
		c.hello()
		c.send("MAIL FROM:<>\r\nRCPT TO:<down@x>\r\nRCPT TO:<ann@x>\r\nRCPT TO:<down@x>\r\nDATA\r\n")
		c.expect("250 ", "250 ", "250 ", "250 ", "354 ")
		c.send("x\r\n.\r\n")
		c.expect("451 4.3.0 <down@x>", "250 2.1.5 <ann@x>", "451 4.3.0 <down@x>")
		c.send("MAIL FROM:<>\r\nRCPT TO:<shaky@x>\r\n")
		if got, want := c.rest(), "250 2.1.0 Sender OK\n421 4.3.0 Internal server error\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if n := len(d.bodies("ann")); n != 2 {
		t.Errorf("ann got %d messages, want 2", n)
	}
}

// TestSilence: who says nothing is sent away, in the middle of a message, too.
func TestSilence(t *testing.T) {
	_, c := start(t, &desk{}, lmtp.Options{Idle: 300 * time.Millisecond})
	c.expect("421 4.4.2")
	d := &desk{}
	_, c = start(t, d, lmtp.Options{Idle: time.Second})
	c.send("LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<ann@x>\r\nDATA\r\nx\r\n")
	c.expect("250 ", "250 ", "250 ", "354 ", "421 4.4.2")
	if len(d.mail) != 0 {
		t.Errorf("delivered: %q", d.mail)
	}
}

// TestQuotedAddress: a local part is resolved as it is meant, and written as it must be.
func TestQuotedAddress(t *testing.T) {
	d := &desk{}
	_, c := start(t, d, lmtp.Options{})
	c.hello()
	c.say(`MAIL FROM:<"a \"b\""@x>`, "250 ")
	c.say(`RCPT TO:<"ann+ x"@y>`, "250 ")
	c.say(`RCPT TO:<"b\ob"@y>`, "250 ")
	c.say("DATA", "354 ")
	c.send(".\r\n")
	c.expect(`250 2.1.5 <"ann+ x"@y> Delivered`, "250 2.1.5 <bob@y> Delivered")
	if got, want := d.mail["ann"][0], "Return-Path: <\"a \\\"b\\\"\"@x>\r\nDelivered-To: \"ann+ x\"@y\r\n"; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

package lmtp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/lmtp"
)

// patience is more than anything here takes.
const patience = time.Minute

// desk takes messages for ann and bob; full and down fail.
type desk struct {
	mu   sync.Mutex
	mail map[string][]string
	hold chan struct{} // where set, Deliver waits for it
}

func (d *desk) Resolve(_ context.Context, address string) (string, error) {
	for _, name := range lmtp.Addresses(address) {
		switch name {
		case "ann", "bob", "full", "down", "vanished":
			return name, nil
		case "maybe":
			return "", imap.Unavailable
		}
	}
	return "", imap.NotFound
}

func (d *desk) Deliver(_ context.Context, user string, r io.Reader, size int64) error {
	switch user {
	case "full":
		return imap.OverQuota
	case "vanished":
		return imap.NotFound
	case "down":
		return errors.New("the disk is on fire")
	}
	if d.hold != nil {
		<-d.hold
	}
	b, err := io.ReadAll(r)
	if err != nil || int64(len(b)) != size {
		return fmt.Errorf("%d bytes of %d, %v", len(b), size, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mail == nil {
		d.mail = make(map[string][]string)
	}
	d.mail[user] = append(d.mail[user], string(b))
	return nil
}

type client struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func start(t *testing.T, d lmtp.Deliverer, opts lmtp.Options) (*lmtp.Server, *client) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	opts.Log = slog.New(slog.DiscardHandler)
	opts.Hostname = "mx.example"
	opts.Now = func() time.Time { return time.Unix(1234567890, 0).UTC() }
	if opts.TempDir == "" {
		opts.TempDir = t.TempDir()
	}
	s := lmtp.New(d, opts)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s.Shutdown(ctx)
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	cl := &client{t, c, bufio.NewReader(c)}
	cl.expect("220 ")
	return s, cl
}

// expect reads one reply of as many lines as it has and compares its beginning.
func (c *client) expect(prefixes ...string) {
	c.t.Helper()
	for _, prefix := range prefixes {
		for {
			line, err := c.r.ReadString('\n')
			if err != nil {
				c.t.Fatalf("waiting for %q: %v", prefix, err)
			}
			if len(line) > 3 && line[3] == '-' {
				continue
			}
			if !strings.HasPrefix(line, prefix) {
				c.t.Fatalf("got %q, want %q", line, prefix)
			}
			break
		}
	}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) say(line, reply string) {
	c.t.Helper()
	c.send(line + "\r\n")
	c.expect(reply)
}

func (c *client) hello() { c.t.Helper(); c.say("LHLO client.example", "250 ") }

func TestDelivery(t *testing.T) {
	d := &desk{}
	_, c := start(t, d, lmtp.Options{})
	c.hello()
	c.say("MAIL FROM:<sender@example.org> BODY=8BITMIME", "250 ")
	c.say("RCPT TO:<Ann+lists@example.com>", "250 ")
	c.say("RCPT TO:<nobody@example.com>", "550 5.1.1")
	c.say("RCPT TO:<maybe@example.com>", "451 4.")
	c.say("RCPT TO:<bob@example.com>", "250 ")
	c.say("RCPT TO:<full@example.com>", "250 ")
	c.say("RCPT TO:<down@example.com>", "250 ")
	c.say("RCPT TO:<vanished@example.com>", "250 ")
	c.say("DATA", "354 ")
	c.send("Subject: x\r\n\r\n..dot\r\nb\xff\r\n.\r\n")
	c.expect("250 2.1.5 <Ann+lists@example.com>", "250 2.1.5 <bob@example.com>", "552 5.2.2 <full@", "451 4.3.0 <down@", "451 4.3.0 <vanished@")
	c.say("QUIT", "221 ")
	want := "Return-Path: <sender@example.org>\r\nDelivered-To: bob@example.com\r\n" +
		"Received: from client.example ([127.0.0.1])\r\n\tby mx.example (Rookery) with LMTP id ID\r\n" +
		"\tfor <bob@example.com>; Fri, 13 Feb 2009 23:31:30 +0000\r\nSubject: x\r\n\r\n.dot\r\nb\xff\r\n"
	got := d.mail["bob"][0]
	if i := strings.Index(got, " id "); i > 0 {
		got = got[:i+4] + "ID" + got[i+4+12:]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("bob's mail (-want +got):\n%s", diff)
	}
	if len(d.mail["ann"]) != 1 || !strings.Contains(d.mail["ann"][0], "Delivered-To: Ann+lists@example.com\r\n") {
		t.Errorf("ann's mail: %q", d.mail["ann"])
	}
}

// The bytes of a message stay as they came, and its end is found.
func TestBytes(t *testing.T) {
	long := strings.Repeat("x", 3<<20) + "\r\n"
	for sent, want := range map[string]string{
		"":                     "",
		"a\r\n":                "a\r\n",
		"a\r\r\n":              "a\r\r\n",
		"a\r\r\n..b\r\r\n":     "a\r\r\n.b\r\r\n",
		"a\n.\nb\r\n":          "a\n.\nb\r\n",
		"a\r.\r\nb\r\n":        "a\r.\r\nb\r\n",
		".\rb\r\n":             "\rb\r\n",
		".\r\r\n":              "\r\r\n",
		".\r\rb\r\n..\r\n":     "\r\rb\r\n.\r\n",
		"\x00\r\n\xf0\x9f\r\n": "\x00\r\n\xf0\x9f\r\n",
		long:                   long,
	} {
		d := &desk{}
		_, c := start(t, d, lmtp.Options{})
		c.hello()
		for range 2 { // the connection goes on
			c.say("MAIL FROM:<>", "250 ")
			c.say("RCPT TO:<ann@x>", "250 ")
			c.say("DATA", "354 ")
			c.send(sent + ".\r\n")
			c.expect("250 ")
		}
		for _, got := range d.mail["ann"] {
			_, got, _ = strings.Cut(got, "+0000\r\n")
			if got != want {
				t.Errorf("sent %.40q, got %.60q", sent, got)
			}
		}
		c.Close()
	}
}

// A message is the same in whatever pieces it comes, replies come without a
// wait for more, and pipelined commands are answered in order.
func TestPieces(t *testing.T) {
	d := &desk{}
	_, c := start(t, d, lmtp.Options{})
	c.hello()
	rng := rand.New(rand.NewPCG(1, 2))
	var want []string
	for range 60 {
		var text strings.Builder
		for range rng.IntN(200) {
			text.WriteString([]string{"a line", ".", "\r", "\n", "\r\n", "\r\n", strings.Repeat("z", 5000)}[rng.IntN(7)])
		}
		text.WriteString("\r\n")
		body := text.String()
		stuffed := strings.ReplaceAll("\r\n"+body, "\r\n.", "\r\n..")[2:]
		want = append(want, body)
		c.send("MAIL FROM:<>\r\nRCPT TO:<ann@x>\r\nDATA\r\n")
		c.expect("250 2.1.0", "250 2.1.5", "354 ")
		for rest := stuffed + ".\r\n"; rest != ""; {
			n := min(len(rest), 1+rng.IntN(1+rng.IntN(20_000)))
			c.send(rest[:n])
			rest = rest[n:]
		}
		c.expect("250 2.1.5")
	}
	for i, got := range d.mail["ann"] {
		if _, got, _ = strings.Cut(got, "+0000\r\n"); got != want[i] {
			t.Fatalf("message %d: sent %.200q, got %.200q", i, want[i], got)
		}
	}
}

func TestPipelinedChunks(t *testing.T) {
	d := &desk{}
	_, c := start(t, d, lmtp.Options{})
	chunk := strings.Repeat("y", 20<<10) + "\r\n.\r\nDATA\r\n"
	c.send("LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<ann@x>\r\nRCPT TO:<bob@x>\r\n" +
		fmt.Sprintf("BDAT %d\r\n%sBDAT 4 LAST\r\nend\nNOOP\r\n", len(chunk), chunk))
	c.expect("250 ", "250 ", "250 ", "250 ", "250 ", "250 ", "250 ", "250 ")
	if n := len(d.mail["ann"]); n != 1 || !strings.HasSuffix(d.mail["ann"][0], chunk+"end\n") {
		t.Errorf("%d messages, or not what was sent", n)
	}
}

func TestTooBig(t *testing.T) {
	d := &desk{}
	_, c := start(t, d, lmtp.Options{MaxSize: 1000})
	c.hello()
	c.say("MAIL FROM:<> SIZE=1001", "552 ")
	for size, reply := range map[int]string{1000: "250 ", 1001: "552 5.3.4", 300_000: "552 5.3.4"} {
		c.say("MAIL FROM:<>", "250 ")
		c.say("RCPT TO:<ann@x>", "250 ")
		c.say("DATA", "354 ")
		c.send(strings.Repeat("x", size-2) + "\r\n.\r\n")
		c.expect(reply)
	}
	if len(d.mail["ann"]) != 1 {
		t.Errorf("%d messages, want the one that fits", len(d.mail["ann"]))
	}
}

func TestLongCommand(t *testing.T) {
	_, c := start(t, &desk{}, lmtp.Options{})
	c.send("LHLO " + strings.Repeat("x", 100_000))
	c.expect("500 5.5.2")
}

func TestTooManyConnections(t *testing.T) {
	_, first := start(t, &desk{}, lmtp.Options{MaxConns: 1})
	nc, err := net.Dial("tcp", first.RemoteAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	second := &client{t, nc, bufio.NewReader(nc)}
	second.expect("220 ", "421 4.3.2")
	first.hello()
}

func TestShutdown(t *testing.T) {
	d := &desk{hold: make(chan struct{})}
	s, busy := start(t, d, lmtp.Options{})
	idle, err := net.Dial("tcp", busy.RemoteAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	ic := &client{t, idle, bufio.NewReader(idle)}
	ic.expect("220 ")
	busy.hello()
	busy.say("MAIL FROM:<>", "250 ")
	busy.say("RCPT TO:<ann@x>", "250 ")
	busy.say("DATA", "354 ")
	busy.send("half")
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		done <- s.Shutdown(ctx)
	}()
	ic.expect("421 4.3.2")
	busy.send(" done\r\n.\r\n")
	close(d.hold)
	busy.expect("250 ", "421 4.3.2")
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if len(d.mail["ann"]) != 1 {
		t.Errorf("the message under way was lost")
	}
}

func TestAddresses(t *testing.T) {
	for in, want := range map[string][]string{
		"ann":               {"ann"},
		"Ann@Example.ORG":   {"Ann@Example.ORG", "ann@example.org", "Ann@example.org", "Ann", "ann"},
		"ann+a+b@x":         {"ann+a+b@x", "ann@x", "ann+a+b", "ann"},
		"+a@x":              {"+a@x", "+a"},
		"\"a@b\"@x":         {"\"a@b\"@x", "\"a@b\""},
		"ünï+x@exämple.org": {"ünï+x@exämple.org", "ünï@exämple.org", "ünï+x", "ünï"},
	} {
		if diff := cmp.Diff(want, lmtp.Addresses(in)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", in, diff)
		}
	}
}

// Where there is no room the sender is told so before it sends the message.
func TestNoRoom(t *testing.T) {
	asked := make(chan int64, 10)
	room := errors.New("no room")
	_, c := start(t, &desk{}, lmtp.Options{Room: func(size int64) error {
		asked <- size
		return room
	}})
	c.hello()
	c.say("MAIL FROM:<a@example.org> SIZE=1234", "452 4.3.1 ")
	if size := <-asked; size != 1234 {
		t.Errorf("asked for %d bytes", size)
	}
	room = nil
	c.say("MAIL FROM:<a@example.org>", "250 ")
}

// RFC 5321 has recipients without a domain for <Postmaster>, and programs on the
// machine itself for all users.
func TestRecipientWithoutADomain(t *testing.T) {
	d := &desk{}
	_, c := start(t, d, lmtp.Options{})
	c.hello()
	c.say("MAIL FROM:<>", "250 2.1.0 Sender OK")
	c.say("rcpt to: <ann+x>", "250 2.1.5 Recipient OK")
	c.say(`RCPT TO:<"bob">`, "250 2.1.5 Recipient OK")
	c.say("RCPT TO:<nobody>", "550 5.1.1")
	for _, bad := range []string{"<>", "<a b>", "<@>", "<@x>", "<ann", "<a@>", "<(a)>"} {
		c.say("RCPT TO:"+bad, "501 5.5.2 Syntax: RCPT TO:<address>")
	}
	for _, part := range []string{"RCPT TO:", "<full", ">", "\r\n"} { // in as many packets, most likely
		c.send(part)
	}
	c.expect("250 2.1.5 Recipient OK")
	c.say("DATA", "354 Send the message")
	c.send("A: 1\r\n\r\nx\r\n.\r\n")
	c.expect("250 2.1.5 <ann+x> Delivered", "250 2.1.5 <bob> Delivered", "552 5.2.2 <full> ")
	if got := d.mail["ann"][0]; !strings.Contains(got, "Delivered-To: ann+x\r\n") || !strings.Contains(got, "for <ann+x>;") {
		t.Errorf("ann's mail: %q", got)
	}
}

func TestPlainReplies(t *testing.T) {
	_, c := start(t, &desk{}, lmtp.Options{})
	c.say("MAIL FROM:<a@x>", "503 5.5.1 Give LHLO first")
	c.hello()
	c.say("NOOP", "250 2.0.0 OK\r\n")
	c.say("VRFY ann", "252 2.5.0 Users are not verified")
	c.say("MAIL FROM:a b", "501 5.5.2 Syntax: MAIL FROM:<address>")
	c.say("MAIL FROM:<"+strings.Repeat("a", 7000)+"@x>", "250 2.1.0 Sender OK\r\n") // more than a buffer
	c.say("RCPT TO:<ann+"+strings.Repeat("a", 7000)+"@x>", "250 2.1.5 Recipient OK\r\n")
	c.say("RSET", "250 2.0.0 Session reset")
}

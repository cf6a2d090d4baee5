package daemon

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rookery-mail/rookery/internal/crashfs"
)

// patience is more than anything here takes.
const patience = time.Minute

// server is a whole server over a disk for tests.
type server struct {
	t     *testing.T
	d     *daemon
	ended chan error // what wait returns
	stop  func() error
}

// serve starts a server; dir has what is not the store's.
func serve(t *testing.T, disk *crashfs.FS, dir string, relaxed time.Duration) *server {
	t.Helper()
	users := filepath.Join(dir, "users")
	if err := os.WriteFile(users, []byte("ann:{PLAIN}a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		DataDir: dir, IMAP: "127.0.0.1:0", LMTP: "127.0.0.1:0", Metrics: "127.0.0.1:0", Passwd: users, InsecureAuth: true,
		Log: slog.New(slog.DiscardHandler), Relaxed: relaxed, fs: disk,
	}
	d := &daemon{cfg: cfg, log: cfg.Log, named: make(map[string]net.Listener)}
	if err := d.start(context.Background()); err != nil {
		t.Fatal(err, d.stop())
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.wait(ctx) }()
	return &server{t, d, ended, func() error {
		cancel()
		err := <-ended
		if e := d.stop(); err == nil {
			err = e
		}
		return err
	}}
}

func (s *server) dial(name string) *client {
	s.t.Helper()
	c, err := net.Dial("tcp", s.d.named[name].Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	cl := &client{s.t, c, bufio.NewReader(c)}
	cl.line()
	return cl
}

func (s *server) login() *client {
	s.t.Helper()
	c := s.dial("imap")
	if r := c.do("LOGIN ann a"); !strings.HasPrefix(r, "OK") {
		s.t.Fatalf("LOGIN: %s", r)
	}
	return c
}

// greeted returns a client of LMTP that has said who it is.
func (s *server) greeted() *client {
	s.t.Helper()
	c := s.dial("lmtp")
	c.send("LHLO mx.example\r\n")
	for !strings.HasPrefix(c.line(), "250 ") {
	}
	return c
}

// client speaks IMAP or LMTP.
type client struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func (c *client) line() string {
	c.t.Helper()
	line, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("reading a line: %v", err)
	}
	return strings.TrimRight(line, "\r\n")
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// talk runs an IMAP command and returns the untagged lines and the response.
func (c *client) talk(command string) (untagged []string, status string) {
	c.t.Helper()
	c.send("a " + command + "\r\n")
	for {
		line := c.line()
		if rest, ok := strings.CutPrefix(line, "a "); ok {
			return untagged, rest
		}
		untagged = append(untagged, line)
	}
}

func (c *client) do(command string) string {
	c.t.Helper()
	_, status := c.talk(command)
	return status
}

func (c *client) append(subject string) string {
	c.t.Helper()
	m := "Subject: " + subject + "\r\n\r\nhello\r\n"
	return c.do(fmt.Sprintf("APPEND INBOX {%d+}\r\n%s", len(m), m))
}

// deliver speaks LMTP and returns the first reply that is not as it should be,
// or the last.
func (c *client) deliver(subject string) (reply string) {
	c.t.Helper()
	for _, say := range []string{"RSET", "MAIL FROM:<x@example.org>", "RCPT TO:<ann@example.org>", "DATA", "Subject: " + subject + "\r\n\r\nhello\r\n."} {
		c.send(say + "\r\n")
		for {
			if reply = c.line(); len(reply) < 4 || reply[3] != '-' {
				break
			}
		}
		if reply[0] > '3' {
			return reply
		}
	}
	return reply
}

// subjects returns the subjects in INBOX.
func (c *client) subjects() string {
	c.t.Helper()
	if r := c.do("EXAMINE INBOX"); !strings.HasPrefix(r, "OK") {
		c.t.Fatalf("EXAMINE: %s", r)
	}
	lines, r := c.talk("FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
	if !strings.HasPrefix(r, "OK") && !strings.HasPrefix(r, "BAD") { // BAD: it is empty
		c.t.Errorf("FETCH: %s", r)
	}
	return strings.Join(lines, "\n")
}

// TestDisksThatFail: whatever the disk does, clients hear NO [UNAVAILABLE] and
// the MTA 4xx; what was acknowledged stays, through the failure, a restart and a
// power cut; and the server goes on by itself when the disk does.
func TestDisksThatFail(t *testing.T) {
	t.Parallel()
	changes := []string{"APPEND", "DATA", "STORE", "COPY", "CREATE"}
	for name, disk := range map[string]failingDisk{
		"full":                         {fail: crashfs.Full, refused: changes},
		"full, as syncs find":          {fail: crashfs.FullLate, refused: changes},
		"broken":                       {fail: crashfs.Broken, refused: changes},
		"full at the start":            {fail: crashfs.Full, refused: changes, anew: true},
		"broken at the start":          {fail: crashfs.Broken, refused: changes, anew: true},
		"too many files":               {fail: crashfs.TooManyFiles}, // it has those that it needs
		"too many files, at the start": {fail: crashfs.TooManyFiles, refused: []string{"APPEND", "DATA"}, anew: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failDisk(t, disk)
		})
	}
}

type failingDisk struct {
	fail    func(errorfs.Op) error
	refused []string // the commands that cannot succeed meanwhile
	anew    bool     // the server has begun just before, and yet has to open files
}

func failDisk(t *testing.T, failing failingDisk) {
	disk, dir := crashfs.New(), t.TempDir()
	s := serve(t, disk, dir, 0)
	c, mta := s.login(), s.greeted()
	var acked []string
	refused := make(map[string]int) // by command
	note := func(subject, reply string) {
		t.Helper()
		switch {
		case strings.HasPrefix(reply, "OK"), strings.HasPrefix(reply, "250"):
			acked = append(acked, subject)
		case strings.HasPrefix(reply, "NO [UNAVAILABLE]"):
			refused["APPEND"]++
		case strings.HasPrefix(reply, "4"):
			refused["DATA"]++
		default:
			t.Errorf("%s: %s", subject, reply)
		}
	}
	for i := range 5 {
		note(fmt.Sprintf("before-%d", i), c.append(fmt.Sprintf("before-%d", i)))
		note(fmt.Sprintf("mta-before-%d", i), mta.deliver(fmt.Sprintf("mta-before-%d", i)))
	}
	if len(acked) != 10 {
		t.Fatalf("only %d messages were taken", len(acked))
	}
	if failing.anew {
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		s = serve(t, disk, dir, 0)
		c, mta = s.login(), s.greeted()
	}
	c.do("SELECT INBOX")

	disk.Fail(failing.fail)
	for i := range 10 {
		note(fmt.Sprintf("during-%d", i), c.append(fmt.Sprintf("during-%d", i)))
		note(fmt.Sprintf("mta-during-%d", i), mta.deliver(fmt.Sprintf("mta-during-%d", i)))
		for _, cmd := range []string{"STORE 1:3 +FLAGS (\\Flagged)", "COPY 1 INBOX", fmt.Sprintf("CREATE box%d", i), "EXPUNGE", "NOOP", "FETCH 1 BODY.PEEK[]"} {
			switch r := c.do(cmd); {
			case strings.HasPrefix(r, "NO [UNAVAILABLE]"):
				name, _, _ := strings.Cut(cmd, " ")
				refused[name]++
			case !strings.HasPrefix(r, "OK"):
				t.Errorf("%s: %s", cmd, r)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	disk.Fail(nil)
	for _, name := range failing.refused {
		if refused[name] != 10 {
			t.Errorf("%s was refused %d times of 10", name, refused[name])
		}
	}

	for end := time.Now().Add(patience); !strings.HasPrefix(c.append("after"), "OK"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the server does not go on")
		}
	}
	acked = append(acked, "after")
	if r := mta.deliver("mta-after"); !strings.HasPrefix(r, "250") {
		t.Errorf("a delivery on the healed disk: %s", r)
	}
	acked = append(acked, "mta-after")
	s.has("after the failure", acked)
	cut := disk.Clones()[0].FS
	if err := s.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	for when, disk := range map[string]*crashfs.FS{"after a restart": disk, "after a power cut": cut} {
		s := serve(t, disk, dir, 0)
		s.has(when, acked)
		if err := s.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
}

// has looks for what was acknowledged, and for what is there twice.
func (s *server) has(when string, acked []string) {
	s.t.Helper()
	got := s.login().subjects()
	for _, subject := range acked {
		if !strings.Contains(got, "Subject: "+subject) && !strings.Contains(got, subject) {
			s.t.Errorf("%s: %s is missing", when, subject)
		}
	}
	for i := range 10 {
		for _, box := range []string{"before", "during"} {
			if n := strings.Count(got, fmt.Sprintf("Subject: %s-%d", box, i)); n > 1 && i > 0 {
				s.t.Errorf("%s: %s-%d is there %d times", when, box, i, n)
			}
		}
	}
}

// TestReserve: messages are refused before the disk is full, so that deleting
// goes on; then changes are, and reading goes on.
func TestReserve(t *testing.T) {
	t.Parallel()
	disk := crashfs.New()
	const gib = 1 << 30
	disk.Space(gib, 20*gib) // not so much that it is not asked about for a while
	s := serve(t, disk, t.TempDir(), 0)
	c, mta := s.login(), s.dial("lmtp")
	mta.send("LHLO mx.example\r\n")
	for !strings.HasPrefix(mta.line(), "250 ") {
	}
	want := func(what, got string, prefix string) {
		t.Helper()
		if !strings.HasPrefix(got, prefix) {
			t.Errorf("%s: %s, want %s", what, got, prefix)
		}
	}
	want("APPEND", c.append("one"), "OK")
	want("APPEND", c.append("two"), "OK")
	want("SELECT", c.do("SELECT INBOX"), "OK")

	disk.Space(200<<20, 20*gib)
	want("APPEND on a nearly full disk", c.append("three"), "NO [UNAVAILABLE]")
	want("delivery on a nearly full disk", mta.deliver("four"), "452 4.3.1")
	want("STORE on a nearly full disk", c.do("STORE 1 +FLAGS (\\Deleted)"), "OK")
	want("EXPUNGE on a nearly full disk", c.do("EXPUNGE"), "OK")

	disk.Space(20<<20, 20*gib)
	want("STORE on a full disk", c.do("STORE 1 +FLAGS (\\Seen)"), "NO [UNAVAILABLE]")
	want("FETCH on a full disk", c.do("FETCH 1 BODY.PEEK[]"), "OK")
	want("NOOP on a full disk", c.do("NOOP"), "OK")

	disk.Space(gib, 20*gib)
	want("APPEND with room", c.append("five"), "OK")
	want("delivery with room", mta.deliver("six"), "250")
	got := s.login().subjects()
	if strings.Contains(got, "one") || strings.Contains(got, "three") || !strings.Contains(got, "two") || !strings.Contains(got, "five") || !strings.Contains(got, "six") {
		t.Errorf("in the end there is\n%s", got)
	}
	if err := s.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// TestStoreIsGone: where the store cannot be opened again the server ends, and
// says so.
func TestStoreIsGone(t *testing.T) {
	t.Parallel()
	disk, dir := crashfs.New(), t.TempDir()
	s := serve(t, disk, dir, 0)
	c := s.login()
	disk.Fail(func(op errorfs.Op) error {
		if !strings.Contains(op.Path, "index") {
			return nil
		}
		switch op.Kind {
		case errorfs.OpList:
			return os.ErrNotExist // what was mounted there is gone
		case errorfs.OpMkdirAll:
			return nil
		}
		return crashfs.Broken(op)
	})
	if r := c.append("lost"); !strings.HasPrefix(r, "NO [UNAVAILABLE]") {
		t.Errorf("APPEND on a broken disk: %s", r)
	}
	select {
	case err := <-s.ended:
		s.ended <- err
	case <-time.After(patience):
		t.Fatal("the server goes on")
	}
	err := s.stop()
	if err == nil || !strings.Contains(err.Error(), "cannot be opened again") {
		t.Errorf("the server ended with %v", err)
	}
}

// TestRelaxed: a relaxed server that is stopped in order has lost nothing.
func TestRelaxed(t *testing.T) {
	t.Parallel()
	disk, dir := crashfs.New(), t.TempDir()
	s := serve(t, disk, dir, time.Hour)
	c := s.login()
	for i := range 20 {
		if r := c.append(fmt.Sprintf("m%d", i)); !strings.HasPrefix(r, "OK") {
			t.Error(r)
		}
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	s = serve(t, disk.Clones()[0].FS, dir, 0)
	if got := s.login().subjects(); strings.Count(got, "Subject: m") != 20 {
		t.Errorf("there is\n%s", got)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}

// TestRelaxedCut: after a power cut a relaxed store may lack mail, so clients
// are told that UIDs mean something else now; once. An account that was made in
// the last moment is no exception.
func TestRelaxedCut(t *testing.T) {
	t.Parallel()
	validity := func(s *server) string {
		t.Helper()
		lines, _ := s.login().talk("EXAMINE INBOX")
		for _, line := range lines {
			if strings.Contains(line, "UIDVALIDITY") {
				return line
			}
		}
		t.Fatalf("no UIDVALIDITY in %q", lines)
		return ""
	}
	for _, synced := range []bool{true, false} {
		disk, dir := crashfs.New(), t.TempDir()
		s := serve(t, disk, dir, time.Hour)
		before := validity(s)
		if synced {
			if err := s.d.storage.kv.Sync(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		cut := disk.Clones()[0].FS
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		s = serve(t, cut, dir, 0)
		after := validity(s)
		if after == before {
			t.Errorf("%s is the same after the cut (synced: %v)", after, synced)
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		s = serve(t, cut, dir, 0)
		if again := validity(s); again != after {
			t.Errorf("after a restart it is %s, was %s", again, after)
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	}
}

// TestRelaxedFailure: a relaxed server ends when its disk fails.
func TestRelaxedFailure(t *testing.T) {
	t.Parallel()
	disk := crashfs.New()
	s := serve(t, disk, t.TempDir(), 10*time.Millisecond)
	c := s.login()
	disk.Fail(crashfs.Broken)
	_ = c.do("CREATE box")
	select {
	case err := <-s.ended:
		if err == nil || !strings.Contains(err.Error(), "relaxed") {
			t.Errorf("the server ended with %v", err)
		}
		s.ended <- err
	case <-time.After(patience):
		t.Fatal("the server goes on")
	}
	disk.Fail(nil)
	_ = s.stop()
}

// TestBudget: whatever the limit, the parts together leave some files over.
func TestBudget(t *testing.T) {
	for _, limit := range []uint64{64, 256, 1024, 4096, 20_000, 1 << 20} {
		b := budget(limit)
		if b == (fileBudget{}) {
			if limit < plenty {
				t.Errorf("%d files are not divided", limit)
			}
			continue
		}
		// An LMTP connection may have a file with its message.
		if sum := b.index + b.messages + b.imap + 2*b.lmtp; uint64(sum) > limit*4/5 || min(b.index, b.messages, b.imap, b.lmtp) < 1 {
			t.Errorf("%d files: %+v, together %d", limit, b, sum)
		}
	}
}

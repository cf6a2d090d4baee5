package imapserver_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imapstore"
	"github.com/rookery-mail/rookery/internal/race"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// hostileFigures are attacks on a server over the embedded store, on disk. Of
// each: how many connections attack at once, and how many MB of memory the
// server may take more than before, at the worst moment and while all of them
// are in place. docs/hostile-clients.md has what they took last.
var hostileFigures = []struct {
	name       string
	conns      int
	peak, live uint64 // MB
	run        func(a *attacker) error
}{
	{"slow readers", 90, 60, 20, attackSlowReader},
	{"idlers that do not read", 90, 60, 20, attackSlowIdler},
	{"slow writers of short messages", 90, 80, 60, attackSlowWriter(200_000, 199_999)},
	{"slow writers of long messages", 90, 100, 60, attackSlowWriter(30_000_000, 1_000_000)},
	{"literals announced and never sent", 90, 60, 20, attackNeverSent},
	{"connections that say nothing", 5000, 120, 100, attackSilent},
	{"lines without end", 40, 100, 20, attackLine},
	{"deep parentheses", 40, 250, 20, attackDeep},
	{"sets of 10,000 ranges", 20, 200, 20, attackSets},
	{"searches of 10,000 keys", 20, 400, 20, attackKeys},
	{"patterns times mailboxes", 20, 300, 20, attackPatterns},
	{"compression bombs", 20, 100, 30, attackBomb},
	{"MIME bombs", 4, 500, 60, attackMIME},
	{"header bombs", 4, 400, 20, attackHeader},
}

// TestHostileClients: whatever clients do, the server's memory stays bounded,
// and others are served meanwhile. Each attack has a process of its own, so that
// what other tests have left in memory does not count.
func TestHostileClients(t *testing.T) {
	const alone = "ROOKERY_SIEGE"
	for _, f := range hostileFigures {
		t.Run(f.name, func(t *testing.T) {
			if os.Getenv(alone) == "" {
				args := []string{"-test.v", "-test.run", "^TestHostileClients$/^" + strings.ReplaceAll(f.name, " ", "_") + "$"}
				if testing.Short() {
					args = append(args, "-test.short")
				}
				cmd := exec.Command(os.Args[0], args...)
				cmd.Env = append(os.Environ(), alone+"=1")
				out, err := cmd.CombinedOutput()
				if t.Logf("%s", out); err != nil {
					t.Error(err)
				}
				return
			}
			if testing.Short() && f.conns >= 1000 {
				f.conns /= 10
			}
			s := newSiege(t)
			peak, live := s.lay(f.conns, f.run)
			t.Logf("%d connections: %.1f MB at most, %.1f MB while they stay", f.conns, float64(peak)/(1<<20), float64(live)/(1<<20))
			if race.Enabled {
				return // it has memory of its own
			}
			if peak>>20 > f.peak || live>>20 > f.live {
				t.Errorf("%d MB at most, %d MB while they stay; allowed are %d and %d", peak>>20, live>>20, f.peak, f.live)
			}
		})
	}
}

// siege is a server over a store on disk, with somebody who only wants their
// mail.
type siege struct {
	t        *testing.T
	srv      *imapserver.Server
	honest   *client
	commands atomic.Int64 // that the honest client has had answered
}

func newSiege(t *testing.T) *siege {
	t.Helper()
	dir := t.TempDir()
	kv, err := pebblekv.Open(dir+"/kv", pebblekv.Options{Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := bloblog.Open(dir+"/blobs", bloblog.Options{Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	store, err := mailstore.Open(t.Context(), kv, blobs, mailstore.Options{Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, err := range []error{store.Close(context.Background()), blobs.Close(), kv.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	s := &siege{t: t, srv: newServer(t, imapstore.New(store), imapserver.Options{})}
	bob := connect(t, s.srv)
	bob.ok("LOGIN bob hidden")
	bob.appendTo("INBOX", bigMessage, bigMessage, bigMessage, hello)
	bob.ok("LOGOUT")
	s.honest = login(t, s.srv)
	s.honest.appendTo("INBOX", hello, hello)
	s.honest.ok("SELECT INBOX")
	s.serve() // what is kept is kept from now on
	return s
}

// serve gives the honest client what it asks for, once.
func (s *siege) serve() {
	s.t.Helper()
	c := s.honest
	for _, command := range []string{
		"UID FETCH 1:* (FLAGS ENVELOPE BODY.PEEK[])", "STORE 1 +FLAGS ($Work)", "STORE 1 -FLAGS ($Work)",
		"SEARCH BODY hello", "NOOP", fmt.Sprintf("APPEND INBOX {%d+}\r\n%s", len(hello), hello),
		fmt.Sprintf("APPEND INBOX {%d+}\r\n%s", len(bigMessage), bigMessage),
		"UID STORE 3:* +FLAGS.SILENT (\\Deleted)", "EXPUNGE",
	} {
		c.ok(command)
		s.commands.Add(1)
	}
}

// lay has n connections attack at once, serves the honest client until all of
// them are in place and once more behind that, and returns how much memory there
// was more than before: at most, and then.
func (s *siege) lay(n int, run func(*attacker) error) (peak, live uint64) {
	s.t.Helper()
	before := uint64(heapInUse())
	stop := make(chan struct{})
	sampled := make(chan uint64)
	go func() { sampled <- peakHeap(stop) }()
	var inPlace atomic.Int64
	var wg sync.WaitGroup
	attackers := make([]*attacker, n)
	for i := range n {
		ours, theirs := net.Pipe()
		go s.srv.ServeConn(context.Background(), theirs)
		a := &attacker{Conn: ours, in: bufio.NewReaderSize(ours, 512), number: i, stay: func() { inPlace.Add(1) }}
		attackers[i] = a
		s.t.Cleanup(func() { ours.Close() })
		wg.Go(func() {
			if err := run(a); err != nil {
				s.t.Errorf("connection %d: %v", i, err)
			}
			if !a.staying {
				inPlace.Add(1)
			}
		})
	}
	end := time.Now().Add(3 * patience)
	for inPlace.Load() < int64(n) && time.Now().Before(end) && !s.t.Failed() {
		s.serve()
	}
	if got := inPlace.Load(); got < int64(n) {
		s.t.Fatalf("only %d of %d attackers are where they want to be; %d commands of the other client were answered", got, n, s.commands.Load())
	}
	s.serve()
	close(stop)
	peak = <-sampled
	live = uint64(heapInUse())
	for _, a := range attackers {
		a.Close()
	}
	wg.Wait()
	return peak - min(before, peak), live - min(before, live)
}

// peakHeap looks all the time how much memory is in use, garbage included.
func peakHeap(stop chan struct{}) (peak uint64) {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	for {
		metrics.Read(sample)
		peak = max(peak, sample[0].Value.Uint64())
		select {
		case <-stop:
			return peak
		case <-time.After(time.Millisecond):
		}
	}
}

// attacker is a client that means no good. It takes little memory itself.
type attacker struct {
	net.Conn
	in      *bufio.Reader
	number  int
	staying bool
	stay    func()
}

// inPlace says that the attacker has done what it wants to do, and holds on.
func (a *attacker) inPlace() {
	a.staying = true
	a.stay()
}

func (a *attacker) say(text string) error {
	_, err := io.WriteString(a, text)
	return err
}

// expect reads lines up to one that begins as said.
func (a *attacker) expect(prefixes ...string) error {
	for {
		line, err := a.in.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			continue // the rest of a long line
		}
		if err != nil {
			return fmt.Errorf("waiting for %q: %w", prefixes, err)
		}
		for _, p := range prefixes {
			if bytes.HasPrefix(line, []byte(p)) {
				return nil
			}
		}
		if bytes.HasPrefix(line, []byte("zz9 ")) {
			return fmt.Errorf("%.200q, want %q", line, prefixes)
		}
	}
}

func (a *attacker) command(text, want string) error {
	return a.commandBy(func(w io.Writer) { io.WriteString(w, text) }, want)
}

// commandBy is command for a long one, which is never in memory whole.
func (a *attacker) commandBy(write func(w io.Writer), want string) error {
	// The answer may begin before the command has been read to its end.
	said := make(chan error, 1)
	go func() {
		w := bufio.NewWriterSize(a, 4096) // keeps the first error
		io.WriteString(w, "zz9 ")
		write(w)
		io.WriteString(w, "\r\n")
		said <- w.Flush()
	}()
	if err := a.expect("zz9 " + want); err != nil {
		return err
	}
	return <-said
}

func (a *attacker) login() error {
	if err := a.command("LOGIN bob hidden", "OK"); err != nil {
		return err
	}
	return a.command("SELECT INBOX", "OK")
}

// flood writes unit again and again until the other side has had enough.
func (a *attacker) flood(unit string, size int) error {
	chunk := []byte(strings.Repeat(unit, max(8192/len(unit), 1)))
	for written := 0; written < size; written += len(chunk) {
		if _, err := a.Write(chunk); err != nil {
			return err
		}
	}
	return nil
}

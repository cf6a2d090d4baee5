package imapserver_test

import (
	"bufio"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imapstore"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/memkv"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// TestMetamorphic gives the same commands, from several sessions, to servers
// over stores that differ in all that must not matter, and wants the same
// responses from all of them. (mailstore has a test of this name below the
// protocol.) A difference is cut down to a short list; ROOKERY_SEED replays it.
func TestMetamorphic(t *testing.T) {
	runs, steps := 3, 80
	if os.Getenv("ROOKERY_FULL") != "" {
		runs, steps = 60, 150
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("ROOKERY_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("ROOKERY_SEED: %v", err)
		}
		seed, runs = n, 1
	}
	answers := 0
	for run := range runs {
		seed := seed + uint64(run)
		list := protocolCommands(seed, steps)
		want := runProtocol(t, protocolConfigs[0], list)
		for _, c := range protocolConfigs[1:] {
			got := runProtocol(t, c, list)
			answers += len(got)
			if slices.Equal(want, got) {
				continue
			}
			first := firstDifference(want, got)
			small := shrinkProtocol(t, c, list)
			t.Fatalf("ROOKERY_SEED=%d (%d commands): %s differs from %s: %s\nwith these %d:\n%.5000s\n%s", seed, steps, c.name, protocolConfigs[0].name,
				first, len(small), strings.Join(small, "\n"), firstDifference(runProtocol(t, protocolConfigs[0], small), runProtocol(t, c, small)))
		}
	}
	t.Logf("%d lists of %d commands, %d configurations, %d answers compared", runs, steps, len(protocolConfigs), answers)
}

// firstDifference shows where the first answer that differs begins to.
func firstDifference(want, got []string) string {
	for i := range min(len(want), len(got)) {
		w, g := strings.Split(want[i], "\n"), strings.Split(got[i], "\n")
		for k := range min(len(w), len(g)) {
			if w[k] != g[k] {
				return fmt.Sprintf("%.100s:\nwant %.300s\n got %.300s", w[0], w[k], g[k])
			}
		}
	}
	return "(not every time)"
}

func shrinkProtocol(t *testing.T, c protocolConfig, list []string) []string {
	deadline := time.Now().Add(time.Minute)
	for size := len(list) / 2; size > 0; {
		cut := false
		for at := 0; at+size <= len(list) && time.Now().Before(deadline); {
			fewer := slices.Concat(list[:at], list[at+size:])
			if slices.Equal(runProtocol(t, protocolConfigs[0], fewer), runProtocol(t, c, fewer)) {
				at += size
			} else {
				list, cut = fewer, true
			}
		}
		if !cut || size > 1 {
			size /= 2
		}
	}
	return list
}

// protocolConfig is one way to run a server.
type protocolConfig struct {
	name     string
	embedded bool // else in memory
	opts     mailstore.Options
	index    pebblekv.Options
	messages bloblog.Options
	compress bool // COMPRESS on all connections
	polls    bool // sessions hear of no change, and look before each command
}

var protocolConfigs = []protocolConfig{
	{name: "in memory"},
	{name: "in memory, tiny transactions, no index kept", opts: mailstore.Options{TxnRows: 2, TxnBytes: 1000, PageRows: 3, FoldRows: 2, IndexMemory: 1}},
	{name: "embedded", embedded: true},
	{name: "embedded, messages compressed", embedded: true, messages: bloblog.Options{Compress: bloblog.Zstd, SegmentBytes: 5000}},
	{name: "in memory, polled", polls: true},
	{name: "embedded, all small", embedded: true, compress: true, opts: mailstore.Options{TxnRows: 3, PageRows: 2, FoldRows: 1, IndexMemory: 20_000},
		index:    pebblekv.Options{MemTableBytes: 64 << 10, CacheBytes: 1 << 10},
		messages: bloblog.Options{SegmentBytes: 2000, MaxWaste: 0.1, OpenFiles: 1}},
}

// protocolRun is a server with its sessions.
type protocolRun struct {
	t     *testing.T
	c     protocolConfig
	fs    vfs.FS
	kv    driver.KV
	blobs driver.Blobs
	step  int
	conns map[string]*client
	srv   *imapserver.Server
	stop  func()

	mu      sync.Mutex
	wakes   map[int]func() // of a configuration that polls
	watches int
}

// runProtocol gives commands such as "b: NOOP" and returns what was answered.
func runProtocol(t *testing.T, c protocolConfig, list []string) []string {
	t.Helper()
	r := &protocolRun{t: t, c: c, fs: vfs.NewMem(), kv: memkv.NewKV(), blobs: memkv.NewBlobs()}
	r.open()
	var answers []string
	list = slices.Concat(list, []string{"restart"})
	for _, box := range []string{"INBOX", "A", "A/B", "C"} {
		list = append(list, "a: EXAMINE "+box, "a: STATUS "+box+" (MESSAGES UIDNEXT UIDVALIDITY UNSEEN SIZE HIGHESTMODSEQ)",
			"a: UID FETCH 1:* (FLAGS MODSEQ INTERNALDATE SAVEDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE PREVIEW BODY.PEEK[])", "a: UID SEARCH SUBJECT 1")
	}
	for _, line := range list {
		r.step++
		if line == "restart" {
			r.stop()
			r.open()
			continue
		}
		session, command, _ := strings.Cut(line, ": ")
		c := r.session(session)
		r.poll()
		untagged, tagged := c.do(command)
		answers = append(answers, line+"\n  "+normal(strings.Join(append(untagged, tagged), "\n  ")))
	}
	r.stop()
	return answers
}

var (
	flagList  = regexp.MustCompile(`(FLAGS|PERMANENTFLAGS) \(([^)]*)\)`)
	searchTag = regexp.MustCompile(`\(TAG "[^"]*"\)`)
	mailboxID = regexp.MustCompile(`MAILBOXID \([^)]*\)`)
)

// normal leaves out what may differ: the order of flags, the test's own tags,
// identifiers of mailboxes.
func normal(s string) string {
	s = flagList.ReplaceAllStringFunc(s, func(m string) string {
		name, rest, _ := strings.Cut(m, " (")
		flags := strings.Fields(strings.TrimSuffix(rest, ")"))
		slices.Sort(flags)
		return name + " (" + strings.Join(flags, " ") + ")"
	})
	s = searchTag.ReplaceAllString(s, "(TAG)")
	return mailboxID.ReplaceAllString(s, "MAILBOXID ()")
}

func (r *protocolRun) open() {
	r.t.Helper()
	if r.c.embedded {
		r.c.index.FS, r.c.index.Logger = r.fs, quiet()
		r.c.messages.FS, r.c.messages.Logger = r.fs, quiet()
		kv, err := pebblekv.Open("kv", r.c.index)
		if err != nil {
			r.t.Fatal(err)
		}
		blobs, err := bloblog.Open("blobs", r.c.messages)
		if err != nil {
			r.t.Fatal(err)
		}
		r.kv, r.blobs = kv, blobs
	}
	opts := r.c.opts
	opts.Logger = quiet()
	opts.Now = func() time.Time { return time.Unix(1_700_000_000+int64(r.step), 0) }
	store, err := mailstore.Open(context.Background(), r.kv, r.blobs, opts)
	if err != nil {
		r.t.Fatal(err)
	}
	var backend imapserver.Backend = imapstore.New(store)
	if r.c.polls {
		r.wakes = make(map[int]func())
		backend = polledBackend{backend, r}
	}
	r.srv, err = imapserver.New(backend, users, imapserver.Options{Log: quiet(), InsecureAuth: true})
	if err != nil {
		r.t.Fatal(err)
	}
	r.conns = make(map[string]*client)
	r.stop = func() {
		r.srv.Close()
		defects, err := store.Check(context.Background())
		for _, d := range defects {
			r.t.Errorf("%s: check: %s", r.c.name, d)
		}
		err = errors.Join(err, store.Close(context.Background()))
		if r.c.embedded {
			err = errors.Join(err, r.kv.Close(), r.blobs.Close())
		}
		if err != nil {
			r.t.Error(err)
		}
	}
}

// session returns a session that is logged in; b knows CONDSTORE, c QRESYNC.
func (r *protocolRun) session(name string) *client {
	if c := r.conns[name]; c != nil {
		return c
	}
	ours, theirs := net.Pipe()
	go r.srv.ServeConn(context.Background(), theirs)
	c := newClient(r.t, ours)
	c.want("* OK ")
	c.ok("LOGIN ann secret")
	if extension := map[string]string{"b": "CONDSTORE", "c": "QRESYNC"}[name]; extension != "" {
		c.ok("ENABLE " + extension)
	}
	if r.c.compress {
		c.ok("COMPRESS DEFLATE")
		w, err := flate.NewWriter(c.conn, 1)
		if err != nil {
			r.t.Fatal(err)
		}
		c.in, c.conn = bufio.NewReader(flate.NewReader(c.in)), packing{c.conn, w}
	}
	c.ok("SELECT INBOX")
	r.conns[name] = c
	return c
}

// poll has all sessions look whether something is new.
func (r *protocolRun) poll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, wake := range r.wakes {
		wake()
	}
}

// polledBackend is a back end that does not tell of changes.
type polledBackend struct {
	imapserver.Backend
	r *protocolRun
}

func (b polledBackend) Open(ctx context.Context, user string) (imapserver.Account, error) {
	a, err := b.Backend.Open(ctx, user)
	return polledAccount{a, b.r}, err
}

type polledAccount struct {
	imapserver.Account
	r *protocolRun
}

func (a polledAccount) Mailbox(ctx context.Context, name string) (imapserver.Mailbox, error) {
	m, err := a.Account.Mailbox(ctx, name)
	if err != nil {
		return nil, err
	}
	return polledMailbox{m, a.r}, nil
}

type polledMailbox struct {
	imapserver.Mailbox
	r *protocolRun
}

// Watch implements imapserver.Mailbox: wake is called by poll alone.
func (m polledMailbox) Watch(wake func()) (stop func()) {
	m.r.mu.Lock()
	defer m.r.mu.Unlock()
	m.r.watches++
	id := m.r.watches
	m.r.wakes[id] = wake
	return func() {
		m.r.mu.Lock()
		defer m.r.mu.Unlock()
		delete(m.r.wakes, id)
	}
}

// packing is a connection whose writes are compressed.
type packing struct {
	net.Conn
	w *flate.Writer
}

func (f packing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	return n, errors.Join(err, f.w.Flush())
}

// protocolCommands draws commands without a look at any server: some name what
// is not there, and the refusals are compared like all else. No mailbox is deleted
// that a session may have selected: when that session hears of it is no promise.
func protocolCommands(seed uint64, n int) []string {
	rng := rand.New(rand.NewPCG(seed, 0x1a9))
	list := []string{"a: CREATE A", "a: CREATE A/B", "a: APPEND A \" 1-Feb-2020 00:00:00 +0000\" {5+}\r\nhello"}
	for i := range 4 {
		list = append(list, fmt.Sprintf("a: APPEND INBOX () \" 1-Jan-2020 00:00:0%d +0000\" %s", i, protocolMessage(i)))
	}
	for range n {
		list = append(list, string("abc"[rng.IntN(3)])+": "+protocolCommand(rng))
		if rng.IntN(30) == 0 {
			list = append(list, "restart")
		}
	}
	return list
}

func protocolMessage(n int) string {
	text := fmt.Sprintf("Message-ID: <%d@example.org>\r\nSubject: word%d number %d\r\nFrom: s%d@example.org\r\n", n, n%7, n, n%5)
	switch n % 4 {
	case 0:
		text += fmt.Sprintf("References: <%d@example.org>\r\n\r\nreply\r\n", n-4)
	case 1:
		text += "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nparts\r\n--x\r\nContent-Type: text/html\r\n\r\n<b>bold</b>\r\n--x--\r\n"
	default:
		text += fmt.Sprintf("\r\n%s\r\n", strings.Repeat(fmt.Sprintf("text %d ", n), n%300))
	}
	return fmt.Sprintf("{%d+}\r\n%s", len(text), text)
}

func protocolCommand(rng *rand.Rand) string {
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	box := func() string { return pick("INBOX", "INBOX", "INBOX", "A", "A/B", "C") }
	uids := func() string {
		x, y := rng.IntN(20)+1, rng.IntN(20)+1
		return pick("1:*", "*", fmt.Sprint(x), fmt.Sprintf("%d:%d", x, y), fmt.Sprintf("%d,%d", x, y))
	}
	flags := func() string {
		return pick(`\Seen`, `\Deleted`, `\Flagged \Seen`, `\Answered`, "$Work", "$Work $Other", `\Deleted kw`, "")
	}
	item := func() string { return pick("+FLAGS", "-FLAGS", "FLAGS", "+FLAGS.SILENT") }
	n := rng.IntN(500)
	switch rng.IntN(20) {
	case 0, 1, 2:
		return fmt.Sprintf("APPEND %s (%s) \" 1-Feb-2021 00:00:00 +0100\" %s", box(), flags(), protocolMessage(n))
	case 3, 4:
		return fmt.Sprintf("UID STORE %s %s (%s)", uids(), item(), flags())
	case 5:
		return fmt.Sprintf("STORE %s %s (%s)", uids(), item(), flags())
	case 6:
		return fmt.Sprintf("UID STORE %s (UNCHANGEDSINCE %d) %s (%s)", uids(), n%20+1, item(), flags())
	case 7:
		return pick("EXPUNGE", "UID EXPUNGE "+uids(), "NOOP", "NOOP", "CHECK")
	case 8:
		return pick("UID COPY ", "COPY ", "UID MOVE ", "MOVE ") + uids() + " " + box()
	case 9:
		return pick("CREATE ", "SUBSCRIBE ", "UNSUBSCRIBE ") + pick("A", "A/B", "C")
	case 10:
		return "RENAME " + box() + " " + pick("A", "A/B", "C")
	case 11, 12:
		return pick("SELECT ", "SELECT ", "EXAMINE ") + box() + pick("", " (CONDSTORE)")
	case 13:
		return pick("CLOSE", "UNSELECT", `LIST "" *`, `LIST (SUBSCRIBED) "" *`, `LIST "" % RETURN (STATUS (MESSAGES UNSEEN))`)
	case 14:
		return "STATUS " + box() + " (MESSAGES UIDNEXT UIDVALIDITY UNSEEN SIZE HIGHESTMODSEQ DELETED)"
	case 15, 16:
		return pick("UID FETCH ", "FETCH ") + uids() + " " + pick("(FLAGS UID)", "(UID ENVELOPE MODSEQ)", "BODY[]", "(BODYSTRUCTURE PREVIEW)",
			"(BODY.PEEK[HEADER.FIELDS (SUBJECT)])", "(BODY.PEEK[1]<3.10> RFC822.SIZE)", "(FLAGS) (CHANGEDSINCE 3)")
	}
	return pick("SEARCH ", "UID SEARCH ", "UID SEARCH RETURN (MIN MAX COUNT ALL) ") + pick("ALL", "UNSEEN", "DELETED", "KEYWORD $Work", "NOT FLAGGED",
		fmt.Sprintf("SUBJECT word%d", n%7), fmt.Sprintf("BODY \"text %d\"", n), fmt.Sprintf("TEXT number OR FROM s%d SEEN", n%5), "HEADER Message-ID 1", fmt.Sprintf("MODSEQ %d", n%20),
		fmt.Sprintf("LARGER %d", n*2), "SINCE 1-Jan-2021", "NOT TEXT parts", "UID "+uids())
}

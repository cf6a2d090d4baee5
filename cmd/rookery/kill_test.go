package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestKill kills the real server with SIGKILL, again and again, while clients
// append, flag, move and expunge messages and an MTA delivers, and looks each
// time whether everything that was acknowledged is there, whole, and nothing
// that was not asked for. ROOKERY_KILLS says how often; 3 is for every day.
// What a power cut does is tested by the store, on a file system that forgets.
func TestKill(t *testing.T) {
	rounds := 3
	if s := os.Getenv("ROOKERY_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("ROOKERY_KILLS: %v", err)
		}
		rounds = n
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	k := &killing{t: t, binary: filepath.Join(dir, "rookery"), data: filepath.Join(dir, "data"), users: filepath.Join(dir, "users")}
	k.build()
	if err := os.WriteFile(k.users, []byte("ann:{PLAIN}a\nbob:{PLAIN}b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var workers []*worker
	for i := range 8 {
		user, password := "ann", "a"
		if i%4 == 3 {
			user, password = "bob", "b"
		}
		workers = append(workers, &worker{name: "w" + strconv.Itoa(i), user: user, password: password, lmtp: i%4 == 2,
			rng: rand.New(rand.NewPCG(seed, uint64(i)+1)), messages: make(map[string]*letter)})
	}
	done := 0
	for round := range rounds {
		k.start()
		var wg sync.WaitGroup
		for _, w := range workers {
			wg.Go(func() { w.work(k) })
		}
		time.Sleep(time.Duration(100+rng.IntN(900)) * time.Millisecond)
		k.kill()
		wg.Wait()
		k.start()
		for _, w := range workers {
			if w.wrong != nil {
				t.Errorf("round %d: %s: %v", round, w.name, w.wrong)
			}
			done += w.done
			w.done = 0
		}
		for _, user := range []string{"ann", "bob"} {
			k.verify(user, workers)
		}
		k.kill() // also right after a recovery
		if t.Failed() {
			t.Fatalf("round %d (seed %d), server's log:\n%s", round, seed, k.log.String())
		}
	}
	t.Logf("%d commands were acknowledged in %d rounds", done, rounds)
	if done == 0 {
		t.Error("no command was acknowledged: nothing has been tested")
	}
}

// killing is the server and its folder.
type killing struct {
	t                   *testing.T
	binary, data, users string
	before              string   // a command of the shell, run first
	more                []string // arguments
	cmd                 *exec.Cmd
	log                 *lockedBuffer
	imaps, lmtp         string
	validity            map[string]string // of each mailbox
}

// build builds the program as it is shipped.
func (k *killing) build() {
	k.t.Helper()
	build := exec.Command("go", "build", "-o", k.binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		k.t.Fatalf("go build: %v\n%s", err, out)
	}
}

func (k *killing) start() {
	k.t.Helper()
	k.log = &lockedBuffer{}
	ctx, cancel := context.WithCancel(context.Background())
	k.t.Cleanup(cancel)
	args := []string{k.binary, "serve", "--data", k.data, "--passwd", k.users,
		"--imap", "off", "--imaps", "127.0.0.1:0", "--lmtp", "127.0.0.1:0"}
	args = append(args, k.more...)
	if k.before != "" {
		args = append([]string{"sh", "-c", k.before + ` && exec "$0" "$@"`}, args...)
	}
	k.cmd = exec.CommandContext(ctx, args[0], args[1:]...)
	k.cmd.Stderr = k.log
	if err := k.cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); !strings.Contains(k.log.String(), "msg=ready"); {
		if time.Now().After(deadline) {
			k.t.Fatalf("the server is not ready:\n%s", k.log.String())
		}
		time.Sleep(5 * time.Millisecond)
	}
	for _, m := range regexp.MustCompile(`for=(\S+) addr=(\S+)`).FindAllStringSubmatch(k.log.String(), -1) {
		if m[1] == "imaps" {
			k.imaps = m[2]
		} else {
			k.lmtp = m[2]
		}
	}
}

func (k *killing) kill() {
	_ = k.cmd.Process.Kill()
	_ = k.cmd.Wait()
}

// letter is what a worker knows of one of its messages.
type letter struct {
	text    []byte
	mailbox string
	uid     string // "" where it is not known
	flags   map[string]bool
	gone    bool
	// unsure holds what the command under way would have made of it, when the
	// server was killed; nil where none was.
	unsure *letter
	absent bool // it may be missing: its APPEND was under way
}

func (l *letter) clone() *letter {
	c := *l
	c.flags, c.unsure = maps.Clone(l.flags), nil
	return &c
}

// worker is a client that changes messages of its own.
type worker struct {
	name, user, password string
	lmtp                 bool
	rng                  *rand.Rand
	next                 int
	messages             map[string]*letter
	done                 int
	wrong                error // a refusal where there should be none
}

var errRefused = errors.New("refused")

// work runs commands until the connection breaks.
func (w *worker) work(k *killing) {
	var err error
	if w.lmtp {
		err = w.deliver(k.lmtp)
	} else {
		err = w.session(k.imaps)
	}
	if errors.Is(err, errRefused) {
		w.wrong = err
	}
}

func (w *worker) session(addr string) error {
	c, err := dialIMAP(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	run := func(parts ...string) (string, error) {
		untagged, status, err := c.do(parts...)
		if err == nil && !strings.HasPrefix(status, "OK") {
			err = fmt.Errorf("%w: %.60q: %s", errRefused, parts[0], status)
		}
		return untagged + status, err
	}
	if _, err := run("LOGIN " + w.user + " " + w.password); err != nil {
		return err
	}
	if _, status, err := c.do("CREATE Other"); err != nil {
		return err
	} else if !strings.HasPrefix(status, "OK") && !strings.Contains(status, "ALREADYEXISTS") {
		return fmt.Errorf("%w: CREATE: %s", errRefused, status)
	}
	selected := ""
	for {
		id, l := w.pick()
		if l == nil {
			err = w.append(run)
		} else {
			if selected != l.mailbox {
				if _, err = run("SELECT " + l.mailbox); err != nil {
					return err
				}
				selected = l.mailbox
			}
			err = w.change(run, id, l)
		}
		if err != nil {
			return err
		}
		w.done++
	}
}

// pick chooses a message to change, or none, to append one.
func (w *worker) pick() (string, *letter) {
	var ids []string
	for id, l := range w.messages {
		if !l.gone && l.uid != "" {
			ids = append(ids, id)
		}
	}
	if len(ids) < 5 || w.rng.IntN(3) == 0 && len(ids) < 60 {
		return "", nil
	}
	slices.Sort(ids)
	id := ids[w.rng.IntN(len(ids))]
	return id, w.messages[id]
}

// compose makes a new message, some short, some long.
func (w *worker) compose() (string, []byte) {
	id := fmt.Sprintf("%s-%d", w.name, w.next)
	w.next++
	size := w.rng.IntN(4000)
	if w.rng.IntN(20) == 0 {
		size = 300_000 + w.rng.IntN(300_000)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "Subject: %s\r\nMessage-ID: <%s@example.org>\r\n\r\n", id, id)
	for b.Len() < size {
		fmt.Fprintf(&b, "%016x%016x\r\n", w.rng.Uint64(), w.rng.Uint64())
	}
	return id, b.Bytes()
}

var appendUID = regexp.MustCompile(`\[APPENDUID \d+ (\d+)\]`)

func (w *worker) append(run func(...string) (string, error)) error {
	id, text := w.compose()
	box := [...]string{"INBOX", "Other"}[w.rng.IntN(2)]
	l := &letter{text: text, mailbox: box, flags: map[string]bool{`\Flagged`: true}, absent: true}
	w.messages[id] = l
	answer, err := run("APPEND "+box+` (\Flagged) `, literal(text))
	if err != nil {
		return err
	}
	m := appendUID.FindStringSubmatch(answer)
	if m == nil {
		return fmt.Errorf("%w: no APPENDUID in %q", errRefused, answer)
	}
	l.uid, l.absent = m[1], false
	return nil
}

var copyUID = regexp.MustCompile(`\[COPYUID \d+ \d+ (\d+)\]`)

// change runs one command on a message. Until it is acknowledged both states
// are possible.
func (w *worker) change(run func(...string) (string, error), id string, l *letter) error {
	after := l.clone()
	var cmd string
	switch n := w.rng.IntN(10); {
	case n < 6:
		flag := [...]string{`\Seen`, `\Answered`, "$Work", `\Draft`}[w.rng.IntN(4)]
		op := "+"
		if l.flags[flag] {
			op = "-"
			delete(after.flags, flag)
		} else {
			after.flags[flag] = true
		}
		cmd = fmt.Sprintf("UID STORE %s %sFLAGS.SILENT (%s)", l.uid, op, flag)
	case n < 8:
		after.mailbox = map[string]string{"INBOX": "Other", "Other": "INBOX"}[l.mailbox]
		after.uid = ""
		cmd = "UID MOVE " + l.uid + " " + after.mailbox
	case !l.flags[`\Deleted`]:
		after.flags[`\Deleted`] = true
		cmd = "UID STORE " + l.uid + ` +FLAGS.SILENT (\Deleted)`
	default:
		after.gone = true
		cmd = "UID EXPUNGE " + l.uid
	}
	l.unsure = after
	answer, err := run(cmd)
	if err != nil {
		return err
	}
	if m := copyUID.FindStringSubmatch(answer); m != nil {
		after.uid = m[1]
	}
	w.messages[id] = after
	return nil
}

// verify compares the mailboxes of a user with what the workers know, and
// tells the workers how it stands.
func (k *killing) verify(user string, workers []*worker) {
	k.t.Helper()
	var mine []*worker
	for _, w := range workers {
		if w.user == user {
			mine = append(mine, w)
		}
	}
	c, err := dialIMAP(k.imaps)
	if err != nil {
		k.t.Fatal(err)
	}
	defer c.Close()
	if _, status, err := c.do("LOGIN " + user + " " + mine[0].password); err != nil || !strings.HasPrefix(status, "OK") {
		k.t.Fatalf("LOGIN: %s, %v", status, err)
	}
	found := make(map[string]*letter)
	for _, box := range []string{"INBOX", "Other"} {
		answer, status, err := c.do("EXAMINE " + box)
		if err != nil || strings.HasPrefix(status, "NO") && box == "Other" {
			continue // killed before it was made
		}
		k.checkValidity(user+"/"+box, answer)
		answer, status, err = c.do("UID FETCH 1:* (UID FLAGS BODY.PEEK[])")
		if err != nil || !strings.HasPrefix(status, "OK") {
			k.t.Fatalf("FETCH: %s, %v", status, err)
		}
		k.parse(box, answer, found)
	}
	for _, w := range mine {
		for id, l := range w.messages {
			k.compare(w, id, l, found[id])
			delete(found, id)
		}
	}
	for id := range found {
		k.t.Errorf("%s: message %s is there, and nobody has sent it, or it had been expunged", user, id)
	}
}

var uidValidity = regexp.MustCompile(`\[UIDVALIDITY (\d+)\]`)

func (k *killing) checkValidity(box, answer string) {
	m := uidValidity.FindStringSubmatch(answer)
	if m == nil {
		k.t.Errorf("%s: no UIDVALIDITY in %q", box, answer)
		return
	}
	if k.validity == nil {
		k.validity = make(map[string]string)
	}
	if old, ok := k.validity[box]; ok && old != m[1] {
		k.t.Errorf("%s: UIDVALIDITY was %s and is %s", box, old, m[1])
	}
	k.validity[box] = m[1]
}

var (
	fetchItem = regexp.MustCompile(`(?s)^\* \d+ FETCH \((.*?)BODY\[\] \{(\d+)\}\r\n`)
	fetchUID  = regexp.MustCompile(`UID (\d+)`)
	fetchFlag = regexp.MustCompile(`FLAGS \(([^)]*)\)`)
	subject   = regexp.MustCompile(`(?m)^Subject: (\S+)\r$`)
)

// parse reads FETCH responses into found, by subject.
func (k *killing) parse(box, answer string, found map[string]*letter) {
	for answer != "" {
		m := fetchItem.FindStringSubmatch(answer)
		if m == nil {
			_, answer, _ = strings.Cut(answer, "\r\n")
			continue
		}
		size, _ := strconv.Atoi(m[2])
		rest := answer[len(m[0]):]
		l := &letter{text: []byte(rest[:size]), mailbox: box, flags: make(map[string]bool), uid: fetchUID.FindStringSubmatch(m[1])[1]}
		for f := range strings.FieldsSeq(fetchFlag.FindStringSubmatch(m[1])[1]) {
			if f != `\Recent` {
				l.flags[f] = true
			}
		}
		answer = rest[size:]
		id := "?"
		if s := subject.FindSubmatch(l.text); s != nil {
			id = string(s[1])
		}
		if found[id] != nil {
			k.t.Errorf("message %s is there twice: in %s and %s", id, found[id].mailbox, box)
		}
		found[id] = l
	}
}

// compare looks whether a message is as it was acknowledged, or as the command
// under way would have left it, and sets the worker's record right.
func (k *killing) compare(w *worker, id string, l, is *letter) {
	if is == nil {
		if !l.gone && !l.absent && (l.unsure == nil || !l.unsure.gone) {
			k.t.Errorf("message %s (UID %s in %s) was acknowledged and is lost", id, l.uid, l.mailbox)
		}
		delete(w.messages, id)
		return
	}
	// (LMTP puts its own header fields in front.)
	if !bytes.Equal(is.text, l.text) && !(w.lmtp && bytes.HasSuffix(is.text, l.text)) {
		k.t.Errorf("message %s is not what was sent: %d bytes, sent %d", id, len(is.text), len(l.text))
	}
	if !same(l, is) && (l.unsure == nil || !same(l.unsure, is)) {
		k.t.Errorf("message %s is in %s as UID %s with %v; acknowledged was %s as UID %q with %v (expunged: %v)",
			id, is.mailbox, is.uid, slices.Sorted(maps.Keys(is.flags)), l.mailbox, l.uid, slices.Sorted(maps.Keys(l.flags)), l.gone)
	}
	is.text = l.text
	w.messages[id] = is
}

func same(l, is *letter) bool {
	return !l.gone && l.mailbox == is.mailbox && (l.uid == "" || l.uid == is.uid) && maps.Equal(l.flags, is.flags)
}

package imaptest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// RandomOptions says how much Random and Concurrent do. The zero value is a
// run of a few seconds.
type RandomOptions struct {
	// Seed replays a run; 0 takes one from the clock. A failure names its seed.
	Seed uint64
	// Runs is how many servers are tried, each with a list of its own; 0
	// means 10.
	Runs int
	// Steps is the number of commands of a run; 0 means 80.
	Steps int
	// Sessions is the number of connections; 0 means 3.
	Sessions int
	// Restarts lets the server be restarted between commands, where
	// Server.Restart is set.
	Restarts bool
	// Faults lets the server's storage fail during commands, where Server.Fail
	// is set. What is answered NO [UNAVAILABLE] then must have happened as a
	// whole or not at all.
	Faults bool
}

func (o RandomOptions) withDefaults() RandomOptions {
	if o.Seed == 0 {
		o.Seed = uint64(time.Now().UnixNano())
	}
	o.Runs = orDefault(o.Runs, 10)
	o.Steps = orDefault(o.Steps, 80)
	o.Sessions = orDefault(o.Sessions, 3)
	return o
}

func orDefault(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

// Random lets several sessions work on one mailbox with random commands, one
// at a time, and holds what each session is told against a reference model:
// sequence numbers that stay true, EXPUNGE only where it is allowed, flags and
// messages that agree after NOOP, UIDs and mod-sequences that only rise, and
// complete answers to a QRESYNC SELECT. A list of commands that fails is cut
// down to what is needed to fail, and logged as a transcript.
//
// The server must announce UIDPLUS; MOVE, IDLE, CONDSTORE and QRESYNC are used
// where they are announced. Random is skipped where Target.Lacks has what it
// cannot do without.
func Random(t *testing.T, target Target, options RandomOptions) {
	skipRandom(t, &target)
	o := options.withDefaults()
	for run := range o.Runs {
		seed := o.Seed + uint64(run)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			ops := randomOps(seed, o)
			failure := tryOps(t, target, o, ops)
			if failure == nil {
				return
			}
			small, failure := shrink(t, target, o, ops, failure)
			t.Errorf("RandomOptions{Seed: %d, Runs: 1}: %v\nfails with %d of %d commands:\n%s\n--- what happened:\n%s",
				seed, failure.err, len(small), len(ops), showOps(small), strings.Join(failure.shown, "\n"))
		})
	}
}

// An opKind is a kind of random command.
type opKind uint8

const (
	randAppend opKind = iota
	randStore
	randUIDStore
	randUnchangedSince
	randExpunge
	randUIDExpunge
	randMove
	randUIDMove
	randCopy
	randFetchFlags
	randFetchBody
	randUIDFetch
	randSearch
	randUIDSearch
	randNoop
	randCheck // NOOP and a comparison of everything
	randIdle
	randSelect
	randExamine
	randClose
	randUnselect
	randReconnect
	randRestart
	randFault
)

// weights says how often each kind comes.
var weights = [...]struct {
	kind   opKind
	name   string
	weight int
}{
	{randAppend, "append", 12}, {randStore, "store", 14}, {randUIDStore, "uid store", 6},
	{randUnchangedSince, "store unchangedsince", 4}, {randExpunge, "expunge", 8},
	{randUIDExpunge, "uid expunge", 4}, {randMove, "move", 3}, {randUIDMove, "uid move", 3},
	{randCopy, "copy", 4}, {randFetchFlags, "fetch flags", 8}, {randFetchBody, "fetch body", 6},
	{randUIDFetch, "uid fetch", 4}, {randSearch, "search", 5}, {randUIDSearch, "uid search", 3},
	{randNoop, "noop", 6}, {randCheck, "check", 6}, {randIdle, "idle", 5}, {randSelect, "select", 5},
	{randExamine, "examine", 2}, {randClose, "close", 2}, {randUnselect, "unselect", 2},
	{randReconnect, "reconnect", 2}, {randRestart, "restart", 1},
	{randFault, "fault", 8},
}

// A randomOp is one command, its details as numbers that take their meaning
// from the state at the time, so that a list stays valid when others are cut
// out of it.
type randomOp struct {
	kind    opKind
	session int
	a, b, c uint32
}

func randomOps(seed uint64, o RandomOptions) []randomOp {
	rng := rand.New(rand.NewPCG(seed, 0x1a7e57))
	total := 0
	for _, w := range weights {
		total += w.weight
	}
	ops := make([]randomOp, o.Steps)
	for i := range ops {
		n := rng.IntN(total)
		k := 0
		for n >= weights[k].weight {
			n -= weights[k].weight
			k++
		}
		ops[i] = randomOp{weights[k].kind, rng.IntN(o.Sessions), rng.Uint32(), rng.Uint32(), rng.Uint32()}
	}
	return ops
}

func showOps(ops []randomOp) string {
	var b strings.Builder
	for _, op := range ops {
		fmt.Fprintf(&b, "%s %s %d %d %d\n", sessionName(op.session), weights[op.kind].name, op.a, op.b, op.c)
	}
	return b.String()
}

func sessionName(i int) string { return string(rune('a' + i)) }

// A failure is a list of commands that went wrong.
type failure struct {
	err   error
	shown []string
}

// tryOps runs a list against a fresh server.
func tryOps(t *testing.T, target Target, o RandomOptions, ops []randomOp) *failure {
	tb := &scope{TB: t}
	defer tb.end()
	w := &world{server: target.New(tb), options: o, truth: newTruth()}
	defer w.closeAll()
	ctx := t.Context()
	err := w.begin(ctx)
	for i := 0; i < len(ops) && err == nil; i++ {
		if err = w.do(ctx, ops[i]); err != nil {
			err = fmt.Errorf("at %q of session %s: %w", weights[ops[i].kind].name, sessionName(ops[i].session), err)
		}
	}
	for i := 0; i < len(w.sessions) && err == nil; i++ {
		if err = w.do(ctx, randomOp{kind: randCheck, session: i}); err != nil {
			err = fmt.Errorf("at the end, session %s: %w", sessionName(i), err)
		}
	}
	if err == nil {
		return nil
	}
	return &failure{err, w.shown}
}

// shrink leaves out what is not needed to fail, for at most a minute.
func shrink(t *testing.T, target Target, o RandomOptions, ops []randomOp, first *failure) ([]randomOp, *failure) {
	deadline := time.Now().Add(time.Minute)
	for size := len(ops) / 2; size > 0; {
		cut := false
		for at := 0; at+size <= len(ops) && time.Now().Before(deadline); {
			fewer := slices.Concat(ops[:at], ops[at+size:])
			if f := tryOps(t, target, o, fewer); f != nil {
				ops, first, cut = fewer, f, true
			} else {
				at += size
			}
		}
		if !cut || size > 1 {
			size /= 2
		}
	}
	return ops, first
}

// A scope is a testing.TB whose clean-ups run when one run ends, since a test
// tries many servers.
type scope struct {
	testing.TB
	cleanups []func()
}

// Cleanup implements testing.TB.
func (s *scope) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

// TempDir implements testing.TB.
func (s *scope) TempDir() string {
	dir, err := os.MkdirTemp("", "imaptest")
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (s *scope) end() {
	for i := len(s.cleanups) - 1; i >= 0; i-- {
		s.cleanups[i]()
	}
}

// A world is one server with its sessions and the truth about INBOX.
type world struct {
	server   *Server
	options  RandomOptions
	truth    *truth
	sessions []*session
	observer *session // looks when an answer leaves open what happened
	have     map[string]bool
	shown    []string
	serial   int         // of appended messages
	lock     *sync.Mutex // of shown, where sessions run at the same time
}

func (w *world) log(format string, args ...any) {
	if w.lock != nil {
		w.lock.Lock()
		defer w.lock.Unlock()
	}
	w.shown = append(w.shown, fmt.Sprintf(format, args...))
}

func (w *world) closeAll() {
	for _, s := range append(w.sessions, w.observer) {
		if s != nil {
			s.c.close()
		}
	}
}

// begin makes the mailbox that MOVE moves to, and opens all sessions.
func (w *world) begin(ctx context.Context) error {
	w.have = map[string]bool{}
	c, err := w.login(ctx, "z")
	if err != nil {
		return err
	}
	r := &runner{vars: vars{}}
	if err := r.capabilities(c, w.have); err != nil {
		return err
	}
	if !w.have["UIDPLUS"] {
		return fmt.Errorf("the random test needs UIDPLUS")
	}
	if _, err := c.simple("CREATE Other", nil); err != nil {
		return err
	}
	w.observer = newSession("z", c, w.truth.registry)
	w.sessions = make([]*session, w.options.Sessions)
	for i := range w.sessions {
		if err := w.open(ctx, i); err != nil {
			return err
		}
	}
	w.shown = nil
	return nil
}

func (w *world) login(ctx context.Context, name string) (*client, error) {
	c, err := connect(ctx, name, w.server.Dial, w.log)
	if err != nil {
		return nil, err
	}
	if err := greeting(c); err != nil {
		return nil, err
	}
	u := w.server.Users[0]
	_, err = c.simple("LOGIN "+quote(u.Name)+" "+quote(u.Password), nil)
	return c, err
}

// open connects session i: the first one plain, the second with QRESYNC, the
// third with CONDSTORE, and so on.
func (w *world) open(ctx context.Context, i int) error {
	c, err := w.login(ctx, sessionName(i))
	if err != nil {
		return err
	}
	s := newSession(sessionName(i), c, w.truth.registry)
	s.truth = w.truth
	if old := w.sessions[i]; old != nil {
		s.saved = old.saved
	}
	w.sessions[i] = s
	if i%3 == 1 && w.have["QRESYNC"] {
		s.qresync, s.condstore = true, true
		_, err = c.simple("ENABLE QRESYNC", nil)
	} else if i%3 == 2 && w.have["CONDSTORE"] {
		s.condstore = true
		_, err = c.simple("ENABLE CONDSTORE", nil)
	}
	return err
}

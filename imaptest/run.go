package imaptest

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// RunTranscripts runs every transcript against a server of its own, each as a
// parallel subtest named after its file. Those that need what target.Lacks lists
// are left out, and counted in the log.
func RunTranscripts(t *testing.T, target Target) {
	fsys := target.Transcripts
	if fsys == nil {
		fsys = Transcripts()
	}
	scripts, err := loadScripts(fsys)
	if err != nil {
		t.Fatal(err)
	}
	left := make(map[string]int)
	for _, s := range scripts {
		if need := s.lacks(&target); need != "" {
			left[need]++
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			runScript(t, target, s)
		})
	}
	out := 0
	for _, need := range slices.Sorted(maps.Keys(left)) {
		t.Logf("left out because the server is declared to lack %s: %d", need, left[need])
		out += left[need]
	}
	if out == len(scripts) {
		t.Error("there is no transcript that the server is not declared to lack something for")
	}
}

func runScript(t *testing.T, target Target, s *script) {
	server := target.New(t)
	r := newRunner(t, s, server)
	defer r.closeAll()
	if err := r.prepare(t.Context(), &target); err != nil {
		r.fatal(t, err)
	}
	r.update = target.Update != ""
	if err := r.run(t.Context()); err != nil {
		r.fatal(t, err)
	}
	if r.changed {
		file := filepath.Join(target.Update, s.name+".txtar")
		if err := os.WriteFile(file, r.rewritten(), 0o666); err != nil {
			t.Fatal(err)
		}
		t.Logf("wrote %s anew", file)
	}
}

// A runner runs one script.
type runner struct {
	script  *script
	server  *Server
	vars    vars
	clients map[string]*client
	shown   []string // what happened, in the form of a transcript
	update  bool
	changed bool
	edits   map[int][]string // by line from 1: what replaces it
}

func newRunner(t testing.TB, s *script, server *Server) *runner {
	r := &runner{script: s, server: server, vars: vars{}, clients: map[string]*client{}, edits: map[int][]string{}}
	if len(server.Users) == 0 {
		t.Fatal("imaptest: Server.Users is empty")
	}
	for i, suffix := range []string{"", "2"} {
		if i < len(server.Users) {
			u := server.Users[i]
			r.vars["user"+suffix], r.vars["pass"+suffix] = u.Name, u.Password
			r.vars["plain"+suffix] = base64.StdEncoding.EncodeToString([]byte("\x00" + u.Name + "\x00" + u.Password))
		}
	}
	r.vars["proxy"] = base64.StdEncoding.EncodeToString([]byte(r.vars["user2"] + "\x00" + r.vars["user"] + "\x00" + r.vars["pass"]))
	return r
}

func (r *runner) log(format string, args ...any) {
	r.shown = append(r.shown, fmt.Sprintf(format, args...))
}

func (r *runner) fatal(t testing.TB, err error) {
	t.Helper()
	t.Fatalf("%v\n--- what happened:\n%s", err, strings.Join(r.shown, "\n"))
}

func (r *runner) closeAll() {
	for _, c := range r.clients {
		c.close()
	}
}

// run does the steps, then says LOGOUT on what is still open.
func (r *runner) run(ctx context.Context) error {
	steps := r.script.steps
	if err := r.open(ctx, steps); err != nil {
		return err
	}
	for i := 0; i < len(steps); {
		n, err := r.step(ctx, steps[i:])
		if err != nil {
			return fmt.Errorf("%s.txtar:%d: %s: %w", r.script.name, steps[i].line,
				strings.TrimSpace(r.script.lines[steps[i].line-1]), err)
		}
		i += n
	}
	names := make([]string, 0, len(r.clients))
	for name := range r.clients {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := r.logout(r.clients[name]); err != nil {
			return fmt.Errorf("%s.txtar: at the end: %w", r.script.name, err)
		}
	}
	return nil
}

// open makes the connections that steps mention before the next restart.
func (r *runner) open(ctx context.Context, steps []step) error {
	for _, st := range steps {
		if st.op == opRestart {
			return nil
		}
		if st.conn == "" || r.clients[st.conn] != nil {
			continue
		}
		c, err := r.ready(ctx, st.conn)
		if err != nil {
			return fmt.Errorf("connection %s: %w", st.conn, err)
		}
		r.clients[st.conn] = c
	}
	return nil
}

// logout ends a connection and sees that nothing was left unsaid.
func (r *runner) logout(c *client) error {
	if len(c.pending) > 0 {
		return fmt.Errorf("connection %s: a command has not been answered in the script", c.name)
	}
	r.log("# LOGOUT by the runner")
	list, err := c.simple("LOGOUT", nil)
	for _, untagged := range list {
		if untagged.tag == "*" && untagged.status != "BYE" {
			return fmt.Errorf("connection %s: the script does not expect %q", c.name, untagged.raw)
		}
	}
	if err != nil {
		return fmt.Errorf("connection %s: %w", c.name, err)
	}
	c.close() // the server may have been faster
	return nil
}

// step does the first of the steps and says how many it took.
func (r *runner) step(ctx context.Context, steps []step) (int, error) {
	st := steps[0]
	c := r.clients[st.conn]
	if st.conn != "" && c == nil {
		return 0, fmt.Errorf("connection %s is closed", st.conn)
	}
	switch st.op {
	case opSend, opHold:
		text, err := r.vars.expand(st.text)
		if err != nil {
			return 0, err
		}
		return 1, c.send(text, r.script.members, st.op == opHold)
	case opRaw:
		return 1, r.raw(c, st.text)
	case opRecv, opOptional, opSkip, opUnordered:
		return r.receive(steps)
	case opClose:
		delete(r.clients, st.conn)
		return 1, c.close()
	case opEOF:
		delete(r.clients, st.conn)
		return 1, r.eof(c)
	case opDeflate:
		return 1, c.startDeflate()
	case opStartTLS:
		return 1, c.startTLS(r.server.TLS)
	case opRelation:
		return 1, r.vars.relation(st.text)
	case opRestart:
		r.closeAll()
		clear(r.clients)
		if err := r.server.Restart(ctx); err != nil {
			return 0, err
		}
		return 1, r.open(ctx, steps[1:])
	}
	return 0, fmt.Errorf("unknown step %d", st.op)
}

func (r *runner) raw(c *client, text string) error {
	data, err := unescape(text)
	if err != nil {
		return err
	}
	for name, member := range r.script.members {
		data = strings.ReplaceAll(data, "<@"+name+">", string(member))
	}
	for strings.Contains(data, "$tag") {
		data = strings.Replace(data, "$tag", c.newTag(), 1)
	}
	if data, err = r.vars.expand(data); err != nil {
		return err
	}
	c.plain = false
	return c.raw(data)
}

func (r *runner) eof(c *client) error {
	resp, err := c.next()
	if err == nil {
		return fmt.Errorf("expected the server to close, got %q", resp.raw)
	}
	if c.deflate != nil && errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF // nobody ends the compressed stream
	}
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) {
		_ = c.close() // TLS would like to say goodbye, and there is nobody
		return nil
	}
	return err
}

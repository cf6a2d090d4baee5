package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"rookery": main})
}

// TestScripts runs the scripts under testdata/script against the real command.
// Beside testscript's own commands they have:
//
//	start ARGS...            rookery serve ARGS in the background, on free ports;
//	                         returns when it is ready and sets $IMAP, $IMAPS, $LMTP
//	halt                     SIGTERM; it must end with exit code 0
//	hup                      SIGHUP
//	imap USER PASS CMD...    log in over TLS and run IMAP commands; {@file} in a
//	                         command becomes a literal
//	lmtp FROM RCPT... FILE   deliver a message
//	code N CMD...            run a command that must end with exit code N
//	flip TEXT FILE...        change a byte of TEXT in the one file that has it
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"start": cmdStart, "halt": cmdStop, "hup": cmdHup, "imap": cmdIMAP, "lmtp": cmdLMTP, "code": cmdCode, "flip": cmdFlip,
		},
		Setup: func(env *testscript.Env) error {
			env.Values["server"] = &server{}
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("TMPDIR", os.TempDir()) // short, for sockets
			return nil
		},
	})
}

// patience is how long scripts wait for what must come: longer than a slow machine
// with much else to do takes.
const patience = 2 * time.Minute

// server is a running `rookery serve`.
type server struct {
	cmd  *exec.Cmd
	done chan error
	out  *lockedBuffer
	log  *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	s := ts.Value("server").(*server)
	if neg || s.cmd != nil {
		ts.Fatalf("start: a server is running, or !")
	}
	s.out, s.log = &lockedBuffer{}, &lockedBuffer{}
	args = append([]string{"serve", "--imap", "127.0.0.1:0", "--imaps", "127.0.0.1:0", "--lmtp", "127.0.0.1:0"}, args...)
	s.cmd = exec.Command("rookery", args...)
	path, err := lookIn(ts.Getenv("PATH"), "rookery")
	ts.Check(err)
	s.cmd.Path, s.cmd.Err = path, nil
	s.cmd.Dir = ts.MkAbs(".")
	s.cmd.Env = []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("HOME"), "TMPDIR=" + ts.Getenv("TMPDIR")}
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.log
	ts.Check(s.cmd.Start())
	s.done = make(chan error, 1)
	cmd := s.cmd
	go func() { s.done <- cmd.Wait() }()
	ts.Defer(func() {
		if s.cmd == cmd {
			_ = cmd.Process.Kill()
			<-s.done
			ts.Logf("[server's log]\n%s", s.log.String())
		}
	})
	note := "" // what is said last on standard output, which is another pipe than that of the log
	if slices.Contains(args, "--demo") {
		note = "Ctrl-C ends it."
	}
	deadline := time.Now().Add(patience)
	for !strings.Contains(s.log.String(), "msg=ready") || !strings.Contains(s.out.String(), note) {
		select {
		case err := <-s.done:
			s.done <- err
			ts.Fatalf("the server ended: %v\n%s", err, s.log.String())
		case <-time.After(10 * time.Millisecond):
			if time.Now().After(deadline) {
				ts.Fatalf("the server is not ready:\n%s", s.log.String())
			}
		}
	}
	for _, m := range regexp.MustCompile(`msg=listening for=(\S+) addr=(\S+)`).FindAllStringSubmatch(s.log.String(), -1) {
		ts.Setenv(strings.ToUpper(m[1]), m[2])
	}
	fmt.Fprint(ts.Stdout(), s.out.String())
	fmt.Fprint(ts.Stderr(), s.log.String())
}

func lookIn(path, name string) (string, error) {
	for dir := range strings.SplitSeq(path, string(os.PathListSeparator)) {
		if p := dir + "/" + name; isExecutable(p) {
			return p, nil
		}
	}
	return "", errors.New(name + " is not in PATH")
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&0o111 != 0
}

func cmdStop(ts *testscript.TestScript, neg bool, _ []string) {
	s := ts.Value("server").(*server)
	if neg || s.cmd == nil {
		ts.Fatalf("halt: no server is running, or !")
	}
	ts.Check(s.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-s.done:
		s.cmd = nil
		fmt.Fprint(ts.Stderr(), s.log.String())
		if err != nil {
			ts.Fatalf("the server ended with %v\n%s", err, s.log.String())
		}
	case <-time.After(patience):
		ts.Fatalf("the server does not end\n%s", s.log.String())
	}
}

func cmdHup(ts *testscript.TestScript, _ bool, _ []string) {
	s := ts.Value("server").(*server)
	before := strings.Count(s.log.String(), "the certificate")
	ts.Check(s.cmd.Process.Signal(syscall.SIGHUP))
	for deadline := time.Now().Add(patience); strings.Count(s.log.String(), "the certificate") == before; {
		if time.Now().After(deadline) {
			ts.Fatalf("SIGHUP does nothing:\n%s", s.log.String())
		}
		time.Sleep(5 * time.Millisecond)
	}
	fmt.Fprint(ts.Stderr(), s.log.String())
}

func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N CMD...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// imapConn is a little IMAP client.
type imapConn struct {
	net.Conn
	r   *bufio.Reader
	tag int
}

func dialIMAP(addr string) (*imapConn, error) {
	d := &tls.Dialer{NetDialer: &net.Dialer{Timeout: patience}, Config: &tls.Config{InsecureSkipVerify: true}}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	ic := &imapConn{Conn: c, r: bufio.NewReader(c)}
	_ = c.SetDeadline(time.Now().Add(patience))
	greeting, err := ic.r.ReadString('\n')
	if err == nil && !strings.HasPrefix(greeting, "* OK") {
		err = fmt.Errorf("greeting %q", greeting)
	}
	return ic, err
}

// do runs a command, the parts of which literals separate, and returns the
// responses and the tagged status.
func (c *imapConn) do(parts ...string) (untagged, status string, err error) {
	c.tag++
	tag := "a" + strconv.Itoa(c.tag)
	line := tag + " " + parts[0]
	for _, p := range parts[1:] {
		line += p
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, line+"\r\n"); err != nil {
		return "", "", err
	}
	var out strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return out.String(), "", err
		}
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			return out.String(), strings.TrimRight(rest, "\r\n"), nil
		}
		out.WriteString(line)
	}
}

// literal makes a non-synchronising literal.
func literal(b []byte) string { return fmt.Sprintf("{%d+}\r\n%s", len(b), b) }

func cmdIMAP(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: imap USER PASS CMD...")
	}
	c, err := dialIMAP(ts.Getenv("IMAPS"))
	ts.Check(err)
	defer c.Close()
	_, status, err := c.do("LOGIN ", literal([]byte(args[0])), " ", literal([]byte(args[1])))
	ts.Check(err)
	if ok := strings.HasPrefix(status, "OK"); ok == neg {
		ts.Fatalf("LOGIN of %s: %s", args[0], status)
	}
	fmt.Fprintln(ts.Stdout(), "LOGIN: "+status)
	if neg {
		return
	}
	file := regexp.MustCompile(`\{@(\S+)\}`)
	for _, cmd := range args[2:] {
		parts := []string{cmd}
		if m := file.FindStringSubmatchIndex(cmd); m != nil {
			text := ts.ReadFile(cmd[m[2]:m[3]])
			if strings.Count(text, "\n") == 1 {
				text = strings.TrimSuffix(text, "\n") // a word, not a message
			}
			text = strings.ReplaceAll(text, "\n", "\r\n")
			parts = []string{cmd[:m[0]], literal([]byte(text)), cmd[m[1]:]}
		}
		untagged, status, err := c.do(parts...)
		ts.Check(err)
		name, _, _ := strings.Cut(cmd, " ")
		fmt.Fprintf(ts.Stdout(), "%s%s: %s\n", strings.ReplaceAll(untagged, "\r\n", "\n"), name, status)
	}
}

func cmdLMTP(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: lmtp FROM RCPT... FILE")
	}
	c, err := net.DialTimeout("tcp", ts.Getenv("LMTP"), patience)
	ts.Check(err)
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(c)
	reply := func() bool {
		for {
			line, err := r.ReadString('\n')
			ts.Check(err)
			fmt.Fprint(ts.Stdout(), strings.ReplaceAll(line, "\r\n", "\n"))
			if len(line) > 3 && line[3] == ' ' {
				return line[0] == '2' || line[0] == '3'
			}
		}
	}
	say := func(line string) bool {
		_, err := io.WriteString(c, line+"\r\n")
		ts.Check(err)
		return reply()
	}
	reply()
	say("LHLO test.example")
	say("MAIL FROM:<" + args[0] + ">")
	accepted := 0
	for _, rcpt := range args[1 : len(args)-1] {
		if say("RCPT TO:<" + rcpt + ">") {
			accepted++
		}
	}
	if accepted == 0 {
		return
	}
	say("DATA")
	_, err = io.WriteString(c, strings.ReplaceAll(ts.ReadFile(args[len(args)-1]), "\n", "\r\n")+".\r\n")
	ts.Check(err)
	for range accepted {
		reply()
	}
}

//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The user of every server here.
const (
	user     = "ann"
	password = "se cret\"\\"
)

// patience is how long any program may take.
const patience = 2 * time.Minute

// binary is the path of rookery; see TestMain.
var binary string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	binary = os.Getenv("ROOKERY_BINARY")
	if binary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "rookery-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "rookery")
	build := exec.Command("go", "build", "-o", binary, "../cmd/rookery")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: building rookery: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// A server is a running rookery with a data folder of its own.
type server struct {
	t     *testing.T
	data  string
	ca    string // the file of its certificate
	ports map[string]string
	cmd   *exec.Cmd
	log   chan []byte // what it said, when it has ended
}

// start starts a server that has one user and an empty store, and ends it with
// the test, which fails if it ends badly or has logged an error.
func start(t *testing.T, args ...string) *server {
	t.Helper()
	dir := t.TempDir()
	s := &server{t: t, data: filepath.Join(dir, "data"), ports: map[string]string{}, log: make(chan []byte, 1)}
	s.ca = filepath.Join(s.data, "tls-cert.pem")
	passwd := filepath.Join(dir, "passwd")
	write(t, passwd, user+":{PLAIN}"+password+"\n")
	args = append([]string{"serve", "--data", s.data, "--log-json", "--passwd", passwd,
		"--imap", "127.0.0.1:0", "--imaps", "127.0.0.1:0", "--lmtp", "127.0.0.1:0"}, args...)
	s.cmd = exec.Command(binary, args...)
	s.cmd.Dir = dir
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	s.awaitReady(stderr)
	return s
}

// awaitReady reads the log until the server is ready, and then goes on reading
// it in the background.
func (s *server) awaitReady(stderr io.Reader) {
	s.t.Helper()
	ready := make(chan bool, 1)
	go func() {
		var all bytes.Buffer
		lines := bufio.NewScanner(io.TeeReader(stderr, &all))
		for lines.Scan() {
			var line struct{ Msg, For, Addr string }
			if json.Unmarshal(lines.Bytes(), &line) != nil {
				continue
			}
			switch line.Msg {
			case "listening":
				_, s.ports[line.For], _ = net.SplitHostPort(line.Addr)
			case "ready":
				ready <- true
			}
		}
		s.log <- all.Bytes()
		close(ready)
	}()
	select {
	case ok := <-ready:
		if !ok {
			s.t.Fatalf("the server did not start:\n%s", <-s.log)
		}
	case <-time.After(patience):
		s.t.Fatal("the server was not ready after 30 seconds")
	}
}

// stop ends the server as an operator does.
func (s *server) stop() {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Error(err)
	}
	kill := time.AfterFunc(patience, func() { s.cmd.Process.Kill() })
	log := <-s.log
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("the server ended with %v", err)
	}
	if !kill.Stop() {
		s.t.Error("the server had to be killed")
	}
	if bytes.Contains(log, []byte(`"level":"ERROR"`)) {
		s.t.Error("the server has logged an error")
	}
	if s.t.Failed() {
		s.t.Logf("the log of the server:\n%s", log)
	}
}

// url returns the address of the server's TLS port as an IMAP URL.
func (s *server) url(path string) string { return "imaps://localhost:" + s.ports["imaps"] + "/" + path }

// rookery runs the command line for this server's data folder.
func (s *server) rookery(args ...string) string {
	s.t.Helper()
	return run(s.t, "", binary, append(args, "--data", s.data)...)
}

// need ends the test where a program is not installed.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%s is not installed; e2e/install.sh installs it", program)
	}
}

// run runs a program with a home of its own, gives it some input and returns
// what it prints. It must end well.
func run(t *testing.T, stdin, program string, args ...string) string {
	t.Helper()
	out, err := try(t, stdin, program, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return out
}

// try is run for what may fail.
func try(t *testing.T, stdin, program string, args ...string) (string, error) {
	t.Helper()
	need(t, program)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "HOME="+home(t), "LC_ALL=C.UTF-8", "TERM=xterm", "XDG_CONFIG_HOME=", "XDG_DATA_HOME=")
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// home returns an empty folder that programs take for the user's own.
func home(t *testing.T) string { return t.TempDir() }

// write writes a file that only the user may read, and the folders above it.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// contains fails the test unless every one of want is in text.
func contains(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Fatalf("%q is missing in:\n%s", w, text)
		}
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

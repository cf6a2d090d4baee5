package bench_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/internal/bench"
)

// config is a short run of some workloads on one server.
func config(t *testing.T, addr string, patterns ...string) bench.Config {
	t.Helper()
	mail, err := bench.GenerateMail(20, 3000, 1)
	if err != nil {
		t.Fatal(err)
	}
	return bench.Config{Targets: []bench.Target{{Addr: addr, User: "u", Password: "secret"}}, Mail: mail, Messages: 20,
		Rounds: 2, Time: time.Millisecond, Patterns: patterns}
}

var oneUser = imapserver.Passwords{"u": "secret"}

// TestPatience: of a server that takes much longer than a round is meant to take
// there is one sample, of a quick one there are all.
func TestPatience(t *testing.T) {
	for _, tc := range []struct {
		time time.Duration
		want int
	}{{time.Nanosecond, 1}, {time.Hour, 2}} {
		cfg := config(t, serve(t, oneUser), "copy") // once in a round, whatever its time is
		cfg.Time = tc.time
		report, err := bench.Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(report.Results[0].Sides[0].Samples); n != tc.want {
			t.Errorf("rounds of %s: %d samples, there should be %d", tc.time, n, tc.want)
		}
	}
}

// TestFailed: that a workload has failed is an error in the end, and the others
// have had their turn.
func TestFailed(t *testing.T) {
	cfg := config(t, serve(t, oneUser), "disk", "status")
	cfg.Keep, cfg.Targets[0].Data = true, t.TempDir()
	if _, err := bench.Run(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	// Now the mailbox is there already, and nobody knows what it takes.
	report, err := bench.Run(t.Context(), cfg)
	if !errors.Is(err, bench.ErrFailed) || !strings.Contains(err.Error(), "disk") {
		t.Errorf("the error is %v", err)
	}
	if len(report.Results) != 2 || report.Results[0].Sides[0].Error == "" || report.Results[1].Sides[0].Median == 0 {
		t.Errorf("the results are\n%s", report.Table(false))
	}
}

// reporter calls step with what begins.
type reporter struct {
	step func(what string)
}

func (r reporter) Step(what string, _ float64) { r.step(what) }
func (reporter) Done(*bench.Result)            {}

// TestGone: when a server goes away, the run ends and says so.
func TestGone(t *testing.T) {
	back := serve(t, oneUser)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cut := context.WithCancel(t.Context())
	defer cut()
	go forward(ctx, ln, back)
	cfg := config(t, ln.Addr().String(), "append-1", "select", "status", "copy")
	cfg.Reporter = reporter{func(what string) {
		if strings.HasPrefix(what, "select") {
			ln.Close()
			cut()
		}
	}}
	report, err := bench.Run(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "is gone, with") {
		t.Errorf("the error is %v", err)
	}
	if n := len(report.Results); n != 2 || report.Results[0].Sides[0].Median == 0 {
		t.Errorf("there are %d results:\n%s", n, report.Table(false))
	}
}

// forward connects who comes with a server, until the context ends.
func forward(ctx context.Context, ln net.Listener, to string) {
	for {
		front, err := ln.Accept()
		if err != nil {
			return
		}
		back, err := net.Dial("tcp", to)
		if err != nil {
			front.Close()
			continue
		}
		context.AfterFunc(ctx, func() { front.Close(); back.Close() })
		go func() { _, _ = io.Copy(front, back); front.Close() }()
		go func() { _, _ = io.Copy(back, front); back.Close() }()
	}
}

// TestInterrupted: what has been made is removed then too.
func TestInterrupted(t *testing.T) {
	for _, at := range []string{"filling", "append-8, round 1", "copy, warming up"} {
		addr := serve(t, oneUser)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		cfg := config(t, addr, "append-8", "copy")
		cfg.Time = 300 * time.Millisecond // warming up is not to use up the time of the rounds
		cfg.Reporter = reporter{func(what string) {
			if strings.HasPrefix(what, at) {
				cancel()
			}
		}}
		if _, err := bench.Run(ctx, cfg); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: the error is %v", at, err)
		}
		if said := converse(t, addr, "a LOGIN u secret", `b LIST "" *`); strings.Contains(said, "rookery-bench") {
			t.Errorf("%s: mailboxes are left over:\n%s", at, said)
		}
	}
}

// TestStoreChanges: in store-8 each STORE changes a flag, in every round and also
// where an earlier run has left flags. For one that changes nothing a server has
// nothing to do.
func TestStoreChanges(t *testing.T) {
	addr, lines := tap(t, serve(t, oneUser))
	cfg := config(t, addr, "store-8")
	cfg.Keep, cfg.Connections, cfg.Time = true, 3, 10*time.Millisecond
	for range 2 {
		if _, err := bench.Run(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	flagged, stores := make(map[string]bool), 0
	for _, line := range lines() {
		words := strings.Fields(line) // tag, STORE, set, item, flag
		if len(words) < 4 || words[1] != "STORE" {
			continue
		}
		if words[2] == "1:*" {
			clear(flagged)
			continue
		}
		add := words[3][0] == '+'
		if flagged[words[2]] == add {
			t.Fatalf("STORE number %d changes nothing: %s", stores+1, line)
		}
		flagged[words[2]] = add
		stores++
	}
	if stores < 2*3*3 {
		t.Errorf("there were %d STOREs only", stores)
	}
}

// tap stands before a server and notes the lines that clients send.
func tap(t *testing.T, back string) (addr string, lines func() []string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var noted []string
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", back)
			if err != nil {
				client.Close()
				continue
			}
			go func() { _, _ = io.Copy(client, server); client.Close() }()
			go func() {
				defer server.Close()
				for r := bufio.NewReader(client); ; {
					line, err := r.ReadString('\n')
					mu.Lock()
					noted = append(noted, line)
					mu.Unlock()
					if _, wrong := io.WriteString(server, line); err != nil || wrong != nil {
						return
					}
				}
			}()
		}
	}()
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(noted)
	}
}

// TestIdleRefused: who wants more idle connections than a server takes of one user is
// told what to do about it, once.
func TestIdleRefused(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the memory of other processes is known on Linux only")
	}
	cfg := config(t, serve(t, oneUser), "idle-memory")
	cfg.Targets[0].PID, cfg.Settle, cfg.Idle = strconv.Itoa(os.Getpid()), -1, 130
	report, err := bench.Run(t.Context(), cfg)
	if !errors.Is(err, bench.ErrFailed) {
		t.Fatalf("the error is %v", err)
	}
	said := report.Results[0].Sides[0].Error
	if strings.Count(said, "idle connection") != 1 || !strings.Contains(said, "of 130: ") || !strings.Contains(said, "[LIMIT]") || !strings.Contains(said, "--users") {
		t.Errorf("the error is %s", said)
	}
}

// TestServerTimeInJSON: processor time that is not known is not 0.
func TestServerTimeInJSON(t *testing.T) {
	report, err := bench.Run(t.Context(), config(t, serve(t, oneUser), "status"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := json.Marshal(report); err != nil || strings.Contains(string(b), "server_cpu") || !strings.Contains(string(b), "client_cpu") {
		t.Errorf("%v in %s", err, b)
	}
}

// converse sends lines and a LOGOUT, and returns what the server says.
func converse(t *testing.T, addr string, lines ...string) string {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := io.WriteString(nc, strings.Join(lines, "\r\n")+"\r\nz LOGOUT\r\n"); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(nc)
	if err != nil {
		t.Fatal(err)
	}
	return string(said)
}

// TestPasswordStaysSecret: errors end up in logs and tables.
func TestPasswordStaysSecret(t *testing.T) {
	cfg := config(t, serve(t, imapserver.Passwords{"u": "another"}), "status")
	if _, err := bench.Run(t.Context(), cfg); err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "log in as u") {
		t.Errorf("the error is %v", err)
	}
}

// TestFolderSize: a file with two names takes its space once.
func TestFolderSize(t *testing.T) {
	dir := t.TempDir()
	before, err := bench.FolderSize(dir)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(file, filepath.Join(dir, "link")); err != nil {
		t.Skip("this file system has no links:", err)
	}
	after, err := bench.FolderSize(dir)
	if err != nil || after-before < 1<<20 || after-before > 1<<20+1<<16 {
		t.Errorf("a file of 1 MB with two names takes %d bytes, %v", after-before, err)
	}
	if _, err := bench.FolderSize(filepath.Join(dir, "nothing")); err == nil {
		t.Error("a folder that is not there has a size")
	}
}

// TestEmptyLine: a server that answers with an empty line is an error, not a panic.
func TestEmptyLine(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				_, _ = io.WriteString(nc, "* OK [CAPABILITY IMAP4rev1] ready\r\n")
				for lines := bufio.NewScanner(nc); lines.Scan(); {
					tag, command, _ := strings.Cut(lines.Text(), " ")
					answer := tag + " OK done\r\n"
					if strings.HasPrefix(command, "APPEND") {
						answer = "\r\n"
					}
					_, _ = io.WriteString(nc, answer)
				}
			}()
		}
	}()
	report, err := bench.Run(t.Context(), config(t, ln.Addr().String(), "append-1"))
	if err == nil && (len(report.Results) != 1 || report.Results[0].Sides[0].Error == "") {
		t.Errorf("no error: %+v", report)
	}
}

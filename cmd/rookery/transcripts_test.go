package main

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imaptest"
)

// TestTranscripts runs every transcript against the real program over TLS, each
// against a process and a data folder of its own.
func TestTranscripts(t *testing.T) {
	binary := buildBinary(t)
	imaptest.RunTranscripts(t, imaptest.Target{New: func(t testing.TB) *imaptest.Server {
		d := &daemonProcess{t: t, binary: binary, dir: t.TempDir()}
		if err := os.WriteFile(filepath.Join(d.dir, "users"), []byte("ann:{PLAIN}a\nbob:{PLAIN}b\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		d.start()
		t.Cleanup(d.stop)
		insecure := &tls.Config{InsecureSkipVerify: true}
		return &imaptest.Server{
			Dial: func(ctx context.Context) (net.Conn, error) {
				return (&tls.Dialer{Config: insecure}).DialContext(ctx, "tcp", d.addr("imaps"))
			},
			DialPlain: func(ctx context.Context) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", d.addr("imap"))
			},
			TLS:   insecure,
			Users: []imaptest.User{{Name: "ann", Password: "a"}, {Name: "bob", Password: "b"}},
			Restart: func(context.Context) error {
				d.stop()
				d.start()
				return nil
			},
		}
	}})
}

// buildBinary builds the program as it is delivered.
func buildBinary(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "rookery")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// daemonProcess is a running server that can be stopped and started again.
type daemonProcess struct {
	t           testing.TB
	binary, dir string

	cmd *exec.Cmd
	log *lockedBuffer

	mu    sync.Mutex
	addrs map[string]string
}

func (d *daemonProcess) start() {
	d.t.Helper()
	d.log = &lockedBuffer{}
	d.cmd = exec.Command(d.binary, "serve", "--data", filepath.Join(d.dir, "data"), "--passwd", filepath.Join(d.dir, "users"),
		"--imap", "127.0.0.1:0", "--imaps", "127.0.0.1:0", "--lmtp", "127.0.0.1:0")
	d.cmd.Stderr = d.log
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); !strings.Contains(d.log.String(), "msg=ready"); {
		if time.Now().After(deadline) {
			d.t.Fatalf("the server is not ready:\n%s", d.log.String())
		}
		time.Sleep(5 * time.Millisecond)
	}
	addrs := map[string]string{}
	for _, m := range regexp.MustCompile(`for=(\S+) addr=(\S+)`).FindAllStringSubmatch(d.log.String(), -1) {
		addrs[m[1]] = m[2]
	}
	d.mu.Lock()
	d.addrs = addrs
	d.mu.Unlock()
}

func (d *daemonProcess) addr(listener string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.addrs[listener]
}

// stop ends the process with SIGTERM and expects it to end well.
func (d *daemonProcess) stop() {
	d.t.Helper()
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	if err := d.cmd.Wait(); err != nil {
		d.t.Errorf("the server did not end well: %v\n%s", err, d.log.String())
	}
	d.cmd = nil
}

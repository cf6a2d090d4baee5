package daemon

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/internal/crashfs"
)

// TestReloadAtOnce: a SIGHUP that comes while a server starts, or in the moment in
// which it says that it is ready, does not end it: files are read again.
func TestReloadAtOnce(t *testing.T) {
	r, w := io.Pipe()
	defer r.Close()
	log := slog.New(slog.NewTextHandler(w, nil))
	lines := make(chan string, 100)
	go func() {
		p := make([]byte, 4096)
		for {
			n, err := r.Read(p) // a record is one Write
			if err != nil {
				return
			}
			lines <- string(p[:n])
		}
	}()
	d := &daemon{
		cfg: Config{DataDir: t.TempDir(), IMAP: "127.0.0.1:0", InsecureAuth: true, Log: log, fs: crashfs.New()},
		log: log, named: make(map[string]net.Listener),
	}
	if err := d.start(context.Background()); err != nil {
		t.Fatal(err, d.stop())
	}
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.wait(ctx) }()
	for deadline := time.After(patience); ; {
		select {
		case line := <-lines:
			if !strings.Contains(line, "the certificate has been read again") {
				continue
			}
		case <-deadline:
			t.Error("SIGHUP did nothing")
		}
		break
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := d.stop(); err != nil {
		t.Error(err)
	}
}

package imapserver_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"testing"

	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imaptest"
	"github.com/rookery-mail/rookery/memory"
)

// users are the accounts of every server that is tested here.
var users = imapserver.Passwords{"ann": "secret", "bob": "hidden"}

// serve makes a server for a back end, reached over pipes.
func serve(t testing.TB, backend imapserver.Backend, opts imapserver.Options) *imaptest.Server {
	t.Helper()
	if opts.Log == nil {
		opts.Log = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	plain := opts
	plain.TLS = testTLS(t)
	opts.InsecureAuth = true
	return &imaptest.Server{
		Dial:      dialer(t, backend, opts),
		DialPlain: dialer(t, backend, plain),
		TLS:       &tls.Config{InsecureSkipVerify: true},
		Users:     []imaptest.User{{Name: "ann", Password: "secret"}, {Name: "bob", Password: "hidden"}},
	}
}

// dialer starts a server and returns how to connect to it.
func dialer(t testing.TB, backend imapserver.Backend, opts imapserver.Options) func(context.Context) (net.Conn, error) {
	t.Helper()
	srv, err := imapserver.New(backend, users, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close() })
	return func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go srv.ServeConn(context.Background(), theirs)
		return ours, nil
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p)
	return len(p), nil
}

// memoryTarget is the default model with a state of its own in RAM.
func memoryTarget() imaptest.Target {
	return imaptest.Target{
		New: func(t testing.TB) *imaptest.Server {
			backend, err := imapmodel.New(memory.New(), imapmodel.Options{State: &imapmodel.MemoryState{}})
			if err != nil {
				t.Fatal(err)
			}
			return serve(t, backend, imapserver.Options{})
		},
		Lacks:  []string{"RESTART"},
		Update: os.Getenv("ROOKERY_UPDATE"),
	}
}

func TestTranscriptsMemory(t *testing.T) { imaptest.Run(t, memoryTarget()) }
func TestRandomMemory(t *testing.T)      { imaptest.Random(t, memoryTarget(), imaptest.RandomOptions{}) }
func TestConcurrentMemory(t *testing.T) {
	imaptest.Concurrent(t, memoryTarget(), imaptest.RandomOptions{})
}

package imapserver_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imapstore"
	"github.com/rookery-mail/rookery/imaptest"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
	"github.com/rookery-mail/rookery/memory"
)

// users are the accounts of every server that is tested here.
var users = imapserver.Passwords{"ann": "secret", "bob": "hidden"}

// serve makes a server for a back end, reached over pipes. It ends with t.
func serve(t testing.TB, backend imapserver.Backend, opts imapserver.Options) *imaptest.Server {
	t.Helper()
	server, stop := serveUntil(t, backend, opts)
	t.Cleanup(stop)
	return server
}

// serveUntil is serve with an end of its own.
func serveUntil(t testing.TB, backend imapserver.Backend, opts imapserver.Options) (*imaptest.Server, func()) {
	t.Helper()
	if opts.Log == nil {
		opts.Log = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	plain := opts
	plain.TLS = testTLS(t)
	opts.InsecureAuth = true
	dial, stop := start(t, backend, opts)
	dialPlain, stopPlain := start(t, backend, plain)
	return &imaptest.Server{
		Dial: dial, DialPlain: dialPlain,
		TLS:   &tls.Config{InsecureSkipVerify: true},
		Users: []imaptest.User{{Name: "ann", Password: "secret"}, {Name: "bob", Password: "hidden"}},
	}, func() { stop(); stopPlain() }
}

// start starts a server and returns how to connect to it.
func start(t testing.TB, backend imapserver.Backend, opts imapserver.Options) (dial func(context.Context) (net.Conn, error), stop func()) {
	t.Helper()
	srv, err := imapserver.New(backend, users, opts)
	if err != nil {
		t.Fatal(err)
	}
	return func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go srv.ServeConn(context.Background(), theirs)
		return ours, nil
	}, func() { srv.Close() }
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

// storeTarget is the embedded store, on a file system in RAM.
func storeTarget() imaptest.Target {
	return imaptest.Target{
		New: func(t testing.TB) *imaptest.Server {
			s := &storeServer{t: t, fs: vfs.NewMem()}
			s.open()
			t.Cleanup(func() { s.close() }) // of the last start
			return &imaptest.Server{
				Dial:      func(ctx context.Context) (net.Conn, error) { return s.pick().Dial(ctx) },
				DialPlain: func(ctx context.Context) (net.Conn, error) { return s.pick().DialPlain(ctx) },
				TLS:       &tls.Config{InsecureSkipVerify: true},
				Users:     s.server.Users,
				Restart: func(context.Context) error {
					s.mu.Lock()
					defer s.mu.Unlock()
					s.close()
					s.open()
					return nil
				},
			}
		},
		Update: os.Getenv("ROOKERY_UPDATE"),
	}
}

// storeServer is a server over the embedded store that can be restarted.
type storeServer struct {
	t  testing.TB
	fs vfs.FS

	mu     sync.Mutex
	server *imaptest.Server
	close  func()
}

func (s *storeServer) pick() *imaptest.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server
}

func (s *storeServer) open() {
	s.t.Helper()
	log := slog.New(slog.NewTextHandler(testWriter{s.t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	kv, err := pebblekv.Open("kv", pebblekv.Options{FS: s.fs, Logger: log})
	if err != nil {
		s.t.Fatal(err)
	}
	blobs, err := bloblog.Open("blobs", bloblog.Options{FS: s.fs, Logger: log})
	if err != nil {
		s.t.Fatal(err)
	}
	store, err := mailstore.Open(context.Background(), kv, blobs, mailstore.Options{Logger: log, ColumnRows: 3, DeriveDelay: 1})
	if err != nil {
		s.t.Fatal(err)
	}
	var stop func()
	s.server, stop = serveUntil(s.t, imapstore.New(store), imapserver.Options{Log: log})
	s.close = func() {
		stop()
		if err := errors.Join(store.Close(context.Background()), blobs.Close(), kv.Close()); err != nil {
			s.t.Error(err)
		}
		s.close = func() {}
	}
}

func TestTranscriptsMemory(t *testing.T) { imaptest.RunTranscripts(t, memoryTarget()) }
func TestRandomMemory(t *testing.T)      { imaptest.Random(t, memoryTarget(), imaptest.RandomOptions{}) }
func TestConcurrentMemory(t *testing.T) {
	imaptest.Concurrent(t, memoryTarget(), imaptest.RandomOptions{})
}

func TestTranscriptsStore(t *testing.T) { imaptest.RunTranscripts(t, storeTarget()) }
func TestRandomStore(t *testing.T) {
	imaptest.Random(t, storeTarget(), imaptest.RandomOptions{Restarts: true})
}
func TestConcurrentStore(t *testing.T) {
	imaptest.Concurrent(t, storeTarget(), imaptest.RandomOptions{})
}

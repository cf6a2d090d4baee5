package main

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imaptest"
)

func TestTranscripts(t *testing.T) {
	when := time.Date(2024, 5, 17, 12, 0, 0, 0, time.UTC)
	imaptest.Run(t, imaptest.Target{
		Transcripts: os.DirFS("testdata"),
		New: func(t testing.TB) *imaptest.Server {
			files := fstest.MapFS{
				"one.eml":            {Data: []byte("Subject: one\n\nFrom a file\n"), ModTime: when},
				"notes.txt":          {Data: []byte("no message")},
				"work/2024/two.eml":  {Data: []byte("Subject: two\r\n\r\nAlready\r\n"), ModTime: when},
				"work/2024/more.eml": {Data: []byte("Subject: more\n\n\n"), ModTime: when},
			}
			s := &running{files: files}
			s.start(t)
			t.Cleanup(func() { s.server.Close() })
			return &imaptest.Server{
				Dial:  s.dial,
				Users: []imaptest.User{{Name: "ann", Password: "secret"}},
				Restart: func(context.Context) error {
					s.server.Close()
					s.start(t)
					return nil
				},
			}
		},
	})
}

// running is a server that can be restarted on the same files and state.
type running struct {
	files  fstest.MapFS
	state  imapmodel.MemoryState
	server *imapserver.Server
}

func (r *running) start(t testing.TB) {
	server, err := newServer(r.files, &r.state)
	if err != nil {
		t.Fatal(err)
	}
	r.server = server
}

func (r *running) dial(ctx context.Context) (net.Conn, error) {
	return imaptest.Pipe(r.server.ServeConn)(ctx)
}

// What has been removed since it was listed is missing, not broken.
func TestRemovedDirectory(t *testing.T) {
	files := fstest.MapFS{"work/one.eml": {Data: []byte("Subject: one\n\n")}}
	backend, err := imapmodel.New(archive{files}, imapmodel.Options{PollInterval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	account, err := backend.Open(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	delete(files, "work/one.eml")
	if _, err := account.Status(t.Context(), "work"); !errors.Is(err, imap.NotFound) {
		t.Errorf("got %v, want NotFound", err)
	}
}

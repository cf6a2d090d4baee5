package main

import (
	"os"
	"testing"

	"github.com/rookery-mail/rookery/imaptest"
)

func TestTranscripts(t *testing.T) {
	imaptest.Run(t, imaptest.Target{
		Transcripts: os.DirFS("testdata"),
		New: func(t testing.TB) *imaptest.Server {
			server, err := newServer()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { server.Close() })
			return &imaptest.Server{
				Dial:  imaptest.Pipe(server.ServeConn),
				Users: []imaptest.User{{Name: "ann", Password: "secret"}},
			}
		},
	})
}

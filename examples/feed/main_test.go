package main

import (
	"os"
	"testing"

	"github.com/rookery-mail/rookery/imaptest"
)

func newTarget(posts feed) imaptest.Target {
	return imaptest.Target{
		Lacks: []string{
			"ACCOUNTS", "PLAIN-PORT", "RESTART", "APPEND", "EXPUNGE", "CREATE", "HASCHILDREN", "SUBSCRIBE",
			"APPENDLIMIT", "BINARY", "CREATE-SPECIAL-USE", "MOVE", "MULTIAPPEND", "OBJECTID", "SAVEDATE",
			"SPECIAL-USE", "UTF8=ACCEPT",
		},
		New: func(t testing.TB) *imaptest.Server {
			server, err := newServer(posts)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { server.Close() })
			return &imaptest.Server{
				Dial:  imaptest.Pipe(server.ServeConn),
				Users: []imaptest.User{{Name: "ann", Password: "secret"}},
			}
		},
	}
}

// What an empty feed can do, it does as any other server.
func TestConformance(t *testing.T) { imaptest.Run(t, newTarget(nil)) }

func TestTranscripts(t *testing.T) {
	target := newTarget(feed{{"/one", "One", "First\n"}, {"/two", "Zwölf", "Second\n"}})
	target.Transcripts = os.DirFS("testdata")
	imaptest.Run(t, target)
}

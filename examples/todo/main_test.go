package main

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imaptest"
)

func TestTranscripts(t *testing.T) {
	imaptest.Run(t, imaptest.Target{
		Transcripts: os.DirFS("testdata"),
		New: func(t testing.TB) *imaptest.Server {
			server, l := serve(t, filepath.Join(t.TempDir(), "todo.json"))
			for _, title := range []string{"Feed the rooks", "Call José"} {
				if _, err := l.add(title); err != nil {
					t.Fatal(err)
				}
			}
			return &imaptest.Server{
				Dial:  imaptest.Pipe(server.ServeConn),
				Users: []imaptest.User{{Name: "ann", Password: "secret"}},
			}
		},
	})
}

func serve(t testing.TB, file string) (*imapserver.Server, *list) {
	t.Helper()
	l, err := openList(file)
	if err != nil {
		t.Fatal(err)
	}
	server, err := newServer(l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return server, l
}

// What the list has, it still has when it is opened again.
func TestFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "todo.json")
	_, l := serve(t, file)
	id, err := l.add("one")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetFlags(t.Context(), "ann", "INBOX", []string{id}, []imap.Flag{imap.FlagSeen}, nil); err != nil {
		t.Fatal(err)
	}
	again, err := openList(file)
	if err != nil || len(again.items) != 1 || !again.items[0].Done || again.items[0].Title != "one" {
		t.Errorf("opened again: %+v, %v", again, err)
	}
}

// A client that idles is told of an item at once.
func TestNewsWhileIdle(t *testing.T) {
	server, l := serve(t, filepath.Join(t.TempDir(), "todo.json"))
	conn, err := imaptest.Pipe(server.ServeConn)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	lines := bufio.NewReader(conn)
	until := func(prefix string) {
		t.Helper()
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatalf("waiting for %q: %v", prefix, err)
			}
			if strings.HasPrefix(line, prefix) {
				return
			}
		}
	}
	until("* OK")
	for _, step := range [][2]string{{"a LOGIN ann secret", "a OK"}, {"b SELECT INBOX", "b OK"}, {"c IDLE", "+ "}} {
		if _, err := io.WriteString(conn, step[0]+"\r\n"); err != nil {
			t.Fatal(err)
		}
		until(step[1])
	}
	if _, err := l.add("Something new"); err != nil {
		t.Fatal(err)
	}
	until("* 1 EXISTS")
}

// An empty list is held against what any server does, but for what a list
// cannot do: it keeps titles and no texts, knows two flags, and is one mailbox.
func TestConformance(t *testing.T) {
	imaptest.Run(t, imaptest.Target{
		Lacks: []string{
			"ACCOUNTS", "PLAIN-PORT", "RESTART", "EXACT", "FLAGS", "KEYWORDS", "CREATE", "HASCHILDREN", "SUBSCRIBE",
			"BINARY", "CREATE-SPECIAL-USE", "MULTIAPPEND", "OBJECTID", "SAVEDATE", "SPECIAL-USE", "UTF8=ACCEPT",
		},
		New: func(t testing.TB) *imaptest.Server {
			server, _ := serve(t, filepath.Join(t.TempDir(), "todo.json"))
			return &imaptest.Server{
				Dial:  imaptest.Pipe(server.ServeConn),
				Users: []imaptest.User{{Name: "ann", Password: "secret"}},
			}
		},
	})
}

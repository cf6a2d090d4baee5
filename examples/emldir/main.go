// Emldir shows a directory of .eml files: each directory is a mailbox, the top
// one INBOX. The files are never changed; flags are kept in a directory beside.
//
//	go run ./examples/emldir ~/mail-archive ~/mail-archive.state
package main

import (
	"context"
	"io"
	"io/fs"
	"log"
	"os"
	"path"
	"time"

	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
)

// archive is the model: a file system with messages in it. What has been removed
// since it was listed needs no care: fs.ErrNotExist means imap.NotFound.
type archive struct{ files fs.FS }

func (a archive) Features() imapmodel.Features { return 0 }

func (a archive) Mailboxes(ctx context.Context, user string) ([]imapmodel.Mailbox, error) {
	var list []imapmodel.Mailbox
	err := fs.WalkDir(a.files, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && name != "." {
			list = append(list, imapmodel.Mailbox{Name: name})
		}
		return err
	})
	return append(list, imapmodel.Mailbox{Name: "INBOX"}), err
}

// dir is the directory of a mailbox.
func dir(mailbox string) string {
	if mailbox == "INBOX" {
		return "."
	}
	return mailbox
}

func (a archive) Messages(ctx context.Context, user, mailbox string) ([]imapmodel.Message, error) {
	entries, err := fs.ReadDir(a.files, dir(mailbox))
	if err != nil {
		return nil, err
	}
	var list []imapmodel.Message
	for _, entry := range entries {
		if entry.IsDir() || path.Ext(entry.Name()) != ".eml" {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			continue // removed just now
		}
		changed := info.ModTime()
		list = append(list, imapmodel.Message{
			Key: entry.Name(), Version: changed.Format(time.RFC3339Nano), Date: changed,
		})
	}
	return list, nil
}

func (a archive) Open(ctx context.Context, user, mailbox, key string) (io.ReadCloser, error) {
	file, err := a.files.Open(path.Join(dir(mailbox), key))
	if err != nil {
		return nil, err
	}
	return imapmodel.CRLF(file), nil
}

func newServer(files fs.FS, state imapmodel.State) (*imapserver.Server, error) {
	backend, err := imapmodel.New(archive{files}, imapmodel.Options{
		State: state, KeepFlags: true, PollInterval: time.Second,
	})
	if err != nil {
		return nil, err
	}
	users := imapserver.Passwords{"ann": "secret"}
	return imapserver.New(backend, users, imapserver.Options{InsecureAuth: true})
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: emldir DIRECTORY STATE-DIRECTORY")
	}
	state, err := imapmodel.NewDirState(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	server, err := newServer(os.DirFS(os.Args[1]), state)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(server.ListenAndServe(context.Background(), "127.0.0.1:1430"))
}

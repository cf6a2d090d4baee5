// Feed shows data of one's own as mail: go run ./examples/feed
package main

import (
	"context"
	"io"
	"log"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
)

// feed is the model: posts, oldest first.
type feed []post

type post struct{ Link, Title, Text string }

func (feed) Features() imapmodel.Features { return 0 } // clients only read

func (feed) Mailboxes(ctx context.Context, user string) ([]imapmodel.Mailbox, error) {
	return []imapmodel.Mailbox{{Name: "INBOX"}}, nil
}

func (f feed) Messages(ctx context.Context, user, mailbox string) (list []imapmodel.Message, err error) {
	for _, p := range f {
		list = append(list, imapmodel.Message{Key: p.Link, Version: p.Title + p.Text})
	}
	return list, nil
}

func (f feed) Open(ctx context.Context, user, mailbox, key string) (io.ReadCloser, error) {
	i := slices.IndexFunc(f, func(p post) bool { return p.Link == key })
	if i < 0 {
		return nil, imap.E("open "+key, imap.NotFound, nil)
	}
	return imapmodel.OpenBytes(imapmodel.Compose(&imapmodel.Draft{Subject: f[i].Title, Text: f[i].Text})), nil
}

func newServer(f feed) (*imapserver.Server, error) {
	backend, err := imapmodel.New(f, imapmodel.Options{KeepFlags: true})
	if err != nil {
		return nil, err
	}
	return imapserver.New(backend, imapserver.Passwords{"ann": "secret"}, imapserver.Options{InsecureAuth: true})
}

func main() {
	server, err := newServer(feed{{"/rooks", "Rooks are back", "They nest in the same trees as last year.\n"}})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(server.ListenAndServe(context.Background(), "127.0.0.1:1430"))
}

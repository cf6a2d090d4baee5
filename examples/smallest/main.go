// Smallest is the smallest server: mailboxes in RAM, one user, no TLS. Try it:
//
//	go run ./examples/smallest
//	curl --user ann:secret 'imap://127.0.0.1:1430/INBOX;MAILINDEX=1'
package main

import (
	"context"
	"log"

	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/memory"
)

func newServer() (*imapserver.Server, error) {
	model := memory.New()
	model.Add("ann", "INBOX", "From: world@example.org\r\nSubject: Hello\r\n\r\nIt works.\r\n")
	backend, err := imapmodel.New(model, imapmodel.Options{})
	if err != nil {
		return nil, err
	}
	users := imapserver.Passwords{"ann": "secret"}
	return imapserver.New(backend, users, imapserver.Options{InsecureAuth: true})
}

func main() {
	server, err := newServer()
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(server.ListenAndServe(context.Background(), "127.0.0.1:1430"))
}

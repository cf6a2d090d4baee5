// Todo shows a to-do list as a mailbox: each item is a message, marking it as
// seen does it, deleting it takes it off the list, and a message that is put
// into the mailbox becomes an item. What is typed here becomes an item, too, and
// mail programs show it at once.
//
//	go run ./examples/todo todo.json
package main

import (
	"bufio"
	"context"
	"log"
	"os"

	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
)

func newServer(l *list) (*imapserver.Server, error) {
	backend, err := imapmodel.New(l, imapmodel.Options{})
	if err != nil {
		return nil, err
	}
	users := imapserver.Passwords{"ann": "secret"}
	return imapserver.New(backend, users, imapserver.Options{InsecureAuth: true})
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: todo FILE")
	}
	l, err := openList(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	server, err := newServer(l)
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			if _, err := l.add(lines.Text()); err != nil {
				log.Print(err)
			}
		}
	}()
	log.Fatal(server.ListenAndServe(context.Background(), "127.0.0.1:1430"))
}

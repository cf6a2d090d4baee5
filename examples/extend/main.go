// Extend shows how a server is taught more: a command, a FETCH item and a SASL
// mechanism of one's own, and hooks. An extension is a value; the capability
// line, the checks of state and the answers to bad syntax follow from it.
//
//	go run ./examples/extend
package main

import (
	"bytes"
	"context"
	"io"
	"log"
	"time"

	"github.com/emersion/go-sasl"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imapwire"
	"github.com/rookery-mail/rookery/memory"
)

// shout is the command XSHOUT: "a XSHOUT hello" sends an alert to all
// connections of the same user.
func shout() *imapserver.Extension {
	return &imapserver.Extension{
		Name: "XSHOUT", RFC: "-",
		Capabilities: []imapserver.Capability{{Name: "XSHOUT"}},
		Commands: []*imapserver.Command{{
			Name: "XSHOUT", Args: "SP astring", States: imapserver.LoggedIn,
			Parse: func(c *imapserver.Call, d *imapwire.Decoder) imapserver.Run {
				d.SP()
				text := d.Astring()
				return func(context.Context) error {
					if text == "" {
						return imap.No("", "There is nothing to shout")
					}
					for _, other := range c.Conn.Server().Connections() {
						if other.User() == c.Conn.User() {
							other.Alert(text)
						}
					}
					c.OK("", "Everybody knows")
					return nil
				}
			},
		}},
	}
}

// words is the FETCH item XWORDS: how many words a message has.
func words() *imapserver.Extension {
	write := func(w *imapwire.Encoder, m *imapserver.FetchMessage) error {
		text, err := io.ReadAll(io.NewSectionReader(m.Body, 0, int64(m.Row.Size)))
		if err != nil {
			return err
		}
		w.Raw("XWORDS ")
		w.Number(uint32(len(bytes.Fields(text))))
		return nil
	}
	return &imapserver.Extension{
		Name: "XWORDS", RFC: "-",
		FetchItems: []*imapserver.FetchItem{{
			Name: "XWORDS", Att: &imapserver.FetchAtt{Need: imapserver.NeedBody, Write: write},
		}},
	}
}

// tickets is the SASL mechanism XTICKET: the client shows a ticket.
func tickets(valid map[string]string) *imapserver.Extension {
	return &imapserver.Extension{
		Name: "AUTH=XTICKET", RFC: "-",
		Mechanisms: []*imapserver.Mechanism{{
			Name: "XTICKET", Plaintext: true,
			Start: func(_ context.Context, _ *imapserver.Conn, done func(user string)) sasl.Server {
				return &ticketExchange{valid, done}
			},
		}},
	}
}

type ticketExchange struct {
	valid map[string]string // user by ticket
	done  func(user string)
}

func (x *ticketExchange) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil {
		return []byte("ticket please"), false, nil
	}
	user, ok := x.valid[string(response)]
	if !ok {
		return nil, false, imap.E("check a ticket", imap.AuthFailed, nil)
	}
	x.done(user)
	return nil, true, nil
}

func newServer() (*imapserver.Server, error) {
	backend, err := imapmodel.New(memory.New(), imapmodel.Options{})
	if err != nil {
		return nil, err
	}
	return imapserver.New(backend, imapserver.Passwords{"ann": "secret"}, imapserver.Options{
		InsecureAuth: true,
		Extensions:   []*imapserver.Extension{shout(), words(), tickets(map[string]string{"e4Kx9": "ann"})},
		Hooks: imapserver.Hooks{
			CommandBegun: func(_ context.Context, c *imapserver.Conn, name string) error {
				c.SetValue(begun{}, time.Now())
				return nil
			},
			CommandEnded: func(_ context.Context, c *imapserver.Conn, name string, err error) {
				start, _ := c.Value(begun{}).(time.Time)
				log.Printf("%s of %q took %v", name, c.User(), time.Since(start))
			},
		},
	})
}

// begun is the key of the time at which a connection's command began.
type begun struct{}

func main() {
	server, err := newServer()
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(server.ListenAndServe(context.Background(), "127.0.0.1:1430"))
}

package imapserver

import (
	"context"
	"strings"

	"github.com/rookery-mail/rookery/imapwire"
)

// enable is RFC 5161. The words that can be enabled are in the extensions that
// they belong to.
func enable() *Extension {
	return &Extension{
		Name: "ENABLE", RFC: "5161",
		Capabilities: []Capability{{Name: "ENABLE"}},
		Commands: []*Command{{
			Name: "ENABLE", Args: "1*(SP capability)", States: LoggedIn, Parse: parseEnable,
		}},
	}
}

func parseEnable(c *Call, d *imapwire.Decoder) Run {
	var words []string
	for first := true; first || d.Err() == nil && !d.AtEOL(); first = false {
		d.SP()
		words = append(words, strings.ToUpper(d.Atom()))
	}
	return func(context.Context) error {
		w := c.Writer()
		w.Raw("* ENABLED")
		// Words that are not known are left out (RFC 5161 section 3.1).
		done := map[string]bool{}
		var runs []func(*Conn)
		for _, word := range words {
			e := c.Conn.srv.reg.enables[word]
			if e == nil || done[word] {
				continue
			}
			done[word] = true
			runs = append(runs, e.Run)
			w.Raw(" " + e.Name)
		}
		w.CRLF()
		for _, run := range runs {
			run(c.Conn)
		}
		return nil
	}
}

// useUTF8 makes the codec take and send UTF-8 in strings and mailbox names.
func (c *Conn) useUTF8() {
	c.dec.SetMode(imapwire.ModeUTF8)
	c.enc.SetMode(imapwire.ModeUTF8)
}

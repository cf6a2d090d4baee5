package imapserver

import (
	"context"
	"strings"

	"github.com/rookery-mail/rookery/imapwire"
)

// id is RFC 2971: client and server tell each other what they are.
func id() *Extension {
	return &Extension{
		Name: "ID", RFC: "2971",
		Capabilities: []Capability{{Name: "ID"}},
		Commands: []*Command{{
			Name: "ID", Args: `SP ("(" *(string SP nstring) ")" / "NIL")`, States: AnyState, Parse: parseID,
		}},
	}
}

// maxIDFields is RFC 2971 section 3.3's.
const maxIDFields = 30

func parseID(c *Call, d *imapwire.Decoder) Run {
	fields := map[string]string{}
	d.SP()
	if d.Peek() == '(' {
		n := 0
		d.List(func() {
			name := d.Str()
			d.SP()
			value, _ := d.NString()
			if n++; n <= maxIDFields {
				fields[strings.ToLower(name)] = value
			}
		})
		if n > maxIDFields {
			d.Fail("at most 30 pairs of field and value", "more")
		}
	} else if _, ok := d.NString(); ok {
		d.Fail("a list in parentheses or NIL", "")
	}
	return func(context.Context) error {
		c.Conn.info.set(func(i *ConnInfo) { i.ClientID = fields })
		c.Conn.log().Debug("client says what it is", "id", fields)
		w := c.Writer()
		w.Raw("* ID (\"name\" ")
		w.String(c.Conn.srv.opts.Name)
		w.Raw(" \"version\" ")
		w.String(c.Conn.srv.opts.Version)
		w.Raw(")\r\n")
		return nil
	}
}

// dropClientID forgets what a client said before TLS: anyone may have said it.
func (c *Conn) dropClientID() { c.info.set(func(i *ConnInfo) { i.ClientID = nil }) }

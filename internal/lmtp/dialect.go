package lmtp

import (
	"bytes"
	"regexp"
	"strings"
	"time"
)

// What the library does not let one choose is put right on the way: it takes no
// recipient without a domain, and some of its replies are jokes, which end up in
// the MTA's log.

// noDomain stands for the domain of a recipient that has none. (No address can
// end in it: RFC 2606 section 2 keeps "invalid" for such things.)
const noDomain = "no-domain.rookery.invalid"

// noDomainRcpt fits RCPT TO:<local-part>. RFC 5321 section 4.1.1.3 has it for
// <Postmaster>, and MTAs that deliver to users of the machine have it for all.
var noDomainRcpt = regexp.MustCompile(`(?i)^RCPT +TO: *<(?:[^\s"@<>()\[\]:;\\,]+|"(?:[^"\\\r\n]|\\[^\r\n])*")>`)

// addDomain gives a recipient without a domain one for the library.
func addDomain(line []byte) []byte {
	if len(line) < 4 || !bytes.EqualFold(line[:4], []byte("RCPT")) {
		return line
	}
	at := noDomainRcpt.FindIndex(line)
	if at == nil {
		return line
	}
	end := at[1] - 1
	return []byte(string(line[:end]) + "@" + noDomain + string(line[end:]))
}

// takeDomain takes it away again.
func takeDomain(address string) string { return strings.TrimSuffix(address, "@"+noDomain) }

// replies puts plain words in place of the library's. A reply is known by how
// it begins; the library writes each line at once, unless it is very long.
type replies struct {
	within bool // a line
	skip   bool // the rest of it
}

// plainReplies has what is written instead of lines that begin like this.
var plainReplies = [...][2]string{
	{"250 2.0.0 Roger, accepting mail from", "250 2.1.0 Sender OK"},
	{"250 2.0.0 I'll make sure", "250 2.1.5 Recipient OK"},
	{"250 2.0.0 I have successfully done nothing", "250 2.0.0 OK"},
	{"252 2.5.0 Cannot VRFY user, but will accept message", "252 2.5.0 Users are not verified; RCPT tells"},
	{"354 Go ahead. End your data", "354 Send the message, and end it with <CR><LF>.<CR><LF>"},
	{"421 4.4.0 Connection error, sorry", "421 4.4.0 Connection error"},
	{"500 5.5.1 Too many errors. Quiting now", "500 5.5.1 Too many errors, closing the connection"},
	{"501 5.5.2 Was expecting RCPT arg syntax", "501 5.5.2 Syntax: RCPT TO:<address>"},
	{"501 5.5.2 Was expecting MAIL arg syntax", "501 5.5.2 Syntax: MAIL FROM:<address>"},
	{"502 5.5.1 Please introduce yourself first", "502 5.5.1 Give LHLO first"},
}

// turn appends to out what is to be written for p.
func (r *replies) turn(out, p []byte) []byte {
	for len(p) > 0 {
		line := p
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			line = p[:i+1]
		}
		p = p[len(line):]
		if !r.within {
			for _, reply := range plainReplies {
				if bytes.HasPrefix(line, []byte(reply[0])) {
					out, r.skip = append(out, reply[1]+"\r\n"...), true
					break
				}
			}
		}
		if !r.skip {
			out = append(out, bytes.ReplaceAll(line, []byte("@"+noDomain+">"), []byte(">"))...)
		}
		if r.within = line[len(line)-1] != '\n'; !r.within {
			r.skip = false
		}
	}
	return out
}

// Write takes a part of a reply. It is sent before the next wait for the client,
// so that commands which come together are answered together (RFC 2920).
func (c *conn) Write(p []byte) (int, error) {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	c.out = c.written.turn(c.out, p)
	if len(c.out) > maxReplies {
		return len(p), c.send()
	}
	return len(p), nil
}

// maxReplies bounds the bytes of replies that wait.
const maxReplies = 4 << 10

// flush sends what waits.
func (c *conn) flush() error {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	return c.send()
}

// send needs outMu.
func (c *conn) send() error {
	if len(c.out) == 0 {
		return nil
	}
	c.Conn.SetWriteDeadline(time.Now().Add(c.idle))
	_, err := c.Conn.Write(c.out)
	c.out = c.out[:0]
	return err
}

//go:build e2e

package e2e

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A session is a bare IMAP connection that is logged in: it prepares a server
// and looks at what a mail program has left there.
type session struct {
	t    *testing.T
	conn *tls.Conn
	r    *bufio.Reader
	tag  int
}

// login opens a session.
func (s *server) login() *session {
	s.t.Helper()
	pem, err := os.ReadFile(s.ca)
	if err != nil {
		s.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	conn, err := tls.Dial("tcp", "localhost:"+s.ports["imaps"], &tls.Config{RootCAs: roots})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	c := &session{t: s.t, conn: conn, r: bufio.NewReader(conn)}
	c.line()
	c.do("LOGIN %s %s", user, strconv.Quote(password))
	return c
}

// do runs a command that must end in OK and returns the untagged responses,
// with literals in their places.
func (c *session) do(format string, args ...any) []string {
	c.t.Helper()
	c.tag++
	tag := fmt.Sprintf("t%d", c.tag)
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c.conn, "%s %s\r\n", tag, fmt.Sprintf(format, args...))
	var all []string
	for {
		line := c.line()
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			if !strings.HasPrefix(rest, "OK") {
				c.t.Fatalf("%.100s: %s", fmt.Sprintf(format, args...), rest)
			}
			return all
		}
		all = append(all, line)
	}
}

// line reads a response, or what is one line of it but for its literals.
func (c *session) line() string {
	c.t.Helper()
	var whole strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatal(err)
		}
		line = strings.TrimSuffix(line, "\r\n")
		whole.WriteString(line)
		open := strings.LastIndexByte(line, '{')
		if open < 0 || !strings.HasSuffix(line, "}") {
			return whole.String()
		}
		n, err := strconv.Atoi(line[open+1 : len(line)-1])
		if err != nil {
			return whole.String()
		}
		if _, err := io.CopyN(&whole, c.r, int64(n)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// append puts a message into a mailbox.
func (c *session) append(mailbox string, message []byte, flags ...string) {
	c.t.Helper()
	c.do("APPEND %q (%s) {%d+}\r\n%s", mailbox, strings.Join(flags, " "), len(message), message)
}

// messages returns all messages of a mailbox, and leaves it selected.
func (c *session) messages(mailbox string) (all [][]byte) {
	c.t.Helper()
	c.do("EXAMINE %q", mailbox)
	for _, line := range c.do("UID FETCH 1:* BODY.PEEK[]") {
		_, rest, ok := strings.Cut(line, "BODY[] ")
		if !ok {
			continue
		}
		if head, data, ok := strings.Cut(rest, "}"); ok && strings.HasPrefix(head, "{") {
			n, _ := strconv.Atoi(head[1:])
			all = append(all, []byte(data[:n]))
		} else {
			c.t.Fatalf("not a literal: %.100s", line)
		}
	}
	return all
}

// flags returns the responses to a FETCH of UID and FLAGS.
func (c *session) flags(mailbox string) string {
	c.t.Helper()
	c.do("EXAMINE %q", mailbox)
	return strings.Join(c.do("UID FETCH 1:* FLAGS"), "\n")
}

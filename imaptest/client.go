package imaptest

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// patience is how long a test waits for a line or for a write to be taken: longer
// than a slow machine with much else to do takes. Only what fails waits so long.
const patience = time.Minute

// maxResponse bounds one response, so that a broken server cannot fill memory.
const maxResponse = 64 << 20

// A client is one connection of a test. It is used by one goroutine.
type client struct {
	name    string
	conn    net.Conn // a *pump, or TLS over one
	r       *bufio.Reader
	w       *bufio.Writer
	deflate *flate.Writer
	packed  *bufio.Writer // behind deflate: what belongs together is sent at once
	log     func(format string, args ...any)

	serial  int
	pending []string    // tags that await their response, oldest first
	pushed  []*response // read while a literal waited for its "+"
	plain   bool        // the next line goes without a tag
}

// connect dials; ctx bounds the dialling only.
func connect(ctx context.Context, name string, dial func(context.Context) (net.Conn, error),
	log func(string, ...any)) (*client, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("connection %s: %w", name, err)
	}
	p := newPump(conn)
	return &client{name: name, conn: p, r: bufio.NewReader(p), w: bufio.NewWriter(p), log: log}, nil
}

func (c *client) close() error { return c.conn.Close() }

func (c *client) flush() error {
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if err := c.w.Flush(); err != nil {
		return fmt.Errorf("connection %s: write: %w", c.name, err)
	}
	if c.deflate != nil {
		return errors.Join(c.deflate.Flush(), c.packed.Flush())
	}
	return nil
}

// newTag makes a tag whose response is awaited.
func (c *client) newTag() string {
	c.serial++
	tag := c.name + strconv.Itoa(c.serial)
	c.pending = append(c.pending, tag)
	return tag
}

// tag is that of the oldest open command.
func (c *client) tag() string {
	if len(c.pending) == 0 {
		return ""
	}
	return c.pending[0]
}

// send writes a C: line with its literals. With hold nothing is flushed unless
// a literal has to wait.
func (c *client) send(text string, members map[string][]byte, hold bool) error {
	c.log("%s C: %s", c.name, text)
	if !c.plain && text != "DONE" {
		text = c.newTag() + " " + text
	}
	c.plain = false
	for text != "" {
		i := nextLiteral(text)
		if i < 0 {
			break
		}
		c.w.WriteString(text[:i])
		text = text[i:]
		if text[0] == '<' {
			name, after, ok := strings.Cut(text[2:], ">")
			data, known := members[name]
			if !ok || !known {
				return fmt.Errorf("no member for %.20q", text)
			}
			c.w.Write(data)
			text = after
			continue
		}
		if text[0] == '~' {
			c.w.WriteByte('~')
			text = text[1:]
		}
		lit, n, err := parseLiteral(text, members)
		if err != nil {
			return err
		}
		text = text[n:]
		if refused, err := c.literal(lit); err != nil || refused {
			return err
		}
	}
	c.w.WriteString(text + "\r\n")
	if hold {
		return nil
	}
	return c.flush()
}

// nextLiteral finds {@, {", ~{@, ~{" or <@.
func nextLiteral(text string) int {
	best := -1
	for _, mark := range []string{"~{@", `~{"`, "{@", `{"`, "<@"} {
		if i := strings.Index(text, mark); i >= 0 && (best < 0 || i < best) {
			best = i
		}
	}
	return best
}

// literal writes one literal; a synchronising one waits for "+" and may be
// refused, in which case the tagged response is left to be read.
func (c *client) literal(lit scriptLiteral) (refused bool, err error) {
	plus := ""
	if lit.nonSync {
		plus = "+"
	}
	fmt.Fprintf(c.w, "{%d%s}\r\n", len(lit.data), plus)
	for !lit.nonSync {
		if err := c.flush(); err != nil {
			return false, err
		}
		r, err := c.fetch()
		if err != nil {
			return false, err
		}
		if r.tag == "+" {
			break
		}
		c.pushed = append(c.pushed, r)
		if r.tag != "*" {
			return true, nil
		}
	}
	c.w.Write(lit.data)
	return false, nil
}

// raw writes bytes as they are; $tag has been replaced.
func (c *client) raw(data string) error {
	c.log("%s C! %.200q", c.name, data)
	c.w.WriteString(data)
	return c.flush()
}

// next is the next response.
func (c *client) next() (*response, error) {
	if len(c.pushed) > 0 {
		r := c.pushed[0]
		c.pushed = c.pushed[1:]
		return r, nil
	}
	return c.fetch()
}

// answered takes a tag off the list of those awaited.
func (c *client) answered(r *response) {
	if len(c.pending) > 0 && c.pending[0] == r.tag {
		c.pending = c.pending[1:]
	}
	c.plain = r.tag == "+"
}

// fetch reads one response from the connection.
func (c *client) fetch() (*response, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	var raw []byte
	for {
		line, err := c.r.ReadBytes('\n')
		raw = append(raw, line...)
		if err != nil {
			if len(raw) > 0 && errors.Is(err, io.EOF) {
				err = fmt.Errorf("connection closed inside of %.100q", raw)
			}
			return nil, err
		}
		if !bytes.HasSuffix(line, []byte("\r\n")) {
			return nil, fmt.Errorf("line that ends in LF without CR: %.100q", line)
		}
		if len(raw) > maxResponse {
			return nil, fmt.Errorf("response of more than %d bytes", maxResponse)
		}
		n, ok := literalSize(line[:len(line)-2])
		if !ok {
			break
		}
		if n > maxResponse {
			return nil, fmt.Errorf("literal of %d bytes", n)
		}
		start := len(raw)
		raw = append(raw, make([]byte, n)...)
		if _, err := io.ReadFull(c.r, raw[start:]); err != nil {
			return nil, fmt.Errorf("literal of %d bytes: %w", n, err)
		}
	}
	r, err := parseResponse(string(raw[:len(raw)-2]))
	if err == nil {
		c.log("%s S: %s", c.name, display(r))
	}
	return r, err
}

// display shortens a response for the log, which has the form of a
// transcript: without tags, literals as {"text"}.
func display(r *response) string {
	raw := r.raw
	if r.tag != "*" && r.tag != "+" {
		raw = strings.TrimPrefix(raw, r.tag+" ")
	}
	if len(raw) > 1000 {
		raw = raw[:1000] + "..."
	}
	if strings.Contains(raw, "\r\n") {
		raw = strings.Trim(strconv.Quote(raw), `"`)
	}
	return raw
}

// literalSize says whether a line announces a literal.
func literalSize(line []byte) (int, bool) {
	if !bytes.HasSuffix(line, []byte("}")) {
		return 0, false
	}
	i := bytes.LastIndexByte(line, '{')
	if i < 0 {
		return 0, false
	}
	n, err := strconv.Atoi(string(line[i+1 : len(line)-1]))
	return n, err == nil && n >= 0
}

// startDeflate puts the compression of RFC 4978 between client and connection.
func (c *client) startDeflate() error {
	c.packed = bufio.NewWriter(c.conn)
	w, err := flate.NewWriter(c.packed, flate.BestSpeed)
	if err != nil {
		return err
	}
	c.deflate = w
	c.w = bufio.NewWriter(w)
	c.r = bufio.NewReader(flate.NewReader(c.r))
	return nil
}

// startTLS does the handshake of a client.
func (c *client) startTLS(config *tls.Config) error {
	if config == nil {
		return errors.New("starttls: Server.TLS is nil")
	}
	if c.r.Buffered() > 0 {
		return errors.New("starttls: the server sent bytes before the handshake")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	conn := tls.Client(c.conn, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	c.conn = conn
	c.r, c.w = bufio.NewReader(conn), bufio.NewWriter(conn)
	return nil
}

// simple runs a command of the runner's own and returns its untagged
// responses. Anything but OK is an error.
func (c *client) simple(command string, members map[string][]byte) ([]*response, error) {
	if err := c.send(command, members, false); err != nil {
		return nil, err
	}
	var untagged []*response
	for {
		r, err := c.next()
		if err != nil {
			return untagged, fmt.Errorf("%.60s: %w", command, err)
		}
		if r.tag == c.tag() {
			c.answered(r)
			if r.status != "OK" {
				return untagged, fmt.Errorf("%.60s: %s", command, r.raw)
			}
			return append(untagged, r), nil
		}
		untagged = append(untagged, r)
	}
}

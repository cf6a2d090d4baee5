package bench

import (
	"bytes"
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

// conn is a connection to an IMAP server that looks at as few bytes as it can.
// It is used by one goroutine.
type conn struct {
	nc      net.Conn
	watch   func()      // has the end of the context close the connection
	stop    func() bool // ends that
	timeout time.Duration
	caps    map[string]bool

	buf      []byte // buf[r:w] has been read and not looked at
	r, w     int
	full     bool // the last read has filled the buffer
	out      []byte
	tag      uint64
	greeting string

	// Of the command that was done last: how many responses came before the
	// tagged one, and how many bytes in all.
	untagged, bytes int64
}

const (
	firstSize = 4 << 10   // of the buffer of a connection that says little
	readSize  = 256 << 10 // of one that says much
	maxLine   = 256 << 20 // a SEARCH with millions of results is one line
)

// errRefused is wrapped by errors about a NO or BAD, or a BYE instead of a greeting.
var errRefused = errors.New("refused")

// dial connects and reads the greeting.
func dial(ctx context.Context, addr string, cfg *tls.Config, from net.Addr, timeout time.Duration) (*conn, error) {
	d := net.Dialer{Timeout: 30 * time.Second, LocalAddr: from}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	nc = canLook(nc)
	if cfg != nil {
		tc := tls.Client(nc, cfg)
		if err := tc.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, fmt.Errorf("TLS with %s: %w", addr, err)
		}
		nc = tc
	}
	c := &conn{nc: nc, timeout: timeout}
	c.watch = func() { c.stop = context.AfterFunc(ctx, func() { nc.Close() }) }
	c.watch()
	line, err := c.line()
	if err == nil && bytes.HasPrefix(line, []byte("* BYE")) {
		err = fmt.Errorf("%w: %.200s", errRefused, line[len("* "):])
	} else if err == nil && !bytes.HasPrefix(line, []byte("* OK")) && !bytes.HasPrefix(line, []byte("* PREAUTH")) {
		err = fmt.Errorf("the greeting is %.80q", line)
	}
	if err != nil {
		c.close()
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	c.greeting = string(line)
	return c, nil
}

func (c *conn) close() {
	c.stop()
	c.nc.Close()
}

// fill reads more bytes behind those in the buffer.
func (c *conn) fill() error {
	switch {
	case c.r == c.w:
		c.r, c.w = 0, 0
		if c.full && len(c.buf) < readSize {
			c.buf = make([]byte, readSize)
		}
	case c.w == len(c.buf) && c.r > len(c.buf)/2:
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	if c.w == len(c.buf) {
		if len(c.buf) >= maxLine {
			return errors.New("the server sends a line without an end")
		}
		c.buf = append(c.buf, make([]byte, max(firstSize, len(c.buf)))...)
	}
	n, err := c.nc.Read(c.buf[c.w:])
	c.w += n
	c.full = c.w == len(c.buf)
	c.bytes += int64(n)
	if n > 0 {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return errors.New("the server has closed the connection")
	}
	return err
}

// line returns the next line without its CRLF. It is valid until the next call.
func (c *conn) line() ([]byte, error) {
	seen := 0
	for {
		if i := bytes.IndexByte(c.buf[c.r+seen:c.w], '\n'); i >= 0 {
			line := c.buf[c.r : c.r+seen+i]
			c.r += seen + i + 1
			return bytes.TrimSuffix(line, []byte("\r")), nil
		}
		seen = c.w - c.r
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// skip throws n bytes away.
func (c *conn) skip(n int64) error {
	for {
		have := min(int64(c.w-c.r), n)
		c.r += int(have)
		if n -= have; n == 0 {
			return nil
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// literalSize returns the size of the literal that a line announces at its end.
func literalSize(line []byte) (int64, bool) {
	if len(line) < 3 || line[len(line)-1] != '}' {
		return 0, false
	}
	open := bytes.LastIndexByte(line, '{')
	if open < 0 || len(line)-open > 22 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(line[open+1:len(line)-1]), 10, 62)
	return int64(n), err == nil
}

// nextTag begins a command in c.out.
func (c *conn) nextTag() {
	c.tag++
	c.out = append(c.out, 'b')
	c.out = strconv.AppendUint(c.out, c.tag, 10)
	c.out = append(c.out, ' ')
}

// send writes what is in c.out.
func (c *conn) send() error {
	if err := c.nc.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return err
	}
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	return err
}

// await reads until the response with the tag, and fails where that is not OK.
// each, where it is not nil, gets the first line of every other response.
func (c *conn) await(tag uint64, each func(line []byte)) (string, error) {
	var want [24]byte
	prefix := append(strconv.AppendUint(append(want[:0], 'b'), tag, 10), ' ')
	c.untagged, c.bytes = 0, 0
	for begin := true; ; {
		line, err := c.line()
		if err != nil {
			return "", err
		}
		if begin {
			if bytes.HasPrefix(line, prefix) {
				status := string(line[len(prefix):])
				if !strings.HasPrefix(status, "OK") {
					return status, fmt.Errorf("%w: %.200s", errRefused, status)
				}
				return status, nil
			}
			c.untagged++
			if each != nil {
				each(line)
			}
		}
		n, literal := literalSize(line)
		if literal {
			if err := c.skip(n); err != nil {
				return "", err
			}
		}
		begin = !literal
	}
}

// do runs one command.
func (c *conn) do(command string) (string, error) { return c.collect(command, nil) }

// collect is do that shows the first line of every untagged response.
func (c *conn) collect(command string, each func(line []byte)) (string, error) {
	c.nextTag()
	c.out = append(append(c.out, command...), '\r', '\n')
	if err := c.send(); err != nil {
		return "", err
	}
	status, err := c.await(c.tag, each)
	if err != nil {
		return status, fmt.Errorf("%.60s: %w", command, err)
	}
	return status, nil
}

// expect is do that fails where fewer responses come than the work must give.
func (c *conn) expect(command string, atLeast int) error {
	if _, err := c.do(command); err != nil {
		return err
	}
	if c.untagged < int64(atLeast) {
		return fmt.Errorf("%.60s: %d responses came, and there should be %d", command, c.untagged, atLeast)
	}
	return nil
}

// login logs in.
func (c *conn) login(user, password string) error {
	c.nextTag()
	c.out = append(c.out, "LOGIN "+quote(user)+" "+quote(password)+"\r\n"...)
	err := c.send()
	if err == nil {
		_, err = c.await(c.tag, nil)
	}
	if err != nil {
		return fmt.Errorf("to log in as %s: %w", user, err) // the password is nobody's business
	}
	return nil
}

// appendAll appends messages with one command. Without LITERAL+ it waits for the
// server's word before each of them.
func (c *conn) appendAll(mailbox string, messages ...message) error {
	c.nextTag()
	c.out = append(append(append(c.out, "APPEND "...), mailbox...), ' ')
	for i, m := range messages {
		if i > 0 {
			c.out = append(c.out, ' ')
		}
		free := c.caps["LITERAL+"] || c.caps["LITERAL-"] && m.size() <= 4096
		c.out = strconv.AppendInt(append(c.out, '{'), int64(m.size()), 10)
		if free {
			c.out = append(c.out, '+')
		}
		c.out = append(c.out, "}\r\n"...)
		if !free {
			if err := c.send(); err != nil {
				return err
			}
			if err := c.goAhead(); err != nil {
				return err
			}
		}
		c.out = m.appendTo(c.out)
		if len(c.out) > 1<<20 {
			if err := c.send(); err != nil {
				return err
			}
		}
	}
	c.out = append(c.out, '\r', '\n')
	if err := c.send(); err != nil {
		return err
	}
	_, err := c.await(c.tag, nil)
	if err != nil {
		err = fmt.Errorf("APPEND: %w", err)
	}
	return err
}

// goAhead waits for a continuation request.
func (c *conn) goAhead() error {
	for {
		line, err := c.line()
		switch {
		case err != nil:
			return err
		case bytes.HasPrefix(line, []byte("+")):
			return nil
		case !bytes.HasPrefix(line, []byte("*")):
			return fmt.Errorf("%w: %.200s", errRefused, line)
		}
	}
}

// idle begins IDLE and frees the buffers.
func (c *conn) idle() error {
	c.nextTag()
	c.out = append(c.out, "IDLE\r\n"...)
	if err := c.send(); err != nil {
		return err
	}
	if err := c.goAhead(); err != nil {
		return fmt.Errorf("IDLE: %w", err)
	}
	if c.r == c.w {
		c.buf, c.out, c.r, c.w = nil, nil, 0, 0
	}
	return c.nc.SetDeadline(time.Time{})
}

// endIdle ends IDLE.
func (c *conn) endIdle() error {
	c.out = append(c.out, "DONE\r\n"...)
	if err := c.send(); err != nil {
		return err
	}
	_, err := c.await(c.tag, nil)
	return err
}

// quote makes a quoted string. CR, LF and NUL cannot be in one, and are left
// away.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\r", "", "\n", "", "\x00", "").Replace(s) + `"`
}

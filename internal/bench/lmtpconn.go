package bench

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"
)

// lmtpConn is a connection to an LMTP server (RFC 2033).
type lmtpConn struct {
	conn
	pipelining bool
}

func dialLMTP(ctx context.Context, addr string, timeout time.Duration) (*lmtpConn, error) {
	nc, err := dialRaw(ctx, addr)
	if err != nil {
		return nil, err
	}
	c := &lmtpConn{conn: conn{nc: nc, timeout: timeout}}
	c.stop = context.AfterFunc(ctx, func() { nc.Close() })
	if _, err = c.reply("220"); err == nil {
		c.out = append(c.out, "LHLO localhost\r\n"...)
		if err = c.send(); err == nil {
			var text string
			text, err = c.reply("250")
			c.pipelining = strings.Contains(text, "PIPELINING")
		}
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// reply reads one reply, of one line or more, and checks its code.
func (c *lmtpConn) reply(code string) (string, error) {
	var text strings.Builder
	for {
		line, err := c.line()
		if err != nil {
			return "", err
		}
		text.Write(line)
		text.WriteByte('\n')
		if len(line) < 4 || line[3] != '-' {
			if !bytes.HasPrefix(line, []byte(code)) {
				return "", fmt.Errorf("LMTP: %w: %.200s", errRefused, line)
			}
			return text.String(), nil
		}
	}
}

// deliver sends one message to one recipient.
func (c *lmtpConn) deliver(to string, m message) error {
	for _, step := range [...]struct{ text, code string }{
		{"MAIL FROM:<bench@localhost>\r\n", "250"}, {"RCPT TO:<" + to + ">\r\n", "250"}, {"DATA\r\n", "354"},
	} {
		c.out = append(c.out, step.text...)
		if !c.pipelining {
			if err := c.send(); err != nil {
				return err
			}
			if _, err := c.reply(step.code); err != nil {
				return err
			}
		}
	}
	if c.pipelining {
		if err := c.send(); err != nil {
			return err
		}
		for _, code := range [...]string{"250", "250", "354"} {
			if _, err := c.reply(code); err != nil {
				return err
			}
		}
	}
	begin := len(c.out)
	c.out = m.appendTo(c.out)
	c.out = stuffDots(c.out, begin)
	if !bytes.HasSuffix(c.out, []byte("\r\n")) {
		c.out = append(c.out, "\r\n"...)
	}
	c.out = append(c.out, ".\r\n"...)
	if err := c.send(); err != nil {
		return err
	}
	_, err := c.reply("250")
	return err
}

// stuffDots doubles the dots at the beginning of lines in b[from:].
func stuffDots(b []byte, from int) []byte {
	if !bytes.Contains(b[from:], []byte("\n.")) && !bytes.HasPrefix(b[from:], []byte(".")) {
		return b
	}
	text := bytes.ReplaceAll(b[from:], []byte("\n."), []byte("\n.."))
	if text[0] == '.' {
		text = append([]byte("."), text...)
	}
	return append(b[:from], text...)
}

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// deliver is a worker that is an MTA: it sends messages to the user's INBOX.
func (w *worker) deliver(addr string) error {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(c)
	expect := func(code string) error {
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return err
			}
			if len(line) > 3 && line[3] == ' ' {
				if !strings.HasPrefix(line, code) {
					return fmt.Errorf("%w: %q", errRefused, line)
				}
				return nil
			}
		}
	}
	say := func(text, code string) error {
		if _, err := io.WriteString(c, text); err != nil {
			return err
		}
		return expect(code)
	}
	if err := expect("220"); err != nil {
		return err
	}
	if err := say("LHLO mta.example\r\n", "250"); err != nil {
		return err
	}
	for {
		id, text := w.compose()
		for _, line := range []string{"MAIL FROM:<>\r\n", "RCPT TO:<" + w.user + "@example.org>\r\n"} {
			if err := say(line, "250"); err != nil {
				return err
			}
		}
		if err := say("DATA\r\n", "354"); err != nil {
			return err
		}
		l := &letter{text: text, mailbox: "INBOX", flags: map[string]bool{}, absent: true}
		w.messages[id] = l
		if err := say(string(text)+".\r\n", "250"); err != nil {
			return err
		}
		l.absent = false
		w.done++
	}
}

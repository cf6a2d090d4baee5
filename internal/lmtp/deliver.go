package lmtp

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/rookery-mail/rookery/imap"
)

// maxDeliveries is how many deliveries of one message happen at the same time; they
// share the waiting for the disk.
const maxDeliveries = 16

// deliverAll delivers the message to all recipients and returns their replies.
func (s *session) deliverAll() []reply {
	rcpts := s.tx.rcpts
	replies := make([]reply, len(rcpts))
	last := len(rcpts) - 1 // mostly the only one
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxDeliveries)
	for i := range last {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			replies[i] = s.deliver(rcpts[i])
		})
	}
	replies[last] = s.deliver(rcpts[last])
	wg.Wait()
	return replies
}

// deliver returns what the client is told about one recipient.
func (s *session) deliver(rcpt recipient) (r reply) {
	defer func() {
		if v := recover(); v != nil {
			s.server.opts.Log.Error("a delivery panicked; the sender was told to try again",
				"recipient", rcpt.address, "panic", v, "stack", string(debug.Stack()))
			r = replyLater
		}
	}()
	head := s.trace(rcpt.address)
	msg := s.tx.msg
	size := int64(len(head)) + msg.size
	if err := s.server.to.Deliver(s.server.ctx, rcpt.user, io.MultiReader(strings.NewReader(head), msg.open()), size); err != nil {
		return s.server.reply(err, rcpt.address)
	}
	if log := s.server.opts.Log; log.Enabled(context.Background(), slog.LevelDebug) {
		log.Debug("delivered", "recipient", rcpt.address, "user", rcpt.user, "size", msg.size)
	}
	return replyDelivered
}

// trace makes the header fields that a final delivery adds (RFC 5321 section
// 4.4). Nothing else of the message is changed.
func (s *session) trace(to string) string {
	with := "LMTP"
	if s.tx.utf8 {
		with = "UTF8LMTP" // RFC 6531 section 4.3
	}
	head := make([]byte, 0, 512)
	for _, part := range [...]string{
		"Return-Path: <", clean(s.tx.from), ">\r\nDelivered-To: ", clean(to),
		"\r\nReceived: from ", s.helo, s.conn.from, "\r\n\tby ", clean(s.server.opts.Hostname),
		" (Rookery) with ", with, " id ", rand.Text()[:12], "\r\n\tfor <", clean(to), ">; ",
	} {
		head = append(head, part...)
	}
	head = s.server.opts.Now().AppendFormat(head, "Mon, 2 Jan 2006 15:04:05 -0700")
	return string(append(head, "\r\n"...))
}

// comesFrom is what Received says about a client's address: nothing where it has none.
func comesFrom(addr net.Addr) string {
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return ""
	}
	if strings.Contains(host, ":") {
		host = "IPv6:" + host
	}
	return " ([" + host + "])"
}

// clean takes away what would break a header line.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}

// refuse turns an error of Resolve into what the client is told.
func (s *Server) refuse(err error, address string) reply {
	if imap.KindOf(err) == imap.NotFound {
		return replyNobody
	}
	return s.reply(err, address)
}

// reply turns an error of Deliver into what the client is told. Only what will not
// change by itself is refused for good: a sender that is told to try again has
// lost nothing.
func (s *Server) reply(err error, address string) reply {
	switch imap.KindOf(err) {
	case imap.TooBig:
		return replyTooBig
	case imap.OverQuota:
		return replyFull
	}
	s.opts.Log.Error("delivery failed; the sender was told to try again", "recipient", address, "err", err)
	return replyLater
}

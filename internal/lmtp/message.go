package lmtp

import (
	"errors"
	"math"
	"strings"
)

// data takes a message that follows DATA (RFC 5321 section 4.1.1.4) and delivers it.
// It is an error without a recipient (RFC 2033 section 4.2).
func (s *session) data(arg string) (reply, error) {
	switch {
	case arg != "":
		return replyNoArgument, nil
	case s.tx == nil:
		return replyNoMail, nil
	case s.tx.msg != nil:
		return replyNested, nil
	case len(s.tx.rcpts) == 0:
		return replyNoRcpt, nil
	}
	s.begin()
	s.conn.say(replyData)
	var d dataDecoder
	for !d.ended() {
		p, err := s.conn.chunk(math.MaxInt64)
		if err != nil {
			return "", s.broken(err)
		}
		used, _ := d.decode(s.tx.msg, p) // who keeps what went wrong
		s.conn.unread(len(p) - used)
	}
	return "", s.finish()
}

// bdat takes a part of a message, whose size the command says (RFC 3030 section 2), and
// delivers the message after the last one.
func (s *session) bdat(arg string) (reply, error) {
	word, option, more := strings.Cut(arg, " ")
	size, ok := parseSize(word)
	if !ok {
		// Where the next command begins, nobody can tell.
		s.errors = maxErrors
		return replyBdatSyntax, nil
	}
	last := strings.EqualFold(strings.Trim(option, " \t"), "LAST")
	switch {
	case more && !last:
		return replyBdatSyntax, s.skip(size)
	case s.tx == nil:
		return replyNoMail, s.skip(size)
	case len(s.tx.rcpts) == 0:
		return replyNoRcpt, s.skip(size)
	case s.tx.msg == nil:
		s.begin()
	}
	for size > 0 {
		p, err := s.conn.chunk(size)
		if err != nil {
			return "", s.broken(err)
		}
		size -= int64(len(p))
		_, _ = s.tx.msg.Write(p) // it keeps what went wrong
	}
	if last {
		return "", s.finish()
	}
	if r := s.server.taken(s.tx); r != "" {
		s.reset()
		return r, nil
	}
	return replyContinue, nil
}

// skip reads what belongs to a command that is refused.
func (s *session) skip(size int64) error {
	for size > 0 {
		p, err := s.conn.chunk(size)
		if err != nil {
			return err
		}
		size -= int64(len(p))
	}
	return nil
}

// begin makes room for the transaction's message.
func (s *session) begin() {
	s.tx.msg = s.server.spool(s.tx.size)
	s.conn.setBusy(true)
}

// broken is for a message whose end will not come.
func (s *session) broken(err error) error {
	s.server.opts.Log.Warn("a message did not come in whole", "addr", s.conn.nc.RemoteAddr(), "from", s.tx.from, "err", err)
	return err
}

// taken returns an empty reply where the message is here as far as it has come.
func (s *Server) taken(tx *transaction) reply {
	switch err := tx.msg.err; {
	case errors.Is(err, errTooBig):
		return replyTooBig
	case err != nil:
		s.opts.Log.Warn("a message was not taken; the sender was told to try again", "from", tx.from, "err", err)
		return replyNotTaken
	}
	return ""
}

// finish delivers the message that has come in and tells the client, with a reply for
// each recipient in the order of their RCPTs (RFC 2033 section 4.2).
func (s *session) finish() error {
	defer s.reset()
	// The client need not wait for one message to know about another.
	if err := s.conn.flush(); err != nil {
		return err
	}
	if r := s.server.taken(s.tx); r != "" {
		for _, rcpt := range s.tx.rcpts {
			s.conn.sayOf(rcpt.address, r)
		}
		return nil
	}
	s.unknown, s.errors = 0, 0
	for i, r := range s.deliverAll() {
		s.conn.sayOf(s.tx.rcpts[i].address, r)
	}
	return nil
}

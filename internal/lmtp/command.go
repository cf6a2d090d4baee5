package lmtp

import (
	"math"
	"strconv"
	"strings"
)

// session is what a client has said on a connection.
type session struct {
	server *Server
	conn   *conn
	helo   string // empty before LHLO

	unknown, errors int // commands that do not exist, and all that were not as they should be

	tx *transaction // nil outside of MAIL and the end of the message
}

// transaction is a message with its envelope.
type transaction struct {
	from  string
	utf8  bool
	size  int64 // as announced, or 0
	rcpts []recipient
	msg   *spooled // after the first chunk (BDAT), else nil
}

type recipient struct {
	address string // as it is shown
	user    string
}

// A client is sent away after so many commands that do not exist (what comes is
// then hardly LMTP, but perhaps a web page's), or errors of any kind, since the last
// message. Recipients that are not known are no errors.
const (
	maxUnknown = 3
	maxErrors  = 100
)

// reply is one line: a code, mostly an enhanced one (RFC 3463), and words.
type reply string

// misspoken reports whether the client did not speak as it should (500 to 504).
func (r reply) misspoken() bool { return r[:2] == "50" }

const (
	replyBye        reply = "221 2.0.0 Bye"
	replyOK         reply = "250 2.0.0 OK"
	replyReset      reply = "250 2.0.0 Session reset"
	replySender     reply = "250 2.1.0 Sender OK"
	replyRecipient  reply = "250 2.1.5 Recipient OK"
	replyDelivered  reply = "250 2.1.5 Delivered"
	replyContinue   reply = "250 2.0.0 Continue"
	replyVerify     reply = "252 2.5.0 Users are not verified; RCPT tells"
	replyData       reply = "354 Send the message, and end it with <CR><LF>.<CR><LF>"
	replyNoRoom     reply = "452 4.3.1 No room for the message now, try again later"
	replyNotTaken   reply = "451 4.3.0 Cannot take the message now, try again later"
	replyLater      reply = "451 4.3.0 Cannot deliver now, try again later"
	replyTooBig     reply = "552 5.3.4 Message is too big"
	replyFull       reply = "552 5.2.2 Mailbox is full"
	replyNobody     reply = "550 5.1.1 No such user here"
	replyLHLO       reply = "500 5.5.1 This is LMTP: say LHLO"
	replyUnknown    reply = "500 5.5.2 No such command"
	replyTooMany    reply = "500 5.5.1 Too many errors, closing the connection"
	replyNoDomain   reply = "501 5.5.2 Syntax: LHLO domain"
	replyMailSyntax reply = "501 5.5.2 Syntax: MAIL FROM:<address>"
	replyRcptSyntax reply = "501 5.5.2 Syntax: RCPT TO:<address>"
	replyBdatSyntax reply = "501 5.5.4 Syntax: BDAT size [LAST]"
	replyNoArgument reply = "501 5.5.4 No argument is allowed here"
	replyBadSize    reply = "501 5.5.4 Syntax: SIZE=number"
	replyBadBody    reply = "501 5.5.4 Syntax: BODY=7BIT or BODY=8BITMIME"
	replyNoCommand  reply = "502 5.5.1 This command is not implemented"
	replyNoHello    reply = "503 5.5.1 Give LHLO first"
	replyNested     reply = "503 5.5.1 A message is under way: end it, or give RSET"
	replyNoMail     reply = "503 5.5.1 Give MAIL first"
	replyNoRcpt     reply = "503 5.5.1 No recipient was accepted"
	replyNoBinary   reply = "504 5.5.4 BINARYMIME is not implemented"
	replyNoParam    reply = "555 5.5.4 A parameter is not known"
)

// command runs a command line, and what follows it, and reports whether there may
// be more. The error is the connection's.
func (s *session) command(line []byte) (more bool, err error) {
	verb, arg, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), " ")
	arg = strings.Trim(arg, " \t")
	var r reply
	switch strings.ToUpper(verb) {
	case "LHLO":
		r = s.hello(arg)
	case "MAIL":
		r = s.mail(arg)
	case "RCPT":
		r = s.rcpt(arg)
	case "DATA":
		r, err = s.data(arg)
	case "BDAT":
		r, err = s.bdat(arg)
	case "RSET":
		s.reset()
		r = replyReset
	case "NOOP":
		r = replyOK
	case "VRFY":
		r = replyVerify
	case "QUIT":
		s.conn.say(replyBye)
		return false, nil
	case "HELO", "EHLO":
		r = replyLHLO
	case "EXPN", "HELP", "AUTH", "STARTTLS", "TURN", "SEND", "SOML", "SAML":
		r = replyNoCommand
	default:
		s.unknown++
		r = replyUnknown
	}
	if err != nil {
		return false, err
	}
	if r != "" {
		s.conn.say(r)
		if r.misspoken() {
			s.errors++
		}
	}
	if s.unknown > maxUnknown || s.errors > maxErrors {
		s.conn.say(replyTooMany)
		return false, nil
	}
	if len(s.conn.out) > maxReplies {
		err = s.conn.flush()
	}
	return err == nil, err
}

// hello answers LHLO (RFC 2033 section 4.1), which also ends a transaction.
func (s *session) hello(arg string) reply {
	s.reset()
	name, _, _ := strings.Cut(arg, " ")
	if name = clean(name); name == "" {
		return replyNoDomain
	}
	s.helo = name
	for _, line := range [...]string{
		s.server.opts.Hostname + " Hello " + name,
		"PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "CHUNKING", "SMTPUTF8",
		"SIZE " + strconv.FormatInt(s.server.opts.MaxSize, 10),
	} {
		s.conn.out = append(append(append(s.conn.out, "250-"...), line...), "\r\n"...)
	}
	return reply("250 LIMITS RCPTMAX=" + strconv.Itoa(s.server.opts.MaxRecipients)) // RFC 9422
}

// reset ends the transaction.
func (s *session) reset() {
	if s.tx == nil {
		return
	}
	if s.tx.msg != nil {
		s.tx.msg.close()
	}
	s.tx = nil
	s.conn.setBusy(false)
}

// mail begins a transaction (RFC 5321 section 4.1.1.2).
func (s *session) mail(arg string) reply {
	if s.helo == "" {
		return replyNoHello
	}
	if s.tx != nil {
		return replyNested
	}
	path, ok := cutPrefixFold(arg, "FROM:")
	if !ok {
		return replyMailSyntax
	}
	path = strings.TrimLeft(path, " \t")
	var from address
	params, null := strings.CutPrefix(path, "<>")
	if !null {
		if from, params, ok = parsePath(path); !ok || from.domain == "" {
			return replyMailSyntax
		}
	}
	tx := &transaction{from: from.String()}
	if r := s.parameters(tx, params); r != "" {
		return r
	}
	if err := s.server.opts.Room(tx.size); err != nil {
		s.server.opts.Log.Warn("a message was not taken; the sender was told to try again", "from", tx.from, "err", err)
		return replyNoRoom
	}
	s.tx = tx
	return replySender
}

// parameters reads those of MAIL: SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC
// 6531), and AUTH (RFC 4954), which says nothing here. The reply is empty where all
// is well.
func (s *session) parameters(tx *transaction, params string) reply {
	for _, p := range strings.Fields(params) {
		key, value, valued := strings.Cut(p, "=")
		switch key = strings.ToUpper(key); {
		case key == "SIZE":
			size, ok := parseSize(value)
			if !ok {
				return replyBadSize
			}
			if size > s.server.opts.MaxSize {
				return replyTooBig
			}
			tx.size = size
		case key == "BODY" && strings.EqualFold(value, "BINARYMIME"):
			return replyNoBinary
		case key == "BODY":
			if !strings.EqualFold(value, "7BIT") && !strings.EqualFold(value, "8BITMIME") {
				return replyBadBody
			}
		case key == "SMTPUTF8" && !valued:
			tx.utf8 = true
		case key == "AUTH" && valued:
		default:
			return replyNoParam
		}
	}
	return ""
}

// parseSize reads a number of up to 20 digits (RFC 1870 section 6); what is more than
// fits is the most that fits.
func parseSize(s string) (int64, bool) {
	if s == "" || len(s) > 20 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		n = math.MaxInt64
	}
	return n, true
}

// rcpt adds a recipient (RFC 5321 section 4.1.1.3), which needs no domain: MTAs that
// deliver to users of the machine have none, and <Postmaster> never has one.
func (s *session) rcpt(arg string) reply {
	if s.tx == nil {
		return replyNoMail
	}
	if s.tx.msg != nil {
		return replyNested
	}
	path, ok := cutPrefixFold(arg, "TO:")
	if !ok {
		return replyRcptSyntax
	}
	to, params, ok := parsePath(strings.TrimLeft(path, " \t"))
	if !ok {
		return replyRcptSyntax
	}
	if most := s.server.opts.MaxRecipients; len(s.tx.rcpts) >= most {
		return reply("452 4.5.3 Too many recipients: " + strconv.Itoa(most) + " are the most")
	}
	if strings.Trim(params, " \t") != "" {
		return replyNoParam
	}
	user, err := s.server.to.Resolve(s.server.ctx, to.plain())
	if err != nil {
		return s.server.refuse(err, to.plain())
	}
	s.tx.rcpts = append(s.tx.rcpts, recipient{to.String(), user})
	return replyRecipient
}

// cutPrefixFold is strings.CutPrefix for words of any case.
func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

package lmtp

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/emersion/go-smtp"
)

// session is one connection's transaction.
type session struct {
	server *Server
	smtp   *smtp.Conn
	conn   *conn
	from   string
	utf8   bool
	size   int64 // as announced, or 0
	rcpts  []recipient
}

type recipient struct {
	name    string // for the library
	address string
	user    string
}

// Reset forgets the transaction.
func (s *session) Reset() {
	s.conn.setBusy(false)
	s.from, s.utf8, s.size, s.rcpts = "", false, 0, nil
}

// Logout ends the session.
func (s *session) Logout() error { return nil }

// Mail begins a transaction.
func (s *session) Mail(from string, opts *smtp.MailOptions) error {
	s.from, s.utf8, s.size, s.rcpts = from, opts != nil && opts.UTF8, 0, nil
	if opts != nil {
		s.size = opts.Size
	}
	if err := s.server.opts.Room(s.size); err != nil {
		s.server.opts.Log.Warn("a message was not taken; the sender was told to try again", "from", from, "err", err)
		return &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 3, 1}, Message: "No room for the message now, try again later"}
	}
	return nil
}

// Rcpt adds a recipient.
func (s *session) Rcpt(name string, _ *smtp.RcptOptions) error {
	to := takeDomain(name)
	user, err := s.server.to.Resolve(s.server.ctx, to)
	if err != nil {
		return s.server.refuse(err, to)
	}
	s.rcpts = append(s.rcpts, recipient{name, to, user})
	return nil
}

// Data is not called: the server speaks LMTP only.
func (s *session) Data(io.Reader) error { return errors.New("lmtp: not SMTP") }

// growStack makes the stack of a new goroutine as large as a delivery needs it, in one
// step: the library has one for each message, and copying its stack whenever it has
// doubled, deep in a delivery, takes 15 microseconds.
//
//go:noinline
func growStack() {
	var room [12 << 10]byte
	touch(&room)
}

//go:noinline
func touch(room *[12 << 10]byte) { room[0] = 1 }

// LMTPData takes the message and delivers it to all recipients.
func (s *session) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	growStack()
	s.conn.setBusy(true)
	src := r
	_, chunked := r.(*io.PipeReader) // BDAT, whose bytes need no decoding
	if !chunked {
		src = s.conn.data()
	}
	msg, err := s.spool(src)
	if !chunked {
		s.conn.endData()
	}
	if err != nil {
		return err
	}
	defer msg.close()
	// Deliveries that happen at the same time share the waiting for the disk.
	var wg sync.WaitGroup
	var mu sync.Mutex
	slots := make(chan struct{}, 16)
	deliver := func(rcpt recipient) {
		err := s.deliver(rcpt, msg)
		mu.Lock()
		defer mu.Unlock()
		status.SetStatus(rcpt.name, err)
	}
	last := len(s.rcpts) - 1
	for _, rcpt := range s.rcpts[:last] {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			deliver(rcpt)
		})
	}
	deliver(s.rcpts[last]) // mostly the only one
	wg.Wait()
	return nil
}

// deliver returns what the client is told about one recipient.
func (s *session) deliver(rcpt recipient, msg *spooled) error {
	head := s.trace(rcpt.address)
	r := io.MultiReader(strings.NewReader(head), msg.open())
	if err := s.server.to.Deliver(s.server.ctx, rcpt.user, r, int64(len(head))+msg.size); err != nil {
		return s.server.reply(err, rcpt.address)
	}
	s.server.opts.Log.Debug("delivered", "recipient", rcpt.address, "user", rcpt.user, "size", msg.size)
	return &smtp.SMTPError{Code: 250, EnhancedCode: smtp.EnhancedCode{2, 1, 5}, Message: "Delivered"}
}

// trace makes the header fields that a final delivery adds (RFC 5321 section
// 4.4). Nothing else of the message is changed.
func (s *session) trace(address string) string {
	var from strings.Builder
	from.WriteString(clean(s.smtp.Hostname()))
	if host, _, err := net.SplitHostPort(s.conn.RemoteAddr().String()); err == nil {
		if strings.Contains(host, ":") {
			host = "IPv6:" + host
		}
		fmt.Fprintf(&from, " ([%s])", host)
	}
	with := "LMTP"
	if s.utf8 {
		with = "UTF8LMTP" // RFC 6531 section 4.3
	}
	return fmt.Sprintf("Return-Path: <%s>\r\nDelivered-To: %s\r\nReceived: from %s\r\n\tby %s (Rookery) with %s id %s\r\n\tfor <%s>; %s\r\n",
		clean(s.from), clean(address), from.String(), clean(s.server.opts.Hostname), with, rand.Text()[:12], clean(address),
		s.server.opts.Now().Format("Mon, 2 Jan 2006 15:04:05 -0700"))
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

// inMemory is the size up to which a message waits in memory, times the
// connections (a client needs no password to begin one); spoolRoom is what it
// gets at first, beyond the size that the client has announced.
const (
	inMemory  = 64 << 10
	spoolRoom = 8 << 10
)

// spooled is a message that has come in whole.
type spooled struct {
	server *Server
	mem    []byte        // in room
	room   *bytes.Buffer // for other messages, in the end
	file   *os.File
	size   int64
}

func (m *spooled) open() io.Reader {
	if m.file != nil {
		return io.NewSectionReader(m.file, 0, m.size)
	}
	return bytes.NewReader(m.mem)
}

// close is called when nobody reads the message any more.
func (m *spooled) close() {
	if m.file != nil {
		m.file.Close()
	}
	m.server.giveRoom(m.room)
	m.mem, m.room = nil, nil
}

// keepRoom bounds the rooms that wait for other messages.
const keepRoom = 64 << 10

// takeRoom returns an empty buffer with room for size bytes.
func (s *Server) takeRoom(size int64) *bytes.Buffer {
	room, ok := s.rooms.Get().(*bytes.Buffer)
	if !ok {
		room = new(bytes.Buffer)
	}
	room.Reset()
	room.Grow(int(size) + spoolRoom)
	return room
}

func (s *Server) giveRoom(room *bytes.Buffer) {
	if room != nil && room.Cap() <= keepRoom {
		s.rooms.Put(room)
	}
}

// spool reads a message to its end, or as much as may be: then the rest is
// read and thrown away, so that the connection can go on.
func (s *session) spool(r io.Reader) (*spooled, error) {
	m := &spooled{server: s.server}
	limit := s.server.opts.MaxSize
	m.room = s.server.takeRoom(min(max(s.size, 0), limit, inMemory))
	n, err := m.room.ReadFrom(io.LimitReader(r, min(inMemory, limit)+1))
	m.mem, m.size = m.room.Bytes(), n
	if err == nil && n > inMemory && n <= limit {
		err = s.spoolToFile(m, r, limit)
	}
	if err == nil && m.size > limit {
		m.close()
		_, err = io.Copy(io.Discard, r)
		if err == nil {
			return nil, smtp.ErrDataTooLarge
		}
	}
	if err != nil {
		m.close()
		if se, ok := errors.AsType[*smtp.SMTPError](err); ok {
			return nil, se
		}
		s.server.opts.Log.Warn("a message did not come in whole", "addr", s.conn.RemoteAddr(), "from", s.from, "err", err)
		_, _ = io.Copy(io.Discard, r)
		return nil, &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "Cannot take the message now, try again later"}
	}
	return m, nil
}

// spoolToFile moves what has been read to a file, which has no name any more
// when it returns, and reads on.
func (s *session) spoolToFile(m *spooled, r io.Reader, limit int64) error {
	f, err := s.server.tempFile()
	if err != nil {
		return err
	}
	m.file = f
	_ = os.Remove(f.Name()) // where that does not work, whoever gave TempDir sweeps it
	to := &roomyWriter{w: f, room: s.server.opts.Room}
	_, err = to.Write(m.mem)
	m.server.giveRoom(m.room) // the client may take its time for the rest
	m.mem, m.room = nil, nil
	if err != nil {
		return err
	}
	n, err := io.Copy(to, io.LimitReader(r, limit-m.size+1))
	m.size += n
	return err
}

// tempFile makes a file in TempDir, which it makes again where somebody has removed it.
func (s *Server) tempFile() (*os.File, error) {
	const pattern = "lmtp-*"
	f, err := os.CreateTemp(s.opts.TempDir, pattern)
	if !errors.Is(err, fs.ErrNotExist) || s.opts.TempDir == "" {
		return f, err
	}
	if err := os.MkdirAll(s.opts.TempDir, 0o700); err != nil {
		return nil, err
	}
	return os.CreateTemp(s.opts.TempDir, pattern)
}

// spoolStep is how much is written to a file before it is asked again whether there
// is room: a client need not say how long its message is, nor ever end it.
const spoolStep = 1 << 20

// A roomyWriter writes as long as there is room.
type roomyWriter struct {
	w    io.Writer
	room func(size int64) error
	left int64 // of what there was room for
}

func (w *roomyWriter) Write(p []byte) (int, error) {
	if w.left -= int64(len(p)); w.left < 0 {
		if err := w.room(spoolStep); err != nil {
			return 0, err
		}
		w.left = spoolStep - int64(len(p))
	}
	return w.w.Write(p)
}

package lmtp

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
)

// inMemory is the size up to which a message waits in memory, times the
// connections (a client needs no password to begin one); spoolRoom is what it
// gets at first, beyond the size that the client has announced.
const (
	inMemory  = 64 << 10
	spoolRoom = 8 << 10
)

// errTooBig is for a message of more than MaxSize.
var errTooBig = errors.New("lmtp: the message is too big")

// spooled is a message that comes in: in memory, or in a file where it is long. It
// takes all that is written to it, so that the connection can go on behind it, and
// after an error throws it away.
type spooled struct {
	server *Server
	room   *bytes.Buffer // nil after it was given back
	file   *os.File      // nil where the message is in room
	left   int64         // of what the file has been allowed
	size   int64
	err    error
}

// spool returns a message of a size that the client has announced, or 0.
func (s *Server) spool(size int64) *spooled {
	return &spooled{server: s, room: s.takeRoom(min(size, s.opts.MaxSize, inMemory))}
}

// Write adds to the message. What goes wrong is kept in err and not returned.
func (m *spooled) Write(p []byte) (int, error) {
	n := len(p)
	if m.err != nil {
		return n, nil
	}
	m.size += int64(n)
	switch {
	case m.size > m.server.opts.MaxSize:
		m.err = errTooBig
	case m.file == nil && m.size <= inMemory:
		m.room.Write(p)
		return n, nil
	case m.file == nil:
		m.err = m.toFile()
	}
	if m.err == nil {
		m.err = m.writeFile(p)
	}
	if m.err != nil {
		m.close()
	}
	return n, nil
}

// open returns a reader of the message, which has come in whole.
func (m *spooled) open() io.Reader {
	if m.file != nil {
		return io.NewSectionReader(m.file, 0, m.size)
	}
	return bytes.NewReader(m.room.Bytes())
}

// close is called when nobody reads the message any more. It may be called twice.
func (m *spooled) close() {
	if m.file != nil {
		m.file.Close()
		m.file = nil
	}
	if m.room != nil {
		m.server.giveRoom(m.room)
		m.room = nil
	}
}

// toFile moves what has come to a file, which has no name any more when it returns.
func (m *spooled) toFile() (err error) {
	if m.file, err = m.server.tempFile(); err != nil {
		return err
	}
	_ = os.Remove(m.file.Name()) // where that does not work, whoever gave TempDir sweeps it
	if err := m.writeFile(m.room.Bytes()); err != nil {
		return err
	}
	m.server.giveRoom(m.room) // the client may take its time for the rest
	m.room = nil
	return nil
}

// spoolStep is how much is written to a file before it is asked again whether there
// is room: a client need not say how long its message is, nor ever end it.
const spoolStep = 1 << 20

func (m *spooled) writeFile(p []byte) error {
	if m.left -= int64(len(p)); m.left < 0 {
		if err := m.server.opts.Room(spoolStep); err != nil {
			return err
		}
		m.left = spoolStep - int64(len(p))
	}
	_, err := m.file.Write(p)
	return err
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
	if room.Cap() <= keepRoom {
		s.rooms.Put(room)
	}
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

package mailstore

import (
	"context"
	"io"
	"sync"

	"github.com/rookery-mail/rookery/mailstore/driver"
)

// The length of a literal is sent before its octets are, so whoever sends a
// message wants to know before that all of it can be read. A large message is
// read twice for that when it is first asked for; afterwards this process
// remembers that it was whole.

// storedMessage names a message of the store, for good.
type storedMessage struct {
	a   driver.Account
	msg uint64
}

// soundMessages remembers large messages that were whole when they were read,
// the newest soundKept of them at least. The zero value is ready.
type soundMessages struct {
	mu       sync.Mutex
	now, old map[storedMessage]struct{}
	bufs     sync.Pool // of *[soundRead]byte
}

const (
	soundKept = 1 << 15
	soundRead = 2 * driver.CheckedAtOpen // of a message at a time
)

func (s *soundMessages) has(m storedMessage) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.now[m]; ok {
		return true
	}
	_, ok := s.old[m]
	return ok
}

func (s *soundMessages) add(m storedMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil || len(s.now) >= soundKept {
		s.old, s.now = s.now, make(map[storedMessage]struct{})
	}
	s.now[m] = struct{}{}
}

func (s *soundMessages) forget(m storedMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.now, m)
	delete(s.old, m)
}

// watchedBlob is the content of a large message. A message that turns out
// damaged while it is sent is verified anew when it is asked for again.
type watchedBlob struct {
	driver.Blob
	sound *soundMessages
	msg   storedMessage
}

func (w *watchedBlob) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.Blob.ReadAt(p, off)
	if err != nil && err != io.EOF {
		w.sound.forget(w.msg)
	}
	return n, err
}

// verify reads the message, unless that has been done before.
func (w *watchedBlob) verify(ctx context.Context, size int64) error {
	if w.sound.has(w.msg) {
		return nil
	}
	buf, ok := w.sound.bufs.Get().(*[soundRead]byte)
	if !ok {
		buf = new([soundRead]byte)
	}
	defer w.sound.bufs.Put(buf)
	for off := int64(0); off < size; off += soundRead {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := buf[:min(soundRead, size-off)]
		if n, err := w.Blob.ReadAt(part, off); n < len(part) || err != nil && err != io.EOF {
			return err
		}
	}
	w.sound.add(w.msg)
	return nil
}

//go:build unix

package bench

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ownSocket is a TCP connection that Go's runtime does not know of. Reads and
// writes are for one goroutine.
type ownSocket struct {
	file     *os.File
	raw      syscall.RawConn
	deadline time.Time // of reads
}

// takeOver makes an ownSocket of a connection, which is closed.
func takeOver(nc *net.TCPConn) (*ownSocket, error) {
	file, err := nc.File()
	if err != nil {
		return nil, err
	}
	nc.Close()
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &ownSocket{file: file, raw: raw}, nil
}

// Read looks for what comes, and sleeps when that takes long.
func (s *ownSocket) Read(p []byte) (n int, err error) {
	rawErr := s.raw.Read(func(fd uintptr) bool {
		if err = s.await(int(fd)); err == nil {
			n, err = unix.Read(int(fd), p)
		}
		return true
	})
	switch {
	case rawErr != nil:
		return 0, rawErr
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// await returns when there is something to read.
func (s *ownSocket) await(fd int) error {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	looks := time.Now().Add(lookFor)
	for patience := 0; ; {
		n, err := unix.Poll(fds, patience)
		if n > 0 {
			return nil
		}
		if err != nil && err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
		switch now := time.Now(); {
		case now.Before(looks):
		case s.deadline.IsZero():
			patience = -1
		case now.After(s.deadline):
			return os.ErrDeadlineExceeded
		default:
			patience = int(s.deadline.Sub(now)/time.Millisecond) + 1
		}
	}
}

// Write writes.
func (s *ownSocket) Write(p []byte) (int, error) { return s.file.Write(p) }

// Close ends the connection, and a Read that waits.
func (s *ownSocket) Close() error {
	_ = s.raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	return s.file.Close()
}

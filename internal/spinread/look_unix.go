//go:build unix

package spinread

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lookFor reads when something has come, unless the time is over. Until then it
// asks, which takes no lock of the socket's: reading again and again would hold up
// the sender, who needs that lock to bring what is waited for. The end of the stream
// is left to a read as usual.
func (c *Conn) lookFor(fd uintptr) (done bool) {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		if n, err := unix.Poll(fds[:], 0); n == 0 || err != nil {
			if time.Now().After(c.until) {
				return true
			}
			continue
		}
		n, err := syscall.Read(int(fd), c.p)
		switch {
		case n > 0:
			c.n = n
		case err == nil, err == syscall.EAGAIN:
		case err == syscall.EINTR:
			continue
		default:
			c.err = os.NewSyscallError("read", err)
		}
		return true
	}
}

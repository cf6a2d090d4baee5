//go:build unix

package spinread

import (
	"os"
	"syscall"
	"time"
)

// lookFor reads until something has come or the time is over. The end of the
// stream is left to a read as usual.
func (c *Conn) lookFor(fd uintptr) (done bool) {
	for {
		n, err := syscall.Read(int(fd), c.p)
		switch {
		case n > 0:
			c.n = n
			return true
		case err == nil:
			return true
		case err != syscall.EAGAIN && err != syscall.EINTR:
			c.err = os.NewSyscallError("read", err)
			return true
		case time.Now().After(c.until):
			return true
		}
	}
}

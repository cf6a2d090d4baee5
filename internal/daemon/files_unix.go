//go:build unix

package daemon

import (
	"net"
	"syscall"
)

// maxFiles is how many files this process may have open.
func maxFiles() uint64 {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return plenty
	}
	return uint64(l.Cur)
}

// maxFileSize is how large this process may make a file, in bytes; 0 is as large
// as it likes.
func maxFileSize() int64 {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &l); err != nil || uint64(l.Cur) >= 1<<62 {
		return 0
	}
	return int64(l.Cur)
}

// listenPrivate opens a socket to which nobody else can connect, not even until
// its permissions are set. (Files that are made meanwhile get no more than they
// should have: the store's are private too.)
func listenPrivate(path string) (net.Listener, error) {
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	return net.Listen("unix", path)
}

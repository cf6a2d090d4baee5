//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package datadir

import (
	"errors"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var errHeld = errors.New("another process has locked the folder")

// lockOpen locks what is open, until it is closed. It says whether it could:
// file systems in memory have no descriptors, and NFS cannot lock a folder.
func lockOpen(fd uintptr) (bool, error) {
	if fd == vfs.InvalidFd {
		return false, nil
	}
	for {
		err := syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, errHeld
		case !errors.Is(err, syscall.EINTR):
			return false, nil
		}
	}
}

//go:build unix

package daemon

import "syscall"

// maxFiles is how many files this process may have open.
func maxFiles() uint64 {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return plenty
	}
	return uint64(l.Cur)
}

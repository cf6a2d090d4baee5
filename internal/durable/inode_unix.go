//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package durable

import (
	"io/fs"
	"syscall"
)

// number is what tells a file from all others.
type number struct{ device, inode uint64 }

// inode returns a file's number; not of a file system in memory.
func inode(info fs.FileInfo) (number, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return number{}, false
	}
	return number{uint64(st.Dev), uint64(st.Ino)}, true
}

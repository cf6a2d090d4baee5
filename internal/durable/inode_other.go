//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package durable

import "io/fs"

// inode does not tell files apart here: what is open cannot be removed.
func inode(fs.FileInfo) (int, bool) { return 0, false }

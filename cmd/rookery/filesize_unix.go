//go:build unix

package main

import (
	"os/signal"
	"syscall"
)

// survivingFileSize has a write beyond the size that the system allows a file
// (ulimit -f) fail like one to a full disk, instead of ending the process.
func survivingFileSize() { signal.Ignore(syscall.SIGXFSZ) }

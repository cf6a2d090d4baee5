//go:build unix

package bench

import (
	"io/fs"
	"syscall"
	"time"
)

// selfCPU returns the processor time that this process has used.
func selfCPU() time.Duration {
	var ru syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &ru) != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// allocated returns how many bytes of the disk a file takes, and what tells it
// from others, whatever its names are; nil where that is not known.
func allocated(info fs.FileInfo) (int64, any) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return info.Size(), nil
	}
	return int64(st.Blocks) * 512, [2]uint64{uint64(st.Dev), uint64(st.Ino)}
}

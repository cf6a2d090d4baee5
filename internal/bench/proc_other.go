//go:build !unix

package bench

import (
	"io/fs"
	"time"
)

// selfCPU is not known on this system.
func selfCPU() time.Duration { return 0 }

// allocated returns the length of a file: what it takes is not known here.
func allocated(info fs.FileInfo) (int64, any) { return info.Size(), nil }

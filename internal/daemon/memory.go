package daemon

import (
	"runtime/debug"
	"sync/atomic"
	"time"
)

// freePause is how often memory is given back at most: to find what is free takes some
// milliseconds of each of the processors.
const freePause = time.Minute

// freeMemory returns a function that gives back to the system what is free. Go does so
// by itself when it collects garbage, which a server that has come to rest does every
// two minutes, and hardly gives anything back then: it expects the next burst.
func freeMemory() func() {
	begun := time.Now()
	var last atomic.Int64 // since begun
	last.Store(-int64(freePause))
	return func() {
		now, was := int64(time.Since(begun)), last.Load()
		if now-was >= int64(freePause) && last.CompareAndSwap(was, now) {
			debug.FreeOSMemory()
		}
	}
}

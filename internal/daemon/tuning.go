package daemon

import (
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/datadir"
)

// tuning says how a store is opened.
type tuning struct {
	log     *slog.Logger
	fs      vfs.FS        // nil is the machine's
	relaxed time.Duration // see Config.Relaxed
	reserve int64         // see Config.Reserve
	files   fileBudget
	serving bool // a server opens it, which must start on a full disk, too
	// compress is what is done to messages that come in.
	compress bloblog.Compression
}

// fileBudget says how many files each part of the server may have open. Zeros
// mean as many as it likes.
type fileBudget struct{ index, messages, imap, lmtp int }

// plenty is a number of open files with which nobody has to be held back.
const plenty = 32 << 10

// budget divides the open files that the system allows. What it leaves is for
// segments that are being written, the log, and files that are open for a
// moment. Clients that are too many are told so, which they would not be if
// there were no file left to accept them with; and the store always has its
// files.
func budget(limit uint64) fileBudget {
	if limit >= plenty {
		return fileBudget{}
	}
	n := max(int(limit), 64)
	return fileBudget{index: min(n/8, 256), messages: min(n/8, 128), imap: max(n/3, n-plenty/4), lmtp: min(n/12, 500)}
}

// segmentBytes is how large a file of messages may get: small on a small disk, where
// there must be room to copy what lives in one before it goes, and half of what the
// system lets a file be, so that messages find room behind others. 0 is what
// bloblog has.
func segmentBytes(dir *datadir.Dir, fileSize int64) int64 {
	const usual, least, part = 64 << 20, 1 << 20, 32
	size := int64(usual)
	if usage, err := dir.FS().GetDiskUsage(dir.Join()); err == nil {
		size = max(int64(min(usage.TotalBytes/part, usual)), least)
	}
	if fileSize > 0 {
		size = max(min(size, fileSize/2), 1)
	}
	if size == usual {
		return 0
	}
	return size
}

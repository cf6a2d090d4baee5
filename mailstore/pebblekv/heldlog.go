package pebblekv

import (
	"context"

	"github.com/rookery-mail/rookery/mailstore/driver"
)

// maxHeld is how much of the log is held back at most, in bytes.
const maxHeld = 4 << 20

// A heldLog is a file of the log of a store that knows the blobs which it names.
// Nobody who commits waits for the blobs: what is written to the log is held back
// in memory, and reaches the file behind a sync of the blobs that were there
// before it. So one wait does for both, those who wait at the same time share
// both syncs, and whatever a crash leaves of the log names only what is there.
//
// Pebble writes, syncs and closes it from one goroutine.
type heldLog struct {
	*logFile
	sync func(context.Context) error // of the blobs
	held []byte
}

func (h *heldLog) Write(p []byte) (int, error) {
	h.held = append(h.held, p...)
	if len(h.held) < maxHeld {
		return len(p), nil
	}
	return len(p), h.let()
}

// let writes what was held back, once it may be written.
func (h *heldLog) let() error {
	if len(h.held) == 0 {
		return nil
	}
	blobs := func() error { return h.sync(context.Background()) }
	if err := h.fs.must("sync the messages before", blobs, nothing); err != nil {
		return err
	}
	_, err := h.logFile.Write(h.held)
	h.held = h.held[:0]
	return err
}

func (h *heldLog) Sync() error {
	if err := h.let(); err != nil {
		return err
	}
	return h.logFile.Sync()
}

func (h *heldLog) SyncData() error {
	if err := h.let(); err != nil {
		return err
	}
	return h.logFile.SyncData()
}

// SyncTo need not sync.
func (h *heldLog) SyncTo(int64) (full bool, err error) { return false, nil }

func (h *heldLog) Close() error {
	if err := h.let(); err != nil {
		return err
	}
	return h.logFile.Close()
}

// Blobs returns Options.Blobs as they are to be used beside this store: Sync has
// nothing to do, since the log waits for them. In a relaxed store blobs stay pinned
// until the log is durable, and what is deleted stays until nobody can name it any
// more.
func (kv *KV) Blobs() driver.Blobs {
	switch held := (heldBlobs{kv.opts.Blobs}); {
	case kv.opts.Blobs == nil:
		return nil
	case kv.opts.Relaxed > 0:
		return relaxedBlobs{held, kv}
	default:
		return held
	}
}

type heldBlobs struct{ driver.Blobs }

// Sync implements driver.Blobs: what names the blobs will wait for them.
func (heldBlobs) Sync(ctx context.Context) error { return ctx.Err() }

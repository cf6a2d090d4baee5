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
// both syncs, and whatever a crash leaves of the log names only what is there. Mostly
// the sync of the blobs does for the log as well: ride.go.
//
// Pebble writes, syncs and closes it from one goroutine.
type heldLog struct {
	*logFile
	sync func(context.Context) error // of the blobs
	held []byte

	rider  Rider  // the blobs, if the log may ride with them
	safe   int64  // the log is durable up to here, by itself or by what has ridden
	ridden int    // bytes that have ridden since it was synced
	piece  []byte // the memory of the last piece that rode
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
	return h.settle(h.File.Sync)
}

// SyncData makes the log durable, by itself or by what rides.
func (h *heldLog) SyncData() error {
	if h.ride() {
		return nil
	}
	// What ends a log says that all before it was on disk (logscan.go). Pebble may write
	// it together with a large commit, or behind one of which a part waits for a sync.
	if body := len(h.held) - shortHead; body >= 0 && (body > 0 || h.safe != h.off) && isTrailer(h.held[body:], uint32(h.number)) {
		trailer := [shortHead]byte(h.held[body:])
		h.held = h.held[:body]
		if err := h.syncSelf(); err != nil {
			return err
		}
		h.held = append(h.held, trailer[:]...)
	}
	return h.syncSelf()
}

// syncSelf writes what was held back, and syncs the log itself.
func (h *heldLog) syncSelf() error {
	if err := h.let(); err != nil {
		return err
	}
	return h.settle(h.File.SyncData)
}

// SyncTo need not sync.
func (h *heldLog) SyncTo(int64) (full bool, err error) { return false, nil }

// Close syncs the log itself, where the last sync of it was a ride: nobody lays pieces
// into a log that another one follows.
func (h *heldLog) Close() error {
	if err := h.let(); err != nil {
		return err
	}
	if h.ridden > 0 {
		if err := h.settle(h.File.SyncData); err != nil {
			return err
		}
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

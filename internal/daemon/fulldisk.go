package daemon

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// ballastPause is how long a server waits before it looks again whether there is
// room for the ballast.
const ballastPause = 10 * time.Second

// trimBallast keeps the part of the reserve that lets the index be opened on a
// full disk: it is given up when the index has failed for want of room, and made
// again when there is room.
func (d *daemon) trimBallast() {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		guard, kv := d.storage.guard, d.storage.kv
		pause := time.NewTicker(ballastPause)
		defer pause.Stop()
		for {
			failed := kv.Failed()
			select {
			case <-failed:
				guard.DropBallast() // whoever opens it again (see keep) tries more than once
				failed = nil
			default:
				guard.TakeBallast()
			}
			select {
			case <-ctx.Done():
				return
			case <-failed:
			case <-pause.C:
			}
		}
	}()
	d.cleanup = append(d.cleanup, func() {
		stop()
		<-done
	})
}

// closeStorage closes the store. Where a full disk keeps it from being closed in
// order, the next start has a little more to do, and that is all.
func (d *daemon) closeStorage() error {
	d.storage.guard.DropBallast()
	err := d.storage.Close()
	if err == nil {
		return nil
	}
	if d.cfg.Relaxed <= 0 && noRoom(err) {
		d.log.Warn("the disk is full, so the store could not be closed in order: nothing that was acknowledged is lost, and the next start finishes it", "err", err)
		return nil
	}
	return fmt.Errorf("closing the store: %w", err)
}

// noRoom reports whether an error comes of a disk without room, or of a bound of
// what this process may have of it.
func noRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

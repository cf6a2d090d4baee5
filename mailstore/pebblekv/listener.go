package pebblekv

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
)

// A listener is Pebble's logger and event listener. Pebble reports what it
// cannot go on after (a failed write of its log or its manifest) by calling
// Fatalf, and copes when Fatalf returns: the store is then marked as failed and
// nothing is acknowledged any more.
type listener struct {
	log *slog.Logger
	in  *instance

	// Both are used under a lock of Pebble's.
	flushed error // how the last flush has ended
	flushes int   // that have failed one after the other
}

// maxFlushes is how many flushes may fail one after the other. Pebble tries
// again at once and for ever, while commits wait for it in vain; the log has
// what could not be flushed.
const maxFlushes = 3

func (l *listener) Infof(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("pebble: " + fmt.Sprintf(format, args...))
	}
}

func (l *listener) Errorf(format string, args ...any) {
	l.log.Error("pebble: " + fmt.Sprintf(format, args...))
}

func (l *listener) Fatalf(format string, args ...any) {
	err := fmt.Errorf("%s", fmt.Sprintf(format, args...))
	for _, a := range args {
		if cause, ok := a.(error); ok {
			err = fmt.Errorf("pebble cannot go on: %w", cause)
		}
	}
	l.in.fail(err)
}

func (l *listener) events() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: l.backgroundError,
		FlushEnd:        l.flushEnd,
		CompactionEnd: func(info pebble.CompactionInfo) {
			if info.Err == nil {
				l.in.disk.faster()
			}
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			l.in.disk.bad.suspect.Store(true)
			l.log.Error("the index is damaged: run `rookery check`", "file", info.Path, "err", info.Details)
		},
		DiskSlow: func(info pebble.DiskSlowInfo) {
			l.log.Warn("the disk is slow", "op", info.OpType.String(), "file", info.Path, "took", info.Duration)
		},
	}
}

func (l *listener) flushEnd(info pebble.FlushInfo) {
	if l.flushed = info.Err; l.flushed == nil {
		l.flushes = 0
	}
}

// backgroundError is told of a flush or a compaction that has failed.
func (l *listener) backgroundError(err error) {
	if l.in.failure() != nil {
		return // of no more interest
	}
	l.log.Error("the index cannot be tidied up; it is tried again", "err", err)
	if err != l.flushed {
		l.in.disk.slower()
		return
	}
	if l.flushes++; l.flushes >= maxFlushes {
		l.in.fail(fmt.Errorf("index flush: %w", err))
	}
}

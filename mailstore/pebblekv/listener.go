package pebblekv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// A listener is Pebble's logger and event listener. Pebble reports what it
// cannot go on after (a failed write of its log or its manifest) by calling
// Fatalf, and copes when Fatalf returns: the store is then marked as failed and
// nothing is acknowledged any more.
type listener struct {
	log *slog.Logger
	in  *instance

	// Pebble tells of flushes under a lock of its own, but of what goes wrong
	// elsewhere under none.
	mu      sync.Mutex
	flushed error // how the last flush has ended
	counted bool  // it is one of the failed ones
	failed  int   // flushes, one after the other
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
		CompactionEnd:   l.compactionEnd,
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			l.in.disk.bad.suspect.Store(true)
			l.log.Error("the index is damaged: run `rookery check`", "file", info.Path, "err", info.Details)
		},
		DiskSlow: func(info pebble.DiskSlowInfo) {
			l.log.Warn("the disk is slow", "op", info.OpType.String(), "file", info.Path, "took", info.Duration)
		},
	}
}

// compactionEnd lets the next compaction wait when this one could not be written.
func (l *listener) compactionEnd(info pebble.CompactionInfo) {
	switch {
	case info.Err == nil:
		l.in.disk.faster()
	case !errors.Is(info.Err, pebble.ErrCancelledCompaction):
		l.in.disk.slower()
	}
}

// flushEnd is called ahead of backgroundError, where a flush has failed. One that
// had nothing to write ends with an error, too, which backgroundError is not
// told of.
func (l *listener) flushEnd(info pebble.FlushInfo) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.counted {
		l.failed = 0
	}
	l.flushed, l.counted = info.Err, false
}

// backgroundError is told of a flush, a compaction, or a reading of statistics
// that has failed, and by several goroutines at once.
func (l *listener) backgroundError(err error) {
	if l.in.failure() != nil {
		return // of no more interest
	}
	l.log.Error("the index cannot be tidied up; it is tried again", "err", err)
	if l.flushFailed(err) {
		l.in.fail(fmt.Errorf("index flush: %w", err))
	}
}

// flushFailed counts the flush that has ended with err, if one has, and reports
// whether it is one too many.
func (l *listener) flushFailed(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counted || l.flushed == nil || !errors.Is(err, l.flushed) {
		return false
	}
	l.counted = true
	l.failed++
	return l.failed >= maxFlushes
}

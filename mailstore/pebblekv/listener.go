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
	log  *slog.Logger
	fail func(error)
}

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
	l.fail(err)
}

func (l *listener) events() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			l.log.Error("the index cannot be tidied up; it is tried again", "err", err)
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			l.log.Error("the index is damaged: run `rookery check`", "file", info.Path, "err", info.Details)
		},
		DiskSlow: func(info pebble.DiskSlowInfo) {
			l.log.Warn("the disk is slow", "op", info.OpType.String(), "file", info.Path, "took", info.Duration)
		},
	}
}

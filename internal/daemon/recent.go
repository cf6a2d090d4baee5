package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"

	"github.com/rookery-mail/rookery/internal/durable"
	"github.com/rookery-mail/rookery/mailstore"
)

// recentName is a file that says which mailboxes were in memory when a server ended.
// The next one reads them again while its clients come back. Nothing depends on it.
const recentName = "RECENT"

// Bounds of what is noted: as many mailboxes, and as many bytes of their names.
const (
	maxRecent      = 64
	maxRecentBytes = 1 << 20
)

// A warming reads mailboxes into memory, in the background.
type warming struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// startWarming begins with the mailboxes that the last server had in memory.
func startWarming(s *storage, log *slog.Logger) *warming {
	ctx, cancel := context.WithCancel(context.Background())
	w := &warming{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		list, err := s.readRecent()
		if err == nil {
			err = s.store.Warm(ctx, list)
		}
		if err != nil && ctx.Err() == nil {
			log.Warn("the mailboxes that were in use before the restart are not read ahead: the first to select one waits for that", "err", err)
		}
	}()
	return w
}

func (w *warming) end() {
	w.cancel()
	<-w.done
}

// readRecent reads what noteRecent has written, if there is anything.
func (s *storage) readRecent() (list []mailstore.Recent, err error) {
	f, err := s.dir.FS().Open(s.dir.Join(recentName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	err = json.NewDecoder(io.LimitReader(f, maxRecentBytes)).Decode(&list)
	return list[:min(len(list), maxRecent)], err
}

// noteRecent writes down which mailboxes are in memory. Where it fails the next server
// is slower at first.
func (s *storage) noteRecent() {
	list := s.store.Recent(maxRecent)
	if len(list) == 0 {
		return
	}
	text, err := json.Marshal(list)
	if err == nil && len(text) < maxRecentBytes {
		_ = durable.WriteFile(s.dir.FS(), s.dir.Join(recentName), string(text)+"\n", "rookery-datadir")
	}
}

package mailstore

import (
	"context"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// IndexState says how far the indexes of an account are that searches use.
type IndexState struct {
	Messages uint64 // numbers of messages that have been given out
	Indexed  uint64 // the last of them that the text index covers
	Docs     int    // messages in the text index
	Segments int    // of the text index
	Bytes    int64  // of these
	Working  bool   // something is being built
}

// RebuildIndex has all that searches use made anew in the background: the text
// index and the columns of headers. Until that is done, searches look into
// messages themselves. IndexState tells how it goes on.
func (a *Account) RebuildIndex() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.deriving.all {
		a.deriving.all[i].broken = true
	}
	a.deriving.calmEnd = time.Time{} // who asks for it waits for it
	a.derive()
}

// IndexState tells how far the indexes are.
func (a *Account) IndexState(ctx context.Context) (IndexState, error) {
	var st IndexState
	a.mu.Lock()
	st.Messages, st.Working = a.deriving.last, a.deriving.running && !a.deriving.resting
	for _, p := range a.deriving.all {
		st.Working = st.Working || p.broken
	}
	a.mu.Unlock()
	err := a.store.kv.View(ctx, a.num, func(r driver.Reader) error {
		st.Segments, st.Docs, st.Bytes = 0, 0, 0
		dir, err := a.currentDirectory(r)
		if err != nil {
			return err
		}
		st.Indexed, st.Segments = dir.last(), len(dir.segments)
		for i := range dir.segments {
			st.Docs += dir.segments[i].Docs
			st.Bytes += dir.segments[i].Bytes
		}
		return nil
	})
	if damagedIndex(err) {
		return st, nil // nothing is indexed
	}
	if err != nil {
		return st, imap.E("mailstore: state of the index", imap.Other, err)
	}
	return st, nil
}

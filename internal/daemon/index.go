package daemon

import (
	"context"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/mailstore"
)

// indexPoll is how often the state of an index is looked at while it is made.
const indexPoll = 50 * time.Millisecond

// Index implements admin.Service.
func (c *control) Index(ctx context.Context, req admin.IndexRequest, report func(admin.Event)) ([]admin.IndexState, error) {
	names := []string{req.User}
	if req.User == "" {
		list, err := c.store.Accounts(ctx)
		if err != nil {
			return nil, err
		}
		names = names[:0]
		for _, a := range list {
			names = append(names, a.Name)
		}
	}
	states := make([]admin.IndexState, 0, len(names))
	for _, name := range names {
		a, err := c.store.Lookup(ctx, name)
		if imap.KindOf(err) == imap.NotFound {
			if req.User == "" {
				continue // removed meanwhile
			}
			return nil, told(imap.NotFound, "there is no mail of %s here", name)
		}
		if err != nil {
			return nil, err
		}
		if req.Rebuild {
			a.RebuildIndex()
		}
		st, err := indexed(ctx, a, req.Rebuild, report)
		if err != nil {
			return nil, err
		}
		states = append(states, admin.IndexState{User: name, Indexed: uint64(st.Docs), Waiting: st.Messages - min(st.Messages, st.Indexed), Segments: st.Segments, Bytes: st.Bytes})
	}
	return states, nil
}

// indexed returns the state of an account's index, with wait set when nothing is
// being built any more.
func indexed(ctx context.Context, a *mailstore.Account, wait bool, report func(admin.Event)) (mailstore.IndexState, error) {
	for {
		st, err := a.IndexState(ctx)
		if err != nil || !wait || !st.Working {
			return st, err
		}
		report(admin.Event{Done: int64(st.Indexed), Total: int64(st.Messages)})
		select {
		case <-time.After(indexPoll):
		case <-ctx.Done():
			return st, ctx.Err()
		}
	}
}

package imapmodel

import (
	"context"

	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/mailindex"
)

var _ imapserver.SearchIndex = (*session)(nil)

// Search implements imapserver.SearchIndex with what the model knows.
func (s *session) Search(ctx context.Context, view *mailindex.Snapshot, term *imapserver.SearchTerm, answers []imapserver.SearchAnswer) error {
	searcher := s.bx.b.parts.searcher
	if searcher == nil {
		return nil
	}
	keys, positions := s.bx.keysOf(view, answers)
	if len(keys) == 0 {
		return nil
	}
	found := make([]imapserver.SearchAnswer, len(keys))
	for i := range found {
		found[i] = imapserver.SearchOpen
	}
	if err := searcher.Search(ctx, s.bx.acct.user, s.bx.modelName(), term, keys, found); err != nil {
		return err
	}
	for i, pos := range positions {
		if found[i] == imapserver.SearchYes || found[i] == imapserver.SearchNo {
			answers[pos] = found[i]
		}
	}
	return nil
}

// keysOf returns the keys of the messages that are asked for and still there.
// Those that are gone the model knows no more.
func (bx *box) keysOf(view *mailindex.Snapshot, answers []imapserver.SearchAnswer) (keys []string, positions []int) {
	bx.mu.Lock()
	defer bx.mu.Unlock()
	if bx.virtual {
		return nil, nil
	}
	for p := range view.Pages() {
		for i, uid := range p.UIDs {
			if pos := p.First + i; answers[pos] == imapserver.SearchOpen {
				if it := bx.byUID[uid]; it != nil {
					keys, positions = append(keys, it.key), append(positions, pos)
				}
			}
		}
	}
	return keys, positions
}

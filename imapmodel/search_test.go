package imapmodel_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/memory"
	"github.com/rookery-mail/rookery/message"
)

// searching is a model that says which messages match, by their keys.
type searching struct {
	*memory.Model
	asked []string
	says  map[string]imapserver.SearchAnswer
	err   error
}

func (s *searching) Features() imapmodel.Features {
	return s.Model.Features() | imapmodel.FeatureSearch
}

func (s *searching) Search(_ context.Context, user, mailbox string, term *imapserver.SearchTerm, keys []string, answers []imapserver.SearchAnswer) error {
	s.asked = append(s.asked, fmt.Sprint(user, " ", mailbox, " ", string(term.Text.Needle), " ", keys))
	for i, key := range keys {
		if a, ok := s.says[key]; ok {
			answers[i] = a
		}
	}
	return s.err
}

func TestModelSearches(t *testing.T) {
	m := &searching{Model: memory.New(), says: map[string]imapserver.SearchAnswer{}}
	for range 4 {
		m.Add("ann", "INBOX", "Subject: x\r\n\r\nbody\r\n")
	}
	list, err := m.Messages(t.Context(), "ann", "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	m.says[list[0].Key] = imapserver.SearchYes
	m.says[list[2].Key] = imapserver.SearchNo
	m.says[list[3].Key] = imapserver.SearchSkip // no answer
	e := newEnv(t, m, imapmodel.Options{})
	defer e.close()
	box, err := e.acct.Mailbox(t.Context(), imap.Inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	view, err := box.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	term := &imapserver.SearchTerm{Text: &message.Key{Where: message.InBody, Needle: []byte("BODY")}}
	ask := func(answers ...imapserver.SearchAnswer) ([]imapserver.SearchAnswer, error) {
		return answers, box.(imapserver.SearchIndex).Search(t.Context(), view, term, answers)
	}
	const skip, open, no, yes = imapserver.SearchSkip, imapserver.SearchOpen, imapserver.SearchNo, imapserver.SearchYes
	got, err := ask(open, open, open, open)
	if want := []imapserver.SearchAnswer{yes, open, no, open}; err != nil || !slices.Equal(got, want) {
		t.Errorf("answers %v, want %v, error %v", got, want, err)
	}
	if got, err = ask(skip, open, skip, skip); err != nil || !slices.Equal(got, []imapserver.SearchAnswer{skip, open, skip, skip}) {
		t.Errorf("answers %v, error %v", got, err)
	}
	if want := fmt.Sprint("ann INBOX BODY ", []string{list[1].Key}); m.asked[1] != want {
		t.Errorf("the model was asked %q, want %q", m.asked[1], want)
	}
	if _, err := ask(skip, skip, skip, skip); err != nil || len(m.asked) != 2 {
		t.Errorf("the model was asked about nothing: %q, error %v", m.asked, err)
	}

	// A message that is gone, which this session still shows, the model knows no
	// more.
	if err := m.Remove(t.Context(), "ann", "INBOX", []string{list[0].Key}); err != nil {
		t.Fatal(err)
	}
	if _, err := box.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(open, open, open, open); err != nil || !slices.Equal(got, []imapserver.SearchAnswer{open, open, no, open}) {
		t.Errorf("answers %v, error %v", got, err)
	}
	m.err = imap.No("", "not now")
	if _, err := ask(open, open, open, open); err == nil {
		t.Error("the model's error is lost")
	}
}

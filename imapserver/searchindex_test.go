package imapserver_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/memory"
)

// indexed is a back end whose mailboxes have an index of their own, which knows
// most answers.
type indexed struct {
	imapserver.Backend
	asked []string // terms
}

func (b *indexed) Open(ctx context.Context, user string) (imapserver.Account, error) {
	a, err := b.Backend.Open(ctx, user)
	return &indexedAccount{a, b}, err
}

type indexedAccount struct {
	imapserver.Account
	b *indexed
}

func (a *indexedAccount) Mailbox(ctx context.Context, name string) (imapserver.Mailbox, error) {
	m, err := a.Account.Mailbox(ctx, name)
	return &indexedMailbox{m, a.b}, err
}

type indexedMailbox struct {
	imapserver.Mailbox
	b *indexed
}

// Search answers for two of three messages, and then spoils what it was not
// asked about.
func (m *indexedMailbox) Search(ctx context.Context, view *mailindex.Snapshot, term *imapserver.SearchTerm, answers []imapserver.SearchAnswer) error {
	note := "sent"
	if term.Text != nil {
		note = fmt.Sprint(term.Text.Where, term.Text.Name, string(term.Text.Needle))
	}
	for pos, row := range view.Rows() {
		if answers[pos] != imapserver.SearchOpen {
			continue
		}
		note += fmt.Sprint(" ", pos+1)
		if pos%3 == 0 {
			continue
		}
		err := m.Fetch(ctx, []mailindex.Row{row}, imapserver.NeedDigest|imapserver.NeedText, func(_ int, msg *imapserver.Message) error {
			yes := term.Sent != nil && term.Sent.Contain(msg.Digest) || term.Text != nil && msg.Text.Match(*term.Text)
			answers[pos] = imapserver.SearchNo
			if yes {
				answers[pos] = imapserver.SearchYes
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	m.b.asked = append(m.b.asked, note)
	return nil
}

var _ imapserver.SearchIndex = (*indexedMailbox)(nil)

// searchProgram is a program and the messages that it finds.
type searchProgram struct {
	text  string
	found []bool
}

// combine makes a random program out of simple ones.
func combine(rnd *rand.Rand, simple []searchProgram, depth int) searchProgram {
	if depth == 0 || rnd.IntN(3) == 0 {
		return simple[rnd.IntN(len(simple))]
	}
	a, b := combine(rnd, simple, depth-1), combine(rnd, simple, depth-1)
	p := searchProgram{found: slices.Clone(a.found)}
	switch rnd.IntN(3) {
	case 0:
		p.text = "NOT " + a.text
	case 1:
		p.text = "OR " + a.text + " " + b.text
	default:
		p.text = "(" + a.text + " " + b.text + ")"
	}
	for i := range p.found {
		switch p.text[0] {
		case 'N':
			p.found[i] = !a.found[i]
		case 'O':
			p.found[i] = a.found[i] || b.found[i]
		default:
			p.found[i] = a.found[i] && b.found[i]
		}
	}
	return p
}

// TestSearchPrograms: combinations find what their parts say, with an index
// that knows most answers, and without.
func TestSearchPrograms(t *testing.T) {
	const messages = 150
	m := memory.New()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range messages {
		m.Add("ann", "INBOX", fmt.Sprintf("From: u%d@example.org\r\nSubject: s%d\r\nDate: %d Jan 2020 12:00:00 +0000\r\n\r\nb%d\r\n",
			rnd.IntN(4), rnd.IntN(3), 1+rnd.IntN(5), rnd.IntN(4)))
	}
	plain := overMemory(t, m)
	with := &indexed{Backend: plain}
	c := selected(t, newServer(t, plain, imapserver.Options{}))
	ci := selected(t, newServer(t, with, imapserver.Options{}))
	c.ok("STORE 3:90 +FLAGS (\\Seen)")
	c.ok("STORE 40:100 +FLAGS (kw)")
	ci.ok("NOOP")
	search := func(c *client, program string) (found []bool) {
		found = make([]bool, messages)
		for _, line := range c.ok("SEARCH " + program) {
			for _, n := range strings.Fields(strings.TrimPrefix(line, "* SEARCH")) {
				i, err := strconv.Atoi(n)
				if err != nil {
					t.Fatal(err)
				}
				found[i-1] = true
			}
		}
		return found
	}
	var simple []searchProgram
	for _, text := range []string{
		"ALL", "UNSEEN", "SEEN", "KEYWORD kw", "UNKEYWORD kw", "DELETED", "1:50", "UID 20:140", "SMALLER 100", "NOT ALL",
		"FROM u1", "FROM u", "SUBJECT s2", "HEADER DATE \"2 jan\"", "HEADER X-NONE \"\"", "HEADER SUBJECT \"\"",
		"BODY b1", "TEXT s1", "TEXT nothing", "SENTON 3-Jan-2020", "SENTSINCE 2-Jan-2020", "SENTBEFORE 4-Jan-2020",
	} {
		simple = append(simple, searchProgram{text, search(c, text)})
	}
	for range 300 {
		p := combine(rnd, simple, 4)
		for name, c := range map[string]*client{"with an index": ci, "without": c} {
			if got := search(c, p.text); !slices.Equal(got, p.found) {
				t.Fatalf("%s: SEARCH %s\ngot  %v\nwant %v", name, p.text, got, p.found)
			}
		}
	}
}

// TestSearchAsksLittle: what is cheap is asked first, and decides about whom the
// index is asked.
func TestSearchAsksLittle(t *testing.T) {
	m := memory.New()
	for i := range 5 {
		m.Add("ann", "INBOX", fmt.Sprintf("From: u%d@example.org\r\n\r\nbody\r\n", i%2))
	}
	with := &indexed{Backend: overMemory(t, m)}
	c := selected(t, newServer(t, with, imapserver.Options{}))
	c.ok("STORE 1 +FLAGS (\\Seen)")
	for program, want := range map[string]string{
		"BODY body FROM u1 UNSEEN":          "0fromU1 2 3 4 5|1BODY 2 4",
		"OR BODY body FROM u1":              "0fromU1 1 2 3 4 5|1BODY 1 3 4 5",
		"BODY body DELETED":                 "",
		"SENTSINCE 1-Jan-2020 2":            "sent 2",
		"OR ALL TEXT u1 BODY body FROM u 5": "0fromU 5|1BODY 5",
	} {
		with.asked = nil
		c.ok("SEARCH " + program)
		if got := strings.Join(with.asked, "|"); got != want {
			t.Errorf("SEARCH %s asks %q, want %q", program, got, want)
		}
	}
}

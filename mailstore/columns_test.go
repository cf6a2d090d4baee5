package mailstore_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/corpus"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/message"
)

// oddValues are values of header fields as they come.
var oddValues = []string{
	"Ann <ann@example.org>", "\"Ann, B.\" <ann@example.org>,\r\n\tbob@example.com", "friends: ann@example.org, Bob <bob@example.com>;",
	"undisclosed-recipients:;", "", " ", "=?UTF-8?B?w6RyZ2Vy?= <aerger@example.org>", "=?iso-8859-1?Q?=E4rger=20und?=\r\n =?iso-8859-1?Q?_mehr?=",
	"=?UTF-8?Q?line=0D=0Aend?=", "8bit \xe4\xf6\xfc", "\xc3\xa4 utf-8", "İstanbul straße ﬀ", "<id1@example.org>", "<id2@example.org> <id1@example.org>",
	"Wed, 1 Jan 2020 23:30:00 -0500", "Thu, 2 Jan 2020 02:00:00 +0300", "31 Dec 2019 10:00:00 GMT", "no date", "=?bad?X?y?=", "a: b", "Subject: inside",
	"list.example.org", strings.Repeat("x@example.org, ", 1500) + "end@example.org",
}

var oddNames = []string{
	"From", "To", "Cc", "Bcc", "Subject", "Message-ID", "In-Reply-To", "References", "List-Id", "Reply-To", "Sender", "Date",
	"FROM", "from", "X-From", "Subject ", "subject", "Received",
}

// oddMail is a message with a random header.
func oddMail(rnd *rand.Rand) string {
	var b strings.Builder
	for range rnd.IntN(9) {
		fmt.Fprintf(&b, "%s:%s%s\r\n", oddNames[rnd.IntN(len(oddNames))], " "[:rnd.IntN(2)], oddValues[rnd.IntN(len(oddValues))])
	}
	b.WriteString("\r\n")
	switch rnd.IntN(40) {
	case 0:
		b.WriteString(strings.Repeat("straw ", 300_000)) // its text is cut off
	case 1:
		return "no header at all"
	default:
		fmt.Fprintf(&b, "body %d\r\n", rnd.IntN(100))
	}
	return b.String()
}

// oddTerms are things to look for.
func oddTerms(rnd *rand.Rand, n int) (terms []*mailstore.Term) {
	for range n {
		if rnd.IntN(5) == 0 {
			day := imap.MakeTime(1577836800, 0).Date() + imap.Date(rnd.IntN(5)-2)
			days := []mailstore.SentDays{{Since: -1 << 31, Before: day}, {Since: day, Before: day + 1}, {Since: day, Before: 1<<31 - 1}}
			terms = append(terms, &mailstore.Term{Sent: &days[rnd.IntN(3)]})
			continue
		}
		needle := oddValues[rnd.IntN(len(oddValues))]
		switch from := rnd.IntN(len(needle) + 1); rnd.IntN(4) {
		case 0:
			needle = ""
		case 1:
			needle = "nobody has this"
		default:
			needle = needle[from:min(len(needle), from+1+rnd.IntN(8))]
		}
		name := strings.ToLower(oddNames[rnd.IntN(len(oddNames))])
		if rnd.IntN(20) == 0 {
			name = []string{"", "subject: ", "ſubject", "x"}[rnd.IntN(4)]
		}
		terms = append(terms, &mailstore.Term{Text: &message.Key{Where: message.InHeader, Name: name, Needle: message.Fold(nil, needle)}})
	}
	return terms
}

// matches says what the message itself says.
func matches(t fataler, term *mailstore.Term, m *mailstore.Message) bool {
	t.Helper()
	if m.Err != nil {
		t.Fatal(m.Err)
	}
	if term.Sent != nil {
		at, ok := m.Digest.SentDate()
		return ok && term.Sent.Since <= imap.DateOf(at) && imap.DateOf(at) < term.Sent.Before
	}
	if m.Text.Match(*term.Text) {
		return true
	}
	if !m.Text.Truncated {
		return false
	}
	size := m.Digest.Size
	raw := make([]byte, size)
	if n, err := m.Body.ReadAt(raw, 0); int64(n) < size {
		t.Fatal(err)
	}
	found, err := message.Scan(strings.NewReader(string(raw)), message.Limits{}, []message.Key{*term.Text})
	if err != nil {
		t.Fatal(err)
	}
	return found[0]
}

// searchAll compares what Search says of a view with what the messages say, and
// returns how many answers it has left open.
func searchAll(t fataler, m *mailstore.Mailbox, view *mailindex.Snapshot, terms []*mailstore.Term, skip func(pos int) bool) (open, asked int) {
	t.Helper()
	answers := make([][]mailstore.Answer, len(terms))
	for i, term := range terms {
		answers[i] = make([]mailstore.Answer, view.Len())
		for pos := range answers[i] {
			if !skip(pos) {
				answers[i][pos] = mailstore.AnswerOpen
				asked++
			}
		}
		if err := m.Search(ctx, view, term, answers[i]); err != nil {
			t.Fatal(err)
		}
	}
	need := mailstore.NeedDigest | mailstore.NeedText | mailstore.NeedBody
	err := m.Fetch(ctx, allRows(view), need, func(pos int, msg *mailstore.Message) error {
		for i, term := range terms {
			switch answers[i][pos] {
			case mailstore.AnswerSkip:
				if !skip(pos) {
					t.Fatalf("position %d has lost its answer", pos)
				}
			case mailstore.AnswerOpen:
				open++
			default:
				want := matches(t, term, msg)
				if got := answers[i][pos] == mailstore.AnswerYes; got != want || skip(pos) {
					t.Fatalf("%+v %+v: position %d is %v, want %v, header\n%q", term.Text, term.Sent, pos, got, want, msg.Text.Header)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return open, asked
}

func all(int) bool { return false }

// TestColumnsSayWhatMessagesSay: whatever happens to a mailbox, and however far
// the columns are, they never say what the messages do not.
func TestColumnsSayWhatMessagesSay(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			b := newBench(t, mailstore.Options{ColumnRows: 1 + rnd.IntN(20)})
			a := b.account(t, "ann")
			if _, err := a.Create(ctx, "Other", nil); err != nil {
				t.Fatal(err)
			}
			for range 40 {
				box, other := imap.Inbox, "Other"
				if rnd.IntN(3) == 0 {
					box, other = other, box
				}
				m := open(t, a, box)
				view := snapshot(t, m)
				some := imap.UIDSet{}
				for _, row := range allRows(view) {
					if rnd.IntN(3) == 0 {
						some.Add(row.UID)
					}
				}
				switch rnd.IntN(12) {
				case 0:
					if _, err := m.Copy(ctx, some, other); err != nil {
						t.Fatal(err)
					}
				case 1:
					if _, err := m.Move(ctx, some, other); err != nil {
						t.Fatal(err)
					}
				case 2:
					if _, err := m.Store(ctx, &mailstore.StoreRequest{UIDs: some, Op: mailstore.FlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}); err != nil {
						t.Fatal(err)
					}
					if err := m.Expunge(ctx, nil); err != nil {
						t.Fatal(err)
					}
				case 3:
					m.Close()
					b.restart(t)
					a = b.account(t, "ann")
					m = open(t, a, box)
				case 4:
					mailstore.Derived(a)
				case 5:
					mailstore.Gone(a)
				default:
					for range rnd.IntN(12) {
						appendMail(t, a, box, oddMail(rnd))
					}
				}
				share := rnd.IntN(3)
				searchAll(t, m, snapshot(t, m), oddTerms(rnd, 4), func(pos int) bool { return share > 0 && pos%share != 0 })
				m.Close()
			}
			check(t, b.store)
		})
	}
}

// TestColumnsAnswer: what is derived is answered, and what a restart, a tidying
// or damage leaves is as good as before.
func TestColumnsAnswer(t *testing.T) {
	b := newBench(t, mailstore.Options{ColumnRows: 16})
	a := b.account(t, "ann")
	rnd := rand.New(rand.NewPCG(1, 1))
	for i := range 200 {
		appendMail(t, a, imap.Inbox, fmt.Sprintf("From: u%d@example.org\r\nDate: %d Jan 2020 10:00:00 +0000\r\n\r\nx\r\n", i%7, 1+i%5))
	}
	terms := []*mailstore.Term{
		{Text: &message.Key{Where: message.InHeader, Name: "from", Needle: []byte("U3@")}},
		{Text: &message.Key{Where: message.InHeader, Name: "subject"}},
		{Sent: &mailstore.SentDays{Since: 18262, Before: 18264}},
	}
	ready := func() (mark uint64) {
		t.Helper()
		if mark = mailstore.Derived(a); mark < 199 {
			t.Fatalf("columns are up to message %d", mark)
		}
		return mark
	}
	mark := ready()
	m := open(t, a, imap.Inbox)
	// What columns do not have yet, the texts tell, except for dates.
	if open, asked := searchAll(t, m, snapshot(t, m), terms, all); open != int(200-mark) {
		t.Errorf("%d of %d answers are open", open, asked)
	}

	// Most messages go: blocks become fewer.
	var gone imap.UIDSet
	for uid := imap.UID(1); uid <= 200; uid++ {
		if rnd.IntN(8) > 0 {
			gone.Add(uid)
		}
	}
	if _, err := m.Store(ctx, &mailstore.StoreRequest{UIDs: gone, Op: mailstore.FlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}); err != nil {
		t.Fatal(err)
	}
	if err := m.Expunge(ctx, nil); err != nil {
		t.Fatal(err)
	}
	m.Close()
	b.restart(t)
	a = b.account(t, "ann")
	m = open(t, a, imap.Inbox)
	before := columnRecords(t, b)
	for after := before; len(after) > len(before)/4; after = columnRecords(t, b) {
		// Expunged messages go in the background, too.
		mailstore.Gone(a)
		mark = ready()
	}
	left := slices.DeleteFunc(allRows(snapshot(t, m)), func(r mailindex.Row) bool { return r.Msg <= mark })
	if open, _ := searchAll(t, m, snapshot(t, m), terms, all); open != len(left) {
		t.Errorf("%d answers are open, want %d", open, len(left))
	}
}

// TestColumnsDamaged: a damaged block answers nothing, and all are built anew.
func TestColumnsDamaged(t *testing.T) {
	b := newBench(t, mailstore.Options{ColumnRows: 8})
	a := b.account(t, "ann")
	for i := range 50 {
		appendMail(t, a, imap.Inbox, fmt.Sprintf("From: u%d@example.org\r\n\r\nx\r\n", i%7))
	}
	terms := []*mailstore.Term{{Text: &message.Key{Where: message.InHeader, Name: "from", Needle: []byte("U3@")}}}
	m := open(t, a, imap.Inbox)
	view := snapshot(t, m)
	mailstore.Derived(a)
	for _, spoil := range []string{"", "\x01", "\x01\x01\xff\xff\xff\xff\x7f\x00", "\x00\x00", "\x01\x01\x07\x01\x09\x00", "\x01\x01\x07\x00\x05", "\x01\x63\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"} {
		keys := columnRecords(t, b)
		err := b.kv.Update(ctx, 1, func(tx driver.Txn) error {
			for _, key := range keys {
				if err := tx.Set([]byte(key), []byte(spoil)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		searchAll(t, m, view, terms, all)
		searchAll(t, m, view, terms, all)
		mailstore.Derived(a)
		if left, _ := searchAll(t, m, view, terms, all); left > 1 {
			t.Errorf("after %q %d answers are open", spoil, left)
		}
	}
}

// columnRecords returns the keys of all blocks.
func columnRecords(t *testing.T, b *bench) (keys []string) {
	t.Helper()
	err := b.kv.View(ctx, 1, func(r driver.Reader) error {
		keys = nil
		return r.Scan([]byte("l"), []byte("m"), func(key, _ []byte) bool {
			keys = append(keys, string(key))
			return true
		})
	})
	if err != nil || len(keys) == 0 {
		t.Fatal("no columns", err)
	}
	return keys
}

// TestColumnsOfRealMail compares columns and messages over the corpus.
func TestColumnsOfRealMail(t *testing.T) {
	mails := corpus.Messages(t)
	b := newBench(t, mailstore.Options{ColumnRows: 50})
	a := b.account(t, "ann")
	var words []string
	for _, mail := range mails {
		appendMail(t, a, imap.Inbox, strings.ReplaceAll(string(mail.Raw), "\x00", " "))
		if header, _, ok := strings.Cut(string(mail.Raw), "\r\n\r\n"); ok {
			words = append(words, strings.Fields(header)...)
		}
	}
	mailstore.Derived(a)
	rnd := rand.New(rand.NewPCG(3, 3))
	var terms []*mailstore.Term
	for range min(len(words), 300) {
		word := words[rnd.IntN(len(words))]
		name := oddNames[rnd.IntN(len(oddNames))]
		terms = append(terms, &mailstore.Term{Text: &message.Key{
			Where: message.InHeader, Name: name, Needle: message.Fold(nil, word[:min(len(word), 1+rnd.IntN(12))])}})
	}
	m := open(t, a, imap.Inbox)
	searchAll(t, m, snapshot(t, m), terms, all)
}

package mailstore_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore"
)

// TestSaveDateOfCopies: what clients are told of when a copy was saved is what is on
// disk (RFC 8514), also where the clock goes on while it is made, in one transaction or
// in many.
func TestSaveDateOfCopies(t *testing.T) {
	for name, opts := range map[string]mailstore.Options{"one transaction": {}, "many": {TxnRows: 2}} {
		t.Run(name, func(t *testing.T) {
			seconds := int64(1_700_000_000)
			opts.Now = func() time.Time { seconds++; return time.Unix(seconds, 0) }
			opts.DeriveDelay = time.Hour // the background has no use for the clock
			b := newBench(t, opts)
			a := b.account(t, "ann")
			if _, err := a.Create(ctx, "Copies", nil); err != nil {
				t.Fatal(err)
			}
			for range 5 {
				appendMail(t, a, imap.Inbox, mail("one"))
			}
			all := imap.UIDSetOfRange(1, 5)
			session := open(t, a, "Copies") // which is told
			snapshot(t, session)
			m := open(t, a, imap.Inbox)
			if _, err := m.Copy(ctx, all, "Copies"); err != nil {
				t.Fatal(err)
			}
			if _, err := m.Move(ctx, all, "Copies"); err != nil {
				t.Fatal(err)
			}
			m.Close()
			dates := func(m *mailstore.Mailbox) (list []int64) {
				for _, r := range allRows(snapshot(t, m)) {
					list = append(list, r.SaveDate)
				}
				return list
			}
			told := dates(session)
			session.Close()
			b.restart(t)
			session = open(t, b.account(t, "ann"), "Copies")
			defer session.Close()
			if diff := cmp.Diff(told, dates(session)); diff != "" {
				t.Errorf("after a restart the dates are others (-told +now):\n%s", diff)
			}
			if told[0] != told[4] || told[5] != told[9] {
				t.Errorf("parts of one copy have times of their own: %v", told)
			}
		})
	}
}

package mailstore_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// A store whose newest messages are lost never shows new messages in their
// place, even where it is opened without a repair.
func TestLostMessagesStayLost(t *testing.T) {
	fs := vfs.NewMem()
	c := metaConfig{opts: quiet(mailstore.Options{}), engines: embedded(pebblekv.Options{}, bloblog.Options{SegmentBytes: 2000, Manual: true})}
	life := func(do func(a *mailstore.Account)) {
		t.Helper()
		kv, blobs := c.engines(t, fs)
		b := &bench{kv: kv, blobs: blobs, opts: c.opts}
		b.open(t)
		do(b.account(t, "ann"))
		if err := errors.Join(b.store.Close(ctx), kv.Close()); err != nil {
			t.Fatal(err)
		}
	}
	segments := func() map[string]bool {
		names, err := fs.List("blobs")
		if err != nil {
			t.Fatal(err)
		}
		set := make(map[string]bool)
		for _, name := range names {
			if strings.HasSuffix(name, ".log") || strings.HasSuffix(name, ".seg") {
				base, _, _ := strings.Cut(name, ".")
				set[base] = true
			}
		}
		return set
	}
	fill := func(a *mailstore.Account, subject string) {
		for range 10 {
			appendMail(t, a, "INBOX", mail(subject)+strings.Repeat("and more\r\n", 50))
		}
	}
	life(func(a *mailstore.Account) { fill(a, "first") })
	old := segments()
	life(func(a *mailstore.Account) { fill(a, "lost") })
	for name := range segments() {
		if !old[name] {
			_ = fs.Remove("blobs/" + name + ".log")
			_ = fs.Remove("blobs/" + name + ".seg")
		}
	}
	life(func(a *mailstore.Account) {
		fill(a, "later")
		m := open(t, a, "INBOX")
		defer m.Close()
		snap := snapshot(t, m)
		var rows []mailindex.Row
		for i := range snap.Len() {
			rows = append(rows, snap.Row(i))
		}
		err := m.Fetch(ctx, rows, mailstore.NeedBody, func(i int, msg *mailstore.Message) error {
			want := []string{"first", "lost", "later"}[i/10]
			if want == "lost" {
				if k := imap.KindOf(msg.Err); k != imap.NotFound && k != imap.Corruption {
					t.Errorf("message %d is lost, and reading it gives %v", i+1, msg.Err)
				}
				return nil
			}
			if msg.Err != nil {
				t.Errorf("message %d: %v", i+1, msg.Err)
				return nil
			}
			got := make([]byte, msg.Size)
			if _, err := msg.Body.ReadAt(got, 0); err != nil && err != io.EOF || !strings.Contains(string(got), "Subject: "+want) {
				t.Errorf("message %d: %v, %.80q, want %s", i+1, err, got, want)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

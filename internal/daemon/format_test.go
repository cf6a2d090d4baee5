package daemon

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/internal/durable"
	"github.com/rookery-mail/rookery/mailstore"
)

// TestFormatIsRaised: a folder of format 2, in which nothing is different, is of format 3
// when a server has had it, wherever the power goes; others refuse it until then.
func TestFormatIsRaised(t *testing.T) {
	ctx := context.Background()
	silent := slog.New(slog.DiscardHandler)
	crashfs.EveryCut(t, 5, func() crashfs.Scenario {
		return crashfs.Scenario{
			Prepare: func(t *testing.T, fs *crashfs.FS) {
				s := openHome(t, fs)
				a, err := s.store.Account(ctx, "ann")
				if err != nil {
					t.Fatal(err)
				}
				u, err := a.Upload(ctx, -1)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.WriteString(u, "Subject: old\r\n\r\nmail\r\n") // Append reports its error
				if _, err := a.Append(ctx, imap.Inbox, []mailstore.AppendItem{{Upload: u}}); err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if err := durable.WriteFile(fs, home+"/FORMAT", "rookery store\nformat 2\n", "test"); err != nil {
					t.Fatal(err)
				}
				if _, err := openTuned(ctx, home, tuning{log: silent, fs: fs}); imap.KindOf(err) != imap.ContactAdmin || !strings.Contains(err.Error(), "start the server") {
					t.Errorf("who does not serve it: %v", err)
				}
			},
			Run: func(t *testing.T, fs *crashfs.FS) {
				s, err := openTuned(ctx, home, tuning{log: silent, fs: fs, serving: true})
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			},
			Check: func(t *testing.T, fs *crashfs.FS) {
				s, err := openTuned(ctx, home, tuning{log: silent, fs: fs, serving: true})
				if err != nil {
					t.Fatal(err)
				}
				if s.dir.Format() != 3 {
					t.Errorf("format %d", s.dir.Format())
				}
				if box := lookAt(t, s).Boxes["ann:INBOX"]; box == nil || len(box.Rows) != 1 {
					t.Errorf("INBOX: %+v", box)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			},
		}
	})
}

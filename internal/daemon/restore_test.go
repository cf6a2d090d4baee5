package daemon_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/internal/daemon"
	"github.com/rookery-mail/rookery/internal/mailimport"
)

func text(s string, flags ...imap.Flag) mailimport.Item {
	return mailimport.Item{Flags: flags, Date: imap.MakeTime(1234567890, -330), Size: int64(len(s)),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }}
}

// backedUp makes a folder with mail of all kinds, and a backup of it.
func backedUp(t *testing.T) (data, backup string) {
	t.Helper()
	ctx := context.Background()
	base := t.TempDir()
	data, backup = filepath.Join(base, "data"), filepath.Join(base, "backup")
	s := connect(t, data)
	ann := s.Import("ann")
	must(t, s.PrepareRestore(ctx, admin.RestorePlan{User: "ann", Mailboxes: []admin.RestoreMailbox{
		{Name: "Big", Uses: []string{`\Archive`}}, {Name: "Empty", Subscribed: true}, {Name: "Only", NoSelect: true}, {Name: "Only/Parent"},
	}, Subscriptions: []string{"Elsewhere"}}))
	must(t, s.Import("bob").Prepare(ctx, "INBOX"))
	many := []mailimport.Item{
		text("Subject: odd\n\nlines\rof all\nkinds, \x00 and \x80", imap.FlagDeleted, "$Work", "other"),
		text(""), text("no header"), text("Subject: last\r\n\r\nof these", imap.FlagSeen, imap.FlagAnswered),
	}
	for range 150 {
		many = append(many, text("Subject: one of many\r\n\r\nsmall", "a", "b"))
	}
	must(t, ann.Import(ctx, "Only/Parent", many))
	must(t, ann.Import(ctx, "Big", []mailimport.Item{
		text("Subject: before\r\n\r\n"), text("Subject: big\r\n\r\n" + strings.Repeat("0123456789abcde\r\n", 400_000)), text("Subject: after\r\n\r\n"),
	}))
	_, err := s.Backup(ctx, admin.BackupRequest{Dir: backup}, func(admin.Event) {})
	must(t, err)
	must(t, s.Close())
	return data, backup
}

// TestRestoreAccount: a restored account is to clients what it was, and so is
// one that was restored from that.
func TestRestoreAccount(t *testing.T) {
	ctx := context.Background()
	_, from := backedUp(t)
	want := dump(t, from)
	for _, word := range []string{"Elsewhere", `\Archive`, "NoSelect:true", "6800016"} {
		if !strings.Contains(want, word) {
			t.Errorf("%q is not in the backup:\n%s", word, want)
		}
	}
	for range 2 {
		to := filepath.Join(t.TempDir(), "to")
		s := connect(t, to)
		for _, user := range []string{"ann", "bob"} {
			r := &recorder{}
			res, err := daemon.Restore(ctx, from, s, daemon.RestoreRequest{User: user, As: user}, r)
			must(t, err)
			if user == "ann" && (res.Messages != 157 || res.Mailboxes != 4 || res.Unread != 0) {
				t.Errorf("restored %+v", res)
			}
			if r.log.Len() > 0 {
				t.Errorf("noted: %s", r.log.String())
			}
		}
		must(t, s.Close())
		if got := dump(t, to); got != want {
			t.Errorf("restored (-want +got):\n%s", cmp.Diff(want, got))
		}
		from = to
	}
}

// TestRestoreDamaged leaves out what the backup has damaged, and says so.
func TestRestoreDamaged(t *testing.T) {
	ctx := context.Background()
	data, from := backedUp(t)
	for _, damage := range []string{"of these", "0123456789abcde\r\n"} {
		name := filepath.Join(from, "messages")
		flipped := 0
		files, err := os.ReadDir(name)
		must(t, err)
		for _, f := range files {
			path := filepath.Join(name, f.Name())
			b, err := os.ReadFile(path)
			must(t, err)
			if i := bytes.LastIndex(b, []byte(damage)); i >= 0 {
				b[i] ^= 1
				must(t, os.Remove(path)) // may be a link
				must(t, os.WriteFile(path, b, 0o600))
				flipped++
			}
		}
		if flipped != 1 {
			t.Fatalf("%d files have %q", flipped, damage)
		}
	}
	s := connect(t, data)
	defer s.Close()
	r := &recorder{}
	res, err := daemon.Restore(ctx, from, s, daemon.RestoreRequest{User: "ann", As: "carl"}, r)
	must(t, err)
	if res.Messages != 155 || res.Unread != 2 {
		t.Errorf("restored %+v", res)
	}
	for _, where := range []string{"Big UID 2", "Only/Parent UID 4"} {
		if !strings.Contains(r.log.String(), where) {
			t.Errorf("%s is not named in %q", where, r.log.String())
		}
	}
	if _, err := s.Check(ctx, func(e admin.Event) {
		if e.Defect != nil {
			t.Errorf("afterwards: %s", e.Defect)
		}
	}); err != nil {
		t.Error(err)
	}
}

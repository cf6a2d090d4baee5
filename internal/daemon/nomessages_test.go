package daemon

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/imap"
)

// A folder with the messages that is gone, or empty as a disk that is not
// mounted, is not taken for that of a new store, however often that is tried.
func TestMessagesAreGone(t *testing.T) {
	for _, empty := range []bool{false, true} {
		disk := vfs.NewMem()
		want, end := lived(t, disk, 1, 60)
		end()
		if err := disk.Rename(home+"/messages", "elsewhere"); err != nil {
			t.Fatal(err)
		}
		if empty {
			if err := disk.MkdirAll(home+"/messages", 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			s, err := openTuned(context.Background(), home, tuning{log: slog.New(slog.DiscardHandler), fs: disk})
			if err == nil {
				s.Close()
			}
			if imap.KindOf(err) != imap.ContactAdmin || !strings.Contains(err.Error(), "home/messages) is gone or empty") || !strings.Contains(err.Error(), "mount") {
				t.Fatalf("empty %v: opening gave %v", empty, err)
			}
		}
		if _, err := disk.Stat(home + "/messages"); !empty && err == nil {
			t.Error("a new folder is in the way of the old one")
		}
		hurt := copyDisk(t, disk)
		if empty {
			if err := disk.Remove(home + "/messages"); err != nil {
				t.Fatal(err)
			}
		}
		if err := disk.Rename("elsewhere", home+"/messages"); err != nil {
			t.Fatal(err)
		}
		s := openHome(t, disk)
		got := lookAt(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.Boxes, got.Boxes); diff != "" {
			t.Errorf("with the folder put back (-want +got):\n%s", diff)
		}
		repair(t, hurt) // and opens it
	}
}

// An account without messages, as a new user is, needs no files.
func TestNoMessagesYet(t *testing.T) {
	disk := vfs.NewMem()
	s := openHome(t, disk)
	if _, err := s.store.Account(context.Background(), "ann"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := disk.RemoveAll(home + "/messages"); err != nil {
		t.Fatal(err)
	}
	s = openHome(t, disk)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

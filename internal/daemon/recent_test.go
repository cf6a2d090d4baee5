package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/internal/crashfs"
)

// TestRecent starts a server again, whose client finds the mailbox in memory, and again
// with a list that somebody has spoilt.
func TestRecent(t *testing.T) {
	disk, dir := crashfs.New(), t.TempDir()
	s := serve(t, disk, dir, 0)
	if r := s.login().do("SELECT INBOX"); !strings.HasPrefix(r, "OK") {
		t.Fatal(r)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	for _, spoilt := range []string{"", "not a list", "null", `[{"user":"nobody","mailbox":"x"},{"user":7}]`} {
		if spoilt != "" {
			f, err := disk.Create(filepath.Join(dir, recentName), "rookery-datadir")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = f.Write([]byte(spoilt))
			f.Close()
		}
		s := serve(t, disk, dir, 0)
		<-s.d.storage.warming.done
		recent := s.d.storage.store.Recent(10)
		if got, want := len(recent), map[bool]int{true: 1}[spoilt == ""]; got != want {
			t.Errorf("after a start with the list %q %d mailboxes are in memory, not %d", spoilt, got, want)
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, recentName)); err == nil {
		t.Error("the list is not on the disk of the store")
	}
}

package daemon

import (
	"context"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/internal/admin"
)

// checked returns the defects that a check finds: of a folder that nobody has, or of a
// store at work.
func checked(t *testing.T, disk vfs.FS, s *storage) (list []admin.Defect) {
	t.Helper()
	if s == nil {
		dir, err := openDir(disk, home)
		if err != nil {
			t.Fatal(err)
		}
		if s, err = look(context.Background(), dir); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}()
	}
	k := &check{storage: s, report: func(e admin.Event) {
		if e.Defect != nil {
			list = append(list, *e.Defect)
		}
	}}
	if err := k.run(context.Background()); err != nil {
		t.Fatal(err)
	}
	return list
}

// TestRottenJournal: a journal that rots is found before it is needed, beside a server
// and without one; a repair mends it without touching the index, and with the mended
// one the index can be made again.
func TestRottenJournal(t *testing.T) {
	for _, kind := range []string{"state-", ".log", "gone"} {
		t.Run(kind, func(t *testing.T) {
			disk := vfs.NewMem()
			want, end := lived(t, disk, 3, 80)
			end()
			if list := checked(t, disk, nil); len(list) > 0 {
				t.Fatalf("before, a check finds %v", list)
			}
			rot(t, disk, kind)
			list := checked(t, disk, nil)
			if len(list) == 0 {
				t.Fatal("a check finds nothing")
			}
			for _, d := range list {
				if !strings.Contains(d.Text, "the journal of the index is damaged") || !strings.Contains(d.Text, "check --repair") {
					t.Errorf("a check finds %v", d)
				}
			}
			before := get(t, disk, home+"/index/JOURNAL")
			res, err := Repair(context.Background(), RepairRequest{DataDir: home, Report: func(RepairEvent) {}, fs: disk})
			if err != nil || res.Needed || len(res.JournalRenewed) == 0 {
				t.Fatalf("the repair gave %+v, %v", res, err)
			}
			if kind != "gone" && string(before) != string(get(t, disk, home+"/index/JOURNAL")) {
				t.Error("the index is another one")
			}
			if list := checked(t, disk, nil); len(list) > 0 {
				t.Errorf("after the repair a check finds %v", list)
			}
			if err := disk.RemoveAll(home + "/index"); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want.Boxes, repair(t, disk).now.Boxes); diff != "" {
				t.Errorf("the new journal has another store (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRottenJournalBesideServer: a check of a server at work finds it, too, and finds
// nothing where nothing is.
func TestRottenJournalBesideServer(t *testing.T) {
	disk := vfs.NewMem()
	_, end := lived(t, disk, 3, 80)
	end()
	s := openHome(t, disk)
	if list := checked(t, disk, s); len(list) > 0 {
		t.Errorf("of a whole journal: %v", list)
	}
	rot(t, disk, "state-")
	if list := checked(t, disk, s); len(list) == 0 {
		t.Error("a check finds nothing")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// rot overwrites a few bytes in the middle of each file of a kind in the journal.
func rot(t *testing.T, disk vfs.FS, kind string) {
	t.Helper()
	if kind == "gone" {
		if err := disk.RemoveAll(home + "/journal"); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range files(t, disk, home+"/journal") {
		data := get(t, disk, path)
		if !strings.Contains(path, kind) || len(data) < 200 {
			continue
		}
		copy(data[100:], "rott")
		if err := disk.Remove(path); err != nil {
			t.Fatal(err)
		}
		put(t, disk, path, data)
	}
}

package daemon

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/internal/admin"
)

// takeAway removes what matches a pattern in the data folder.
func takeAway(patterns ...string) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		for _, p := range patterns {
			list, err := filepath.Glob(home + "/" + p)
			if err != nil || len(list) == 0 {
				t.Fatalf("nothing matches %s: %v", p, err)
			}
			for _, path := range list {
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// watched is a store on a real disk that has some mail, and its log.
func watched(t *testing.T) (l *life, log *lockedBuffer) {
	t.Helper()
	t.Chdir(t.TempDir())
	log = new(lockedBuffer)
	s, err := openTuned(context.Background(), home, tuning{log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.Users().Set(context.Background(), "ann", "a hash"); err != nil {
		t.Fatal(err)
	}
	l = &life{t: t, rng: rand.New(rand.NewPCG(5, 99)), s: s, expunged: make(map[string]bool), users: []string{"ann", "bob"}}
	for range 20 {
		l.step()
	}
	return l, log
}

func (l *life) deliver(n int) {
	l.t.Helper()
	for range n {
		if err := l.append(l.account(), "INBOX", l.rng.IntN(200)); err != nil {
			l.t.Fatal(err)
		}
	}
}

func texts(list []admin.Defect) string {
	var b strings.Builder
	for _, d := range list {
		b.WriteString(d.String() + "\n")
	}
	return b.String()
}

// TestFilesVanish: whatever somebody removes from the data folder of a store at work, a
// check says so at once, the log and the numbers tell it, and nothing that was
// acknowledged is lost, neither before nor afterwards.
func TestFilesVanish(t *testing.T) {
	for _, test := range []struct {
		name  string
		take  func(t *testing.T)
		saved bool // the next start needs no repair
	}{
		{"segments being written", takeAway("messages/*.log"), true},
		{"messages", takeAway("messages"), true},
		{"deleted", takeAway("messages/deleted"), true},
		{"journal", takeAway("journal"), true},
		{"logs", takeAway("index/*.log"), true},
		{"logs everywhere", takeAway("index/*.log", "journal/*/*.log"), true},
		{"FORMAT", takeAway("FORMAT"), true},
		{"LOCK", takeAway("LOCK"), true},
		{"manifest", takeAway("index/MANIFEST*"), false},
		{"index", takeAway("index/*"), false},
		{"nearly all", takeAway("index/*", "journal", "messages/*.log", "FORMAT"), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			disk := vfs.Default
			l, log := watched(t)
			if list := checked(t, disk, l.s); len(list) > 0 {
				t.Fatalf("before, a check found %s", texts(list))
			}
			test.take(t)
			l.deliver(10)
			list := checked(t, disk, l.s)
			if len(list) == 0 {
				t.Error("a check finds nothing")
			}
			if text := texts(list); strings.Contains(text, "check --repair") == test.saved {
				t.Errorf("a check found %s", text)
			}
			l.deliver(10)
			if list := checked(t, disk, l.s); test.saved == (len(list) > 0) {
				t.Errorf("the next check found %s", texts(list))
			}
			if text := log.String(); strings.Count(text, "level=ERROR msg=\"files are gone from the data folder") < 1 {
				t.Errorf("the log says %s", text)
			}
			if n := l.s.stats(); n.saved+n.missing == 0 || test.saved != (n.missing == 0) {
				t.Errorf("%d files are counted as gone, %d as saved", n.missing, n.saved)
			}
			want := lookAt(t, l.s)
			if err := l.s.Close(); err != nil {
				t.Fatal(err)
			}
			if !test.saved {
				if _, err := openTuned(context.Background(), home, tuning{log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "check --repair") {
					t.Fatalf("the next start: %v", err)
				}
				res, err := Repair(context.Background(), RepairRequest{DataDir: home, Report: func(RepairEvent) {}})
				if err != nil || res.Lost+res.Recovered+res.Renewed > 0 {
					t.Fatalf("the repair gave %+v, %v", res, err)
				}
			}
			if list := checked(t, disk, nil); len(list) > 0 {
				t.Errorf("after the end a check found %s", texts(list))
			}
			s := openHome(t, disk)
			if diff := cmp.Diff(want.Boxes, lookAt(t, s).Boxes); diff != "" {
				t.Errorf("after a restart (-before +after):\n%s", diff)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFilesVanishAtTheEnd: what vanishes just before a store is closed is saved, too.
func TestFilesVanishAtTheEnd(t *testing.T) {
	l, _ := watched(t)
	takeAway("messages/*.log", "journal", "FORMAT")(t)
	l.deliver(5)
	want := lookAt(t, l.s)
	if err := l.s.Close(); err != nil {
		t.Fatal(err)
	}
	s := openHome(t, vfs.Default)
	if diff := cmp.Diff(want.Boxes, lookAt(t, s).Boxes); diff != "" {
		t.Errorf("after a restart (-before +after):\n%s", diff)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if list := checked(t, vfs.Default, nil); len(list) > 0 {
		t.Errorf("a check found %s", texts(list))
	}
}

// TestFilesVanishForGood: sealed files of messages that nobody had open are told of until
// they are back, with the number of messages that are hit.
func TestFilesVanishForGood(t *testing.T) {
	l, _ := watched(t)
	if err := l.s.Close(); err != nil { // seals
		t.Fatal(err)
	}
	var log lockedBuffer
	s, err := openTuned(context.Background(), home, tuning{log: slog.New(slog.NewTextHandler(&log, nil)), files: fileBudget{messages: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(home+"/messages", home+"/aside"); err != nil {
		t.Fatal(err)
	}
	if list := s.watch.look(context.Background(), false); len(list) == 0 {
		t.Error("a look found nothing")
	}
	if n := s.stats(); n.missing == 0 || n.mail.Missing == 0 {
		t.Errorf("%d files and %d messages are counted as gone", n.missing, n.mail.Missing)
	}
	said := log.String()
	if !strings.Contains(said, "messages cannot be read, since their files are gone") {
		t.Errorf("the log says %s", said)
	}
	if s.watch.look(context.Background(), false); log.String() != said {
		t.Error("the log says it twice")
	}
	paths, err := filepath.Glob(home + "/aside/*.seg")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		if err := os.Rename(path, home+"/messages/"+filepath.Base(path)); err != nil {
			t.Fatal(err)
		}
	}
	if list := checked(t, vfs.Default, s); len(list) > 0 {
		t.Errorf("a check found %s", texts(list))
	}
	if n := s.stats(); n.missing != 0 || n.mail.Missing != 0 || n.saved == 0 {
		t.Errorf("%d files and %d messages are counted as gone, %d as saved", n.missing, n.mail.Missing, n.saved)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestFolderMoves: a data folder that is moved under a running server is not begun anew.
func TestFolderMoves(t *testing.T) {
	l, log := watched(t)
	if err := os.Rename(home, home+".moved"); err != nil {
		t.Fatal(err)
	}
	l.s.watch.look(context.Background(), false)
	if _, err := os.Stat(home); err == nil {
		t.Error("there is a folder of the old name")
	}
	if !strings.Contains(log.String(), "the data folder is not where it was") {
		t.Errorf("the log says %s", log.String())
	}
	if err := os.Rename(home+".moved", home); err != nil {
		t.Fatal(err)
	}
	if list := checked(t, vfs.Default, l.s); len(list) > 0 {
		t.Errorf("a check found %s", texts(list))
	}
	if err := l.s.Close(); err != nil {
		t.Error(err)
	}
}

package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/admin"
)

// ends are what came last before a server was killed: of what the tables of the index
// have nothing.
var ends = map[string]func(m *mourners) error{
	"old account": func(m *mourners) error {
		m.deliver("bob", 20)
		return nil
	},
	"new account": func(m *mourners) error {
		m.deliver("carol", 20)
		return m.s.store.Users().Set(context.Background(), "carol", "hers")
	},
	"users": func(m *mourners) error {
		users := m.s.store.Users()
		return errors.Join(
			users.Set(context.Background(), "ann", "another hash"),
			users.Set(context.Background(), "dan", "his"),
			users.Delete(context.Background(), "eve"))
	},
}

// deliver puts messages into an INBOX.
func (m *mourners) deliver(user string, n int) {
	m.t.Helper()
	a, err := m.s.store.Account(context.Background(), user)
	if err != nil {
		m.t.Fatal(err)
	}
	m.a = a
	for i := range n {
		m.put("INBOX", fmt.Sprintf("%s-%d-%d", user, len(m.alive), i), 1)
	}
}

// killedAt makes a folder whose server was killed after one of ends, and what clients
// and the list of users had. With fresh it is the first server that the folder has had.
func killedAt(t *testing.T, end string, fresh bool) (*vfs.MemFS, *state, map[string]string) {
	t.Helper()
	disk := vfs.NewMem()
	m := &mourners{t: t, s: openHome(t, disk), alive: make(map[string]bool)}
	for _, user := range []string{"ann", "eve"} {
		if err := m.s.store.Users().Set(context.Background(), user, "a hash"); err != nil {
			t.Fatal(err)
		}
	}
	if !fresh {
		m.deliver("bob", 10)
		if err := m.s.Close(); err != nil {
			t.Fatal(err)
		}
		m.s = openHome(t, disk)
	}
	if err := ends[end](m); err != nil {
		t.Fatal(err)
	}
	want, users := lookAt(t, m.s), usersOf(t, m.s)
	// Of the last record of a log nobody knows: it changes nothing.
	if err := m.s.store.Users().Set(context.Background(), "ann", users["ann"]); err != nil {
		t.Fatal(err)
	}
	crashed := copyLinked(t, disk)
	if err := m.s.Close(); err != nil {
		t.Fatal(err)
	}
	return crashed, want, users
}

func usersOf(t *testing.T, s *storage) map[string]string {
	t.Helper()
	users := make(map[string]string)
	for _, name := range []string{"ann", "bob", "carol", "dan", "eve"} {
		if hash, err := s.store.Users().Get(context.Background(), name); err == nil {
			users[name] = hash
		}
	}
	return users
}

// copyLinked is copyDisk, and logs are one file for index and journal.
func copyLinked(t *testing.T, from *vfs.MemFS) *vfs.MemFS {
	t.Helper()
	to := copyDisk(t, from)
	for _, path := range files(t, to, home+"/journal") {
		if own := home + "/index/" + to.PathBase(path); strings.HasSuffix(path, ".log") && slices.Contains(files(t, to, home+"/index"), own) {
			if err := errors.Join(to.Remove(path), to.Link(own, path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return to
}

// harms are what happens to a file of the index, and whether the journal has what
// was in it.
var harms = map[string]func(t *testing.T, disk *vfs.MemFS, path string) (kept bool){
	"removed": func(t *testing.T, disk *vfs.MemFS, path string) bool {
		if err := disk.Remove(path); err != nil {
			t.Fatal(err)
		}
		return true
	},
	"flipped": func(t *testing.T, disk *vfs.MemFS, path string) bool {
		return !strings.HasSuffix(path, ".log") || !flip(t, disk, path, 3)
	},
	"flipped near its end": func(t *testing.T, disk *vfs.MemFS, path string) bool {
		return !strings.HasSuffix(path, ".log") || !flip(t, disk, path, 1)
	},
}

// flip changes a byte in place: in the middle of what is in a file, or within the last
// part of it.
func flip(t *testing.T, disk *vfs.MemFS, path string, part int) bool {
	t.Helper()
	data := get(t, disk, path)
	end := len(strings.TrimRight(string(data), "\x00"))
	if end == 0 {
		return false
	}
	at := end / 2
	if part == 1 {
		at = end - min(end, 100)
	}
	f, err := disk.OpenReadWrite(path, "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{data[at] ^ 4}, int64(at)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return true
}

// TestNoDeadEnd: whatever happens to one file of the index of a server that was
// killed, it starts and has all, or it does not start, a check says so, and a repair
// brings all of it back that the journal has; what is lost it names.
func TestNoDeadEnd(t *testing.T) {
	for end := range ends {
		for _, fresh := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,fresh=%v", end, fresh), func(t *testing.T) {
				base, want, users := killedAt(t, end, fresh)
				for _, path := range files(t, base, home+"/index") {
					for how, harm := range harms {
						t.Run(how+" "+path, func(t *testing.T) {
							disk := copyLinked(t, base)
							kept := harm(t, disk, path)
							noDeadEnd(t, disk, want, users, kept)
						})
					}
				}
			})
		}
	}
}

// sameState says in what a store differs from what it was.
func sameState(want *state, users map[string]string, s *storage, t *testing.T) string {
	t.Helper()
	now := lookAt(t, s)
	return cmp.Diff(want.Boxes, now.Boxes) + cmp.Diff(users, usersOf(t, s))
}

func noDeadEnd(t *testing.T, disk *vfs.MemFS, want *state, users map[string]string, kept bool) {
	t.Helper()
	found := slices.DeleteFunc(checked(t, disk, nil), func(d admin.Defect) bool { return strings.Contains(d.Text, "the journal of the index is damaged") })
	s, err := openTuned(context.Background(), home, tuning{log: slog.New(slog.DiscardHandler), fs: disk})
	if err == nil {
		if diff := sameState(want, users, s, t); diff != "" || len(found) > 0 {
			t.Errorf("a check finds %v, a server starts, and what is not as it was is:\n%s", found, diff)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		return
	}
	if kind := imap.KindOf(err); kind != imap.Corruption && kind != imap.ContactAdmin || !strings.Contains(err.Error(), "check --repair") {
		t.Errorf("a server says %v", err)
	}
	if len(found) == 0 {
		t.Fatalf("a server says %v, and a check finds nothing", err)
	}
	var notes []string
	res, err := Repair(context.Background(), RepairRequest{DataDir: home, fs: disk, Report: func(e RepairEvent) {
		if e.Note != nil {
			notes = append(notes, fmt.Sprintf("%s: %s", e.Note.Kind, e.Note.Defect))
		}
	}})
	if err != nil || !res.Needed {
		t.Fatalf("the repair: %+v, %v", res, err)
	}
	clean(t, disk)
	s = openHome(t, disk)
	diff, told := sameState(want, users, s, t), res.Lost+res.Recovered+res.Renewed > 0
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if kept && (told || diff != "") {
		t.Errorf("the journal is whole, the repair says %q, and what is not as it was is:\n%s", notes, diff)
	}
	if diff != "" && !told {
		t.Errorf("the repair says %q, and what is not as it was is:\n%s", notes, diff)
	}
}

// TestIndexSetBack: an older copy of the whole index, in which nothing is wrong, is not
// taken for the newest, also where the journal has no logs.
func TestIndexSetBack(t *testing.T) {
	const epochFile = home + "/index/JOURNAL"
	for name, epoch := range map[string]string{
		"a copy of the folder":                           "as it was",
		"a copy of the folder, the journal without logs": "as it was",
		"out of a backup":                                "",
		"of before a repair":                             "00000007-0badcafe\n",
	} {
		logs := !strings.HasSuffix(name, "without logs")
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewMem()
			m := &mourners{t: t, s: openHome(t, disk), alive: make(map[string]bool)}
			m.deliver("bob", 10)
			if err := m.s.Close(); err != nil {
				t.Fatal(err)
			}
			older := copyDisk(t, disk)
			m.s = openHome(t, disk)
			if err := ends["new account"](m); err != nil {
				t.Fatal(err)
			}
			if err := m.s.kv.SaveState(context.Background()); err != nil {
				t.Fatal(err)
			}
			want, users := lookAt(t, m.s), usersOf(t, m.s)
			if err := m.s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := disk.RemoveAll(home + "/index"); err != nil {
				t.Fatal(err)
			}
			if err := disk.MkdirAll(home+"/index", 0o700); err != nil {
				t.Fatal(err)
			}
			for _, path := range files(t, older, home+"/index") {
				switch {
				case path != epochFile || epoch == "as it was":
					put(t, disk, path, get(t, older, path))
				case epoch != "":
					put(t, disk, path, []byte(epoch))
				}
			}
			for _, path := range files(t, disk, home+"/journal") {
				if !logs && (strings.HasSuffix(path, ".log") || strings.HasSuffix(path, "/logs") || strings.HasSuffix(path, "/closed")) {
					if err := disk.Remove(path); err != nil {
						t.Fatal(err)
					}
				}
			}
			_, err := openTuned(context.Background(), home, tuning{log: slog.New(slog.DiscardHandler), fs: copyDisk(t, disk)})
			if err == nil || !strings.Contains(err.Error(), "check --repair") {
				t.Errorf("a server says %v", err)
			}
			noDeadEnd(t, disk, want, users, logs)
		})
	}
}

// TestUnnamed: where the end of the index is lost without a trace, its messages are
// counted, by a check and by the server that takes them away; expunged ones are not.
func TestUnnamed(t *testing.T) {
	base, _, _ := killedAt(t, "old account", false)
	if _, unnamed := unnamedIn(t, copyLinked(t, base)); unnamed != 0 {
		t.Errorf("before, %d messages are unnamed", unnamed)
	}
	disk := copyLinked(t, base)
	for _, path := range files(t, disk, home) {
		if strings.HasSuffix(path, "/RIDES") { // what rode with the messages would be a trace
			if err := disk.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, path := range files(t, disk, home+"/index") {
		if !strings.HasSuffix(path, ".log") {
			continue
		}
		data := get(t, disk, path)
		f, err := disk.OpenReadWrite(path, "test")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(make([]byte, len(data)), 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if defects, unnamed := unnamedIn(t, disk); defects != 0 || unnamed != 20 {
		t.Errorf("a check finds %d defects and %d unnamed messages, not 0 and 20", defects, unnamed)
	}
	s := openHome(t, disk) // the store looks as if it had been closed in order
	killed := copyLinked(t, disk)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, unnamed := unnamedIn(t, killed); unnamed != 20 {
		t.Errorf("after a start there are %d unnamed messages", unnamed)
	}
	lines := make(logLines, 100)
	s, err := openTuned(context.Background(), home, tuning{log: slog.New(slog.NewTextHandler(lines, nil)), fs: killed})
	if err != nil {
		t.Fatal(err)
	}
	for line := range lines {
		if strings.Contains(line, "no mailbox names") {
			if !strings.Contains(line, "messages=20") {
				t.Error(line)
			}
			break
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// logLines is where a log is written to.
type logLines chan string

func (l logLines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func unnamedIn(t *testing.T, disk vfs.FS) (defects, unnamed int) {
	t.Helper()
	dir, err := openDir(disk, home)
	if err != nil {
		t.Fatal(err)
	}
	s, err := look(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	k := &check{storage: s, report: func(admin.Event) {}}
	if err := k.run(context.Background()); err != nil {
		t.Fatal(err)
	}
	return k.res.Defects, k.res.Unnamed
}

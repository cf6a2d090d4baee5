package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/mailstore"
)

// delivered makes a folder with three accounts that take turns, a saved state in the
// middle of its only log, and the index gone.
func delivered(t *testing.T, stateAt int) (*vfs.MemFS, *state) {
	t.Helper()
	ctx := context.Background()
	disk := vfs.NewMem()
	m := &mourners{t: t, s: openHome(t, disk), alive: make(map[string]bool)}
	if err := m.s.store.Users().Set(ctx, "ann", "a hash"); err != nil {
		t.Fatal(err)
	}
	for round := range 12 {
		if round == stateAt {
			if err := m.s.kv.SaveState(ctx); err != nil {
				t.Fatal(err)
			}
		}
		for _, user := range []string{"ann", "bob", "eve"} {
			a, err := m.s.store.Account(ctx, user)
			if err != nil {
				t.Fatal(err)
			}
			m.a = a
			m.put("INBOX", fmt.Sprintf("%s-round%d", user, round), 1)
		}
	}
	want := lookAt(t, m.s)
	if err := m.s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := disk.RemoveAll(home + "/index"); err != nil {
		t.Fatal(err)
	}
	return disk, want
}

// blot writes over the place of the log in which some text stands for the first time
// behind another one.
func blot(t *testing.T, disk vfs.FS, text string) {
	t.Helper()
	hits := 0
	for _, path := range files(t, disk, home+"/journal") {
		if !strings.HasSuffix(path, ".log") {
			continue
		}
		data := get(t, disk, path)
		if i := bytes.Index(data, []byte(text)); i >= 0 {
			hits++
			copy(data[i:], bytes.Repeat([]byte("X"), len(text)))
			if err := disk.Remove(path); err != nil {
				t.Fatal(err)
			}
			put(t, disk, path, data)
		}
	}
	if hits != 1 {
		t.Fatalf("%q is in %d logs", text, hits)
	}
}

// TestRepairBehindDamage: where a commit in the journal is damaged, and the index is
// gone, the account that it was of is in doubt, and the others are as they were:
// what comes behind the damage counts.
func TestRepairBehindDamage(t *testing.T) {
	disk, want := delivered(t, 3)
	blot(t, disk, "bob-round7-1")
	got := repair(t, disk)
	for name, b := range want.Boxes {
		account, _, _ := strings.Cut(name, ":")
		if account == "bob" {
			continue
		}
		if d := cmp.Diff(b, got.now.Boxes[name]); d != "" {
			t.Errorf("%s is not as it was:\n%s", name, d)
		}
	}
	// All of bob's messages are there, and those behind the damage in their place.
	bodies := make(map[string]string)
	for name, b := range got.now.Boxes {
		for _, row := range b.Rows {
			if strings.HasPrefix(name, "bob:") {
				bodies[strings.TrimSpace(bodyOf(strings.TrimSpace(row)))] = name
			}
		}
	}
	for round := range 12 {
		where := bodies[fmt.Sprintf("bob-round%d-1", round)]
		if where == "" || where != "bob:INBOX" && round != 7 {
			t.Errorf("bob's message of round %d is in %q", round, where)
		}
	}
	if got.now.Boxes["bob:INBOX"].Validity == want.Boxes["bob:INBOX"].Validity {
		t.Error("nobody knows what is missing in bob's INBOX, and it has its UIDVALIDITY still")
	}
	if got.Renewed != 1 {
		t.Errorf("%d mailboxes are renewed:\n%s", got.Renewed, strings.Join(got.notes, "\n"))
	}
}

// TestRepairNames: where the list of accounts is lost, mail comes back under the names
// that the accounts' own records have.
func TestRepairNames(t *testing.T) {
	disk, want := delivered(t, -1)
	// What is left are logs, without what has made the accounts.
	for _, path := range files(t, disk, home+"/journal") {
		if strings.Contains(path, "state-") {
			if err := disk.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, user := range []string{"ann", "bob", "eve"} {
		blot(t, disk, "n"+user)
	}
	got := repair(t, disk)
	for name := range got.now.Boxes {
		if strings.HasPrefix(name, "recovered-") {
			t.Errorf("%s has a new name", name)
		}
	}
	for name, b := range want.Boxes {
		account, _, _ := strings.Cut(name, ":")
		there := make(map[string]bool)
		for box, now := range got.now.Boxes {
			for _, row := range now.Rows {
				if strings.HasPrefix(box, account+":") {
					there[bodyOf(row)] = true
				}
			}
		}
		for _, row := range b.Rows {
			if !there[bodyOf(row)] {
				t.Errorf("%s has not %q any more", account, bodyOf(row))
			}
		}
	}
	if t.Failed() {
		t.Log(strings.Join(got.notes, "\n"))
	}
}

// TestRepairNamesOfRenamed: the name of an account that was renamed is the new one.
func TestRepairNamesOfRenamed(t *testing.T) {
	ctx := context.Background()
	disk := vfs.NewMem()
	m := &mourners{t: t, s: openHome(t, disk), alive: make(map[string]bool)}
	var err error
	if m.a, err = m.s.store.Account(ctx, "first"); err != nil {
		t.Fatal(err)
	}
	m.put("INBOX", "a message", 1)
	if err := m.s.store.RenameAccount(ctx, "first", "second"); err != nil {
		t.Fatal(err)
	}
	m.put("INBOX", "another one", 1)
	if err := m.s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range files(t, disk, home+"/journal") {
		if strings.Contains(path, "state-") {
			if err := disk.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	blot(t, disk, "nfirst")
	blot(t, disk, "nsecond")
	if err := disk.RemoveAll(home + "/index"); err != nil {
		t.Fatal(err)
	}
	var names []string
	_, err = Repair(ctx, RepairRequest{DataDir: home, fs: disk, Report: func(e RepairEvent) {
		if e.Note != nil {
			names = append(names, fmt.Sprint(e.Note.Kind, " ", e.Note.Defect))
		}
	}})
	s := openHome(t, disk)
	a, lerr := s.store.Lookup(ctx, "second")
	if err := errors.Join(err, lerr); err != nil {
		t.Fatal(err, names)
	}
	if rows := lookInto(t, a, mailstore.MailboxInfo{Name: "INBOX"}).Rows; len(rows) != 2 {
		t.Errorf("the account has %d messages: %v", len(rows), names)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestRepairRemoved: an account that was removed does not come back, under any name,
// where the list of accounts is lost.
func TestRepairRemoved(t *testing.T) {
	ctx := context.Background()
	disk := vfs.NewMem()
	m := &mourners{t: t, s: openHome(t, disk), alive: make(map[string]bool)}
	for _, user := range []string{"ann", "eve"} {
		var err error
		if m.a, err = m.s.store.Account(ctx, user); err != nil {
			t.Fatal(err)
		}
		m.put("INBOX", user, 2)
	}
	if err := m.s.store.RemoveAccount(ctx, "eve"); err != nil {
		t.Fatal(err)
	}
	if err := m.s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range files(t, disk, home+"/journal") {
		if strings.Contains(path, "state-") {
			if err := disk.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := disk.RemoveAll(home + "/index"); err != nil {
		t.Fatal(err)
	}
	if _, err := Repair(ctx, RepairRequest{DataDir: home, fs: disk, Report: func(RepairEvent) {}}); err != nil {
		t.Fatal(err)
	}
	s := openHome(t, disk)
	list, err := s.store.Accounts(ctx)
	if err != nil || len(list) != 1 || list[0].Name != "ann" {
		t.Errorf("accounts %v, %v", list, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

package imapmodel_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/memory"
)

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	m := memory.New()
	k1 := m.Add("ann", "INBOX", text("one"))
	k2 := m.Add("ann", "INBOX", text("two"), "kw")
	m.Add("ann", "INBOX", text("three"))
	start := func() *env {
		state, err := imapmodel.NewDirState(dir)
		if err != nil {
			t.Fatal(err)
		}
		return newEnv(t, m, imapmodel.Options{State: state})
	}
	e := start()
	mb := e.open("INBOX")
	e.store(mb, imapserver.FlagsAdd, uids(3), imap.FlagDeleted)
	if err := mb.Expunge(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	before, ids := e.status("INBOX"), e.ids(mb, 1)
	row := e.snap(mb).Row(1)
	mb.Close()
	e.close()

	e = start()
	if after := e.status("INBOX"); *after != *before {
		t.Errorf("after a restart %+v, before %+v", after, before)
	}
	mb = e.open("INBOX")
	if got := e.snap(mb).Row(1); got.UID != row.UID || got.ModSeq != row.ModSeq || got.Date != row.Date || got.SaveDate != row.SaveDate {
		t.Errorf("after a restart %+v, before %+v", got, row)
	}
	if got := e.ids(mb, 1); got != ids {
		t.Errorf("identifiers %s, before %s", got, ids)
	}
	mb.Close()
	e.close()

	// While it is down.
	m.Replace("ann", "INBOX", k1, text("one again"))
	if err := m.SetFlags(t.Context(), "ann", "INBOX", []string{k2}, nil, []imap.Flag{"kw"}); err != nil {
		t.Fatal(err)
	}
	e = start()
	defer e.close()
	mb = e.open("INBOX")
	defer mb.Close()
	e.wantRows(mb, "2 ()", "4 ()")
	if e.snap(mb).ModSeq(0) <= before.HighestModSeq {
		t.Error("the flags changed without a new mod-sequence")
	}
	for since, want := range map[imap.ModSeq]string{before.HighestModSeq: "1", 1: "1,3"} {
		got, complete, err := mb.Expunged(t.Context(), since)
		if err != nil || !complete || got.String() != want {
			t.Errorf("expunged since %d: %s, %v, %v; want %s", since, got, complete, err, want)
		}
	}
}

func TestBoundedHistory(t *testing.T) {
	m := memory.New()
	var keys []string
	for range 20 {
		keys = append(keys, m.Add("ann", "INBOX", text("x")))
	}
	e := newEnv(t, m, imapmodel.Options{History: 3})
	defer e.close()
	mb := e.open("INBOX")
	defer mb.Close()
	start := e.snap(mb).HighestModSeq()
	for i := 0; i < 20; i += 2 {
		if err := m.Remove(t.Context(), "ann", "INBOX", []string{keys[i]}); err != nil {
			t.Fatal(err)
		}
		e.snap(mb)
	}
	if _, complete, _ := mb.Expunged(t.Context(), start); complete {
		t.Error("a bounded history claims to be complete")
	}
	if got, complete, _ := mb.Expunged(t.Context(), e.snap(mb).HighestModSeq()-1); !complete || got.String() != "19" {
		t.Errorf("the last expunge: %s, %v", got, complete)
	}
}

func TestDamagedState(t *testing.T) {
	dir := t.TempDir()
	m := memory.New()
	m.Add("ann", "INBOX", text("one"))
	start := func() (imapserver.Account, error) {
		state, err := imapmodel.NewDirState(dir)
		if err != nil {
			t.Fatal(err)
		}
		b, err := imapmodel.New(m, imapmodel.Options{State: state, Log: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		acct, err := b.Open(t.Context(), "ann")
		if err != nil {
			return nil, err
		}
		_, err = acct.Status(t.Context(), "INBOX")
		return acct, err
	}
	if _, err := start(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*", "*.rec"))
	if len(files) != 2 {
		t.Fatalf("records %v, want two", files)
	}
	for _, file := range files {
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range [][]byte{good[:len(good)-3], append([]byte("x"), good...), {}} {
			if err := os.WriteFile(file, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := start(); err == nil || !strings.Contains(err.Error(), "ann") {
				t.Errorf("%s with %d of %d bytes: %v, want an error that says whose", filepath.Base(file), len(bad), len(good), err)
			}
		}
		if err := os.WriteFile(file, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// What a crash leaves behind does not matter.
	if err := os.WriteFile(files[0]+".new", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := start(); err != nil {
		t.Error(err)
	}
}

func TestDirState(t *testing.T) {
	state, err := imapmodel.NewDirState(filepath.Join(t.TempDir(), "new", "dir"))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if data, err := state.Load(ctx, "u-a/b"); data != nil || err != nil {
		t.Errorf("load of nothing: %q, %v", data, err)
	}
	for _, data := range []string{"one", "", "three"} {
		if err := state.Save(ctx, "u-a/b", []byte(data)); err != nil {
			t.Fatal(err)
		}
		if got, err := state.Load(ctx, "u-a/b"); string(got) != data || err != nil {
			t.Errorf("load: %q, %v, want %q", got, err, data)
		}
	}
	if err := errors.Join(state.Save(ctx, "u-a/b", nil), state.Save(ctx, "u-a/b", nil)); err != nil {
		t.Error(err)
	}
	if data, err := state.Load(ctx, "u-a/b"); data != nil || err != nil {
		t.Errorf("load of what was removed: %q, %v", data, err)
	}
}

// Mailboxes that are gone leave no records behind.
func TestNoRecordsStay(t *testing.T) {
	dir := t.TempDir()
	state, err := imapmodel.NewDirState(dir)
	if err != nil {
		t.Fatal(err)
	}
	e := newEnv(t, memory.New(), imapmodel.Options{State: state})
	defer e.close()
	e.create("a")
	e.append("a", text("one"))
	if err := e.acct.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	e.names()
	if files, _ := filepath.Glob(filepath.Join(dir, "*", "mailbox-*")); len(files) != 0 {
		t.Errorf("records %v stay", files)
	}
}

// A user's name can be anything and names no other file.
func TestStateOfOddUsers(t *testing.T) {
	dir := t.TempDir()
	state, err := imapmodel.NewDirState(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := imapmodel.New(memory.New(), imapmodel.Options{State: state, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	users := []string{"../../etc", "Ann", "ann", "ann@example.org", "", strings.Repeat("x", 500), "a/b", "a%2fb"}
	for _, user := range users {
		if _, err := b.Open(t.Context(), user); err != nil {
			t.Errorf("%q: %v", user, err)
		}
	}
	if dirs, _ := os.ReadDir(dir); len(dirs) != len(users) {
		t.Errorf("%d directories for %d users", len(dirs), len(users))
	}
}

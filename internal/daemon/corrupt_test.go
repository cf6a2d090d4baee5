package daemon_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/internal/daemon"
	"github.com/rookery-mail/rookery/internal/mailimport"
)

// seeded makes a data folder with mail of two users, some of it long.
func seeded(t *testing.T, dir string) {
	t.Helper()
	ctx := context.Background()
	for round := range 3 { // each round leaves tables and sealed segments
		s := connect(t, dir)
		for _, user := range []string{"ann", "bob"} {
			target := s.Import(user)
			for _, box := range []string{"INBOX", "Work/Old"} {
				must(t, target.Prepare(ctx, box))
				var items []mailimport.Item
				for i := range 8 {
					text := fmt.Sprintf("Subject: %s %s %d %d\r\n\r\n%s", user, box, round, i, strings.Repeat(fmt.Sprintf("line %d\r\n", i), 10+i*i*8))
					if i == 7 {
						text += strings.Repeat("a long one\r\n", 20_000)
					}
					items = append(items, mailimport.Item{Flags: []imap.Flag{imap.FlagSeen, "work"}, Date: imap.MakeTime(1e9+int64(i), 60), Size: int64(len(text)),
						Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }})
				}
				must(t, target.Import(ctx, box, items))
			}
		}
		must(t, s.Close())
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func connect(t *testing.T, dir string) admin.Service {
	t.Helper()
	s, err := daemon.Connect(context.Background(), dir, "test", true)
	must(t, err)
	return s
}

// checked runs a check of a folder that no server has.
func checked(t *testing.T, dir string) (defects []string, err error) {
	t.Helper()
	s, err := daemon.ConnectToCheck(context.Background(), dir, "test")
	if err != nil {
		return nil, err
	}
	defer s.Close()
	_, err = s.Check(context.Background(), func(e admin.Event) {
		if e.Defect != nil {
			defects = append(defects, e.Defect.String())
		}
	})
	return defects, err
}

// dump says what clients would see of a folder. It does not change it.
func dump(t *testing.T, dir string) string {
	t.Helper()
	to := &recorder{}
	for _, user := range []string{"ann", "bob"} {
		fmt.Fprintf(&to.log, "user %s\n", user)
		if _, err := daemon.Restore(context.Background(), dir, to, daemon.RestoreRequest{User: user, As: user}, to); err != nil {
			fmt.Fprintf(&to.log, "error %v\n", err)
		}
	}
	return to.log.String()
}

// recorder is a store that writes down what is restored to it.
type recorder struct {
	admin.Service
	log bytes.Buffer
}

func (r *recorder) PrepareRestore(_ context.Context, plan admin.RestorePlan) error {
	_, err := fmt.Fprintf(&r.log, "%+v\n", plan)
	return err
}

func (r *recorder) Import(string) mailimport.Target { return recordedTarget{r} }

func (r *recorder) Progress(int64, int64) {}

func (r *recorder) Note(text string) { fmt.Fprintln(&r.log, text) }

type recordedTarget struct{ r *recorder }

func (recordedTarget) Prepare(context.Context, string) error { return nil }

func (recordedTarget) Known(context.Context, []string) ([]bool, error) { return nil, nil }

func (t recordedTarget) Import(_ context.Context, mailbox string, items []mailimport.Item) error {
	for _, it := range items {
		r, err := it.Open()
		if err != nil {
			return err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		fmt.Fprintf(&t.r.log, "%s %v %d %d %x\n", mailbox, it.Flags, it.Date, it.Size, sha256.Sum256(data))
	}
	return nil
}

// copyTree copies a folder; links would share the damage.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.CopyFS(to, os.DirFS(from)))
}

// TestFlipAnyByte damages one byte of one file at a time, all over a store.
// Either check finds it, and names what is hit, or nothing is hit: clients see
// what they saw before.
func TestFlipAnyByte(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base")
	seeded(t, base)
	if defects, err := checked(t, base); err != nil || len(defects) > 0 {
		t.Fatalf("the store is not clean: %v, %v", defects, err)
	}
	want := dump(t, base)
	if n := strings.Count(want, "\n"); n < 100 {
		t.Fatalf("the dump has only %d lines:\n%s", n, want)
	}
	perFile := 12
	if testing.Short() {
		perFile = 6
	}
	if os.Getenv("ROOKERY_FULL") != "" {
		perFile = 150
	}
	dir := filepath.Join(t.TempDir(), "copy")
	copyTree(t, base, dir)
	found, harmless := 0, 0
	must(t, filepath.WalkDir(base, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(base, path)
		must(t, err)
		if rel == "LOCK" || rel == "OWNER" {
			return nil
		}
		whole, err := os.ReadFile(path)
		must(t, err)
		for i := range min(perFile, len(whole)) {
			at := i * len(whole) / min(perFile, len(whole))
			if i == perFile-1 {
				at = len(whole) - 1
			}
			broken := slices.Clone(whole)
			broken[at] ^= 0x10
			must(t, os.WriteFile(filepath.Join(dir, rel), broken, 0o600))
			defects, err := checked(t, dir)
			switch {
			case imap.KindOf(err) == imap.Corruption || len(defects) > 0:
				found++
				judge(t, rel, at, defects)
			case err != nil:
				t.Errorf("%s at %d of %d: the check ended with %v", rel, at, len(whole), err)
			default:
				harmless++
				if got := dump(t, dir); got != want {
					t.Errorf("%s at %d of %d: check is clean, but clients see something else:\n%s", rel, at, len(whole), cmp.Diff(want, got))
				}
			}
		}
		return os.WriteFile(filepath.Join(dir, rel), whole, 0o600)
	}))
	t.Logf("%d flips found, %d harmless", found, harmless)
	if !testing.Short() && found < 50 {
		t.Errorf("only %d flips were found", found)
	}
	if defects, err := checked(t, dir); err != nil || len(defects) > 0 {
		t.Errorf("the check has changed the store: %v, %v", defects, err)
	}
}

// judge looks whether defects say enough.
func judge(t *testing.T, rel string, at int, defects []string) {
	t.Helper()
	place := regexp.MustCompile(`(?m)^(ann|bob) \S+ UID \d+: `)
	account := regexp.MustCompile(`ann|bob`)
	all := strings.Join(defects, "\n")
	switch {
	case filepath.Dir(rel) == "messages":
		if !place.MatchString(all) && !strings.Contains(all, filepath.Base(rel)) {
			t.Errorf("%s at %d: no account, mailbox, UID or file is named: %s", rel, at, all)
		}
	case filepath.Ext(rel) == ".sst":
		if !account.MatchString(all) && !strings.Contains(all, "list of accounts") {
			t.Errorf("%s at %d: no account is named: %s", rel, at, all)
		}
	}
	if testing.Verbose() {
		t.Logf("%s at %d: %.300s", rel, at, all)
	}
}

package mailimport_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/maildir"
	"github.com/rookery-mail/rookery/internal/mailimport"
	"github.com/rookery-mail/rookery/internal/mbox"
)

// account is an account in memory.
type account struct {
	made    []string
	known   map[string]bool
	mail    map[string][]string // by mailbox
	flags   map[string][]imap.Flag
	dates   map[string]imap.Time
	batches []int
	fail    int // calls of Import until one fails; 0 for none
}

func (a *account) Prepare(_ context.Context, mailbox string) error {
	a.made = append(a.made, mailbox)
	return nil
}

func (a *account) Known(_ context.Context, keys []string) ([]bool, error) {
	known := make([]bool, len(keys))
	for i, k := range keys {
		known[i] = a.known[k]
	}
	return known, nil
}

func (a *account) Import(_ context.Context, mailbox string, items []mailimport.Item) error {
	if a.fail > 0 {
		if a.fail--; a.fail == 0 {
			return errors.New("the line is dead")
		}
	}
	if a.mail == nil {
		a.mail, a.flags, a.dates = map[string][]string{}, map[string][]imap.Flag{}, map[string]imap.Time{}
	}
	a.batches = append(a.batches, len(items))
	for _, it := range items {
		r, err := it.Open()
		if err != nil {
			return err
		}
		b, err := io.ReadAll(r)
		if err != nil || int64(len(b)) != it.Size {
			return errors.Join(err, errors.New("not the announced size"))
		}
		if err := r.Close(); err != nil {
			return err
		}
		a.mail[mailbox] = append(a.mail[mailbox], string(b))
		a.flags[string(b)], a.dates[string(b)] = it.Flags, it.Date
		if a.known == nil {
			a.known = map[string]bool{}
		}
		if a.known[it.Key] {
			return errors.New("imported twice: " + it.Key)
		}
		a.known[it.Key] = true
	}
	return nil
}

type notes struct {
	lines []string
	done  int64
	total int64
}

func (n *notes) Progress(done, total int64) { n.done, n.total = done, total }
func (n *notes) Note(text string)           { n.lines = append(n.lines, text) }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func importMaildir(t *testing.T, dir, mailbox string, a *account) (*mailimport.Result, *notes, error) {
	t.Helper()
	m, err := maildir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	n := &notes{}
	res, err := mailimport.Maildir(context.Background(), m, mailbox, a, n)
	return res, n, err
}

func TestMaildirTwice(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/cur/1600000001.a.h:2,S", "A: 1\n\nx\n")
	write(t, dir+"/cur/1600000002.b.h:2,F", "A: 1\n\nx\n") // equal messages are two
	write(t, dir+"/.Sub/new/1600000001.a.h", "A: 2\n\ny\n")
	write(t, dir+"/.Empty/cur/.keep", "")
	a := &account{}
	res, n, err := importMaildir(t, dir, "", a)
	if err != nil || res.Imported != 3 || res.Known != 0 || res.Mailboxes != 3 || n.done != 3 || n.total != 3 {
		t.Fatalf("first run: %+v, %+v, %v", res, n, err)
	}
	want := map[string][]string{"INBOX": {"A: 1\r\n\r\nx\r\n", "A: 1\r\n\r\nx\r\n"}, "Sub": {"A: 2\r\n\r\ny\r\n"}}
	if diff := cmp.Diff(want, a.mail); diff != "" {
		t.Errorf("mail (-want +got):\n%s", diff)
	}
	// Flags set in the meantime do not make a message new.
	if err := os.Rename(dir+"/cur/1600000001.a.h:2,S", dir+"/cur/1600000001.a.h:2,RS"); err != nil {
		t.Fatal(err)
	}
	a.made = nil
	res, _, err = importMaildir(t, dir, "", a)
	if err != nil || res.Imported != 0 || res.Known != 3 {
		t.Errorf("second run: %+v, %v", res, err)
	}
	// Only the empty mailbox is made again: nobody can tell whether it was.
	if diff := cmp.Diff([]string{"Empty"}, a.made); diff != "" {
		t.Errorf("mailboxes made by the second run (-want +got):\n%s", diff)
	}
	res, _, err = importMaildir(t, dir, "Old", a)
	if err != nil || res.Imported != 3 || len(a.mail["Old/Sub"]) != 1 {
		t.Errorf("into another mailbox: %+v, %v", res, err)
	}
}

func TestInterruptedImportGoesOn(t *testing.T) {
	dir := t.TempDir()
	for i := range 3*mailimport.MaxBatch + 7 {
		write(t, filepath.Join(dir, "new", "16000"+string(rune('a'+i/26))+string(rune('a'+i%26))), "A: 1\n\nx\n")
	}
	a := &account{fail: 3}
	res, _, err := importMaildir(t, dir, "", a)
	if err == nil || res.Imported != 2*mailimport.MaxBatch {
		t.Fatalf("interrupted: %+v, %v", res, err)
	}
	res, _, err = importMaildir(t, dir, "", a)
	if err != nil || res.Known != 2*mailimport.MaxBatch || res.Imported != mailimport.MaxBatch+7 {
		t.Errorf("continued: %+v, %v", res, err)
	}
	if diff := cmp.Diff([]int{100, 100, 100, 7}, a.batches); diff != "" {
		t.Errorf("batches (-want +got):\n%s", diff)
	}
}

func TestBrokenMessagesAreImportedAndReported(t *testing.T) {
	dir := t.TempDir()
	big := "A: 1\n\n" + strings.Repeat("0123456789abcde\n", 400_000)
	for name, text := range map[string]string{
		"1": "", "2": "no header\n", "3": "A: b\n\n\x00\n", "4": "\nbody only\n", "5": "A: fine\n\nx\n", "6": big, "7": "\x1f\x8bzip",
	} {
		write(t, filepath.Join(dir, "new", "160000000"+name+".x"), text)
	}
	a := &account{}
	res, n, err := importMaildir(t, dir, "", a)
	if err != nil || res.Imported != 7 || res.Odd != 5 || res.Unread != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	for i, want := range []string{"it is empty", "does not begin with a header field", "NUL", "no header", "compressed"} {
		if !strings.Contains(n.lines[i], want) {
			t.Errorf("note %q does not say %q", n.lines[i], want)
		}
	}
	if got := a.mail["INBOX"][5]; got != strings.ReplaceAll(big, "\n", "\r\n") {
		t.Errorf("the large message has %d bytes", len(got))
	}
}

func TestUnreadableFile(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root can read every file")
	}
	dir := t.TempDir()
	write(t, dir+"/new/1600000001.x", "A: 1\n\nx\n")
	write(t, dir+"/new/1600000002.x", "A: 2\n\ny\n")
	if err := os.Chmod(dir+"/new/1600000001.x", 0); err != nil {
		t.Fatal(err)
	}
	res, n, err := importMaildir(t, dir, "", &account{})
	if err != nil || res.Imported != 1 || res.Unread != 1 || !strings.Contains(n.lines[0], "NOT imported") {
		t.Errorf("%+v, %q, %v", res, n.lines, err)
	}
}

func TestMbox(t *testing.T) {
	const one = "From a Fri Feb 13 23:31:30 2009\nA: 1\nStatus: RO\n\nx\n\n"
	const two = "From a Fri Feb 13 23:31:31 2009\nA: 2\n\ny\n\n"
	dir := t.TempDir()
	path := filepath.Join(dir, "mail")
	a := &account{}
	run := func(text string, imported, known int) {
		t.Helper()
		write(t, path, text)
		r, err := mbox.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		res, err := mailimport.Mbox(context.Background(), r, "", a, &notes{})
		if err != nil || res.Imported != imported || res.Known != known {
			t.Errorf("%+v, %v; want %d imported, %d known", res, err, imported, known)
		}
	}
	run(one+two+two, 3, 0)
	run(one+two+two, 0, 3)
	run(strings.Replace(one, "RO", "O", 1)+two+two, 0, 3) // marked as unread
	run(two+two, 0, 2)                                    // the first was deleted from the file
	run("From b Fri Feb 13 23:31:30 2009\nA: 0\n\nz\n\n"+two+two+two+one, 2, 3)
	text := "A: 1\r\nStatus: RO\r\n\r\nx\r\n"
	if diff := cmp.Diff([]imap.Flag{imap.FlagSeen}, a.flags[text]); diff != "" {
		t.Errorf("flags (-want +got):\n%s", diff)
	}
	if got := a.dates[text].Unix(); got != 1234567890 {
		t.Errorf("date %d", got)
	}
	// Another file with the same messages has others.
	path = filepath.Join(dir, "copy")
	run(one, 1, 0)
}

// What cannot be read is told every time, what is odd when something new comes.
func TestNotes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/cur/1600000001.a.h:2,a", "A: 1\n\nx\n")
	write(t, dir+"/.a&b/new/1600000002.b.h", "A: 2\n\ny\n")
	write(t, dir+"/.c&d/new/.keep", "")
	write(t, dir+"/new/dir/x", "")
	if err := os.Symlink("nowhere", dir+"/cur/1600000003.c.h"); err != nil {
		t.Fatal(err)
	}
	a := &account{}
	run := func(imported int, want ...string) {
		t.Helper()
		res, n, err := importMaildir(t, dir, "", a)
		if err != nil || res.Imported != imported || res.Unread != 2 || res.Odd != 2 || len(n.lines) != len(want) {
			t.Fatalf("%+v, %q, %v", res, n.lines, err)
		}
		for i := range want {
			if !strings.Contains(n.lines[i], want[i]) {
				t.Errorf("note %q does not say %q", n.lines[i], want[i])
			}
		}
	}
	const link, folder = "cur/1600000003.c.h: NOT imported: it is a symbolic link", "new/dir: NOT imported: it is a directory"
	run(2, link, folder, "keyword letter", `"a&b"`, `"c&d"`)
	run(0, link, folder)
	write(t, dir+"/cur/1600000004.d.h:2,a", "A: 1\n\nx\n")
	run(1, link, folder, "keyword letter", `"c&d"`)
}

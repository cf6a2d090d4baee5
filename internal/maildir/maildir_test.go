package maildir_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/maildir"
)

// tree writes files; a name that ends in a slash is a directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o700); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func folders(t *testing.T, root string) []maildir.Folder {
	t.Helper()
	m, err := maildir.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	fs, _, err := m.Folders()
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

func TestFolderNames(t *testing.T) {
	for name, tt := range map[string]struct {
		dirs []string
		want []string
	}{
		"Maildir++": {
			[]string{"cur/", "new/", "tmp/", ".Sent/cur/", ".Lists.go-nuts/cur/", ".Entw&APw-rfe/new/", ".git/objects/", ".inbox.sub/cur/"},
			[]string{"INBOX", "Entwürfe", "INBOX/sub", "Lists/go-nuts", "Sent"},
		},
		"folders in folders": {
			[]string{"cur/", "new/", "Lists/go/cur/", "Lists/go/new/", "Lists/cur/", "Dr&AOk-v/new/", "empty/deep/"},
			[]string{"INBOX", "Drév", "Lists", "Lists/go"},
		},
		"as mbsync has them": {
			[]string{"INBOX/cur/", "Archive/cur/", "Archive/.2024/cur/"},
			[]string{"INBOX", "Archive", "Archive/2024"},
		},
		"a folder called cur": {
			[]string{"cur/cur/", "box/new/"},
			[]string{"INBOX", "box"},
		},
		"odd names": {
			[]string{"cur/", ".R&D/cur/", ".Grün/cur/", ".a..b/cur/", ".x&AC8-y/cur/"},
			[]string{"INBOX", "Grün", "R&D", "a/b", "x&AC8-y"},
		},
	} {
		files := make(map[string]string)
		for _, d := range tt.dirs {
			files[d] = ""
		}
		var got []string
		for _, f := range folders(t, tree(t, files)) {
			got = append(got, f.Name)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	root := tree(t, map[string]string{"mbox": "From ", "box/cur/": "", "none/x": ""})
	for path, says := range map[string]string{"nowhere": "does not exist", "mbox": "import mbox", "box/cur": "folder above"} {
		if _, err := maildir.Open(filepath.Join(root, path)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("Open(%s): %v; want something about %q", path, err, says)
		}
	}
	m, err := maildir.Open(filepath.Join(root, "none"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.Folders(); err == nil || !strings.Contains(err.Error(), "cur and new") {
		t.Errorf("a directory without Maildir: %v", err)
	}
}

func TestLinksInACircle(t *testing.T) {
	root := tree(t, map[string]string{"cur/": "", "a/cur/": ""})
	if err := os.Symlink(root, filepath.Join(root, "a", "up")); err != nil {
		t.Fatal(err)
	}
	if n := len(folders(t, root)); n != 2 {
		t.Errorf("%d folders of two", n)
	}
}

func TestMessages(t *testing.T) {
	root := tree(t, map[string]string{
		"dovecot-keywords":                   "0 $Junk\n1 later\n2 bad name\n",
		"dovecot-uidlist":                    "3 V1 N9 G0\n7 :1600000003.c.h\n8 W1 :1600000001.a.h,S=4\n",
		"cur/1600000001.a.h,S=4,W=5:2,FRSab": "A\n",
		"cur/1600000002.b.h,U=9;2,TDP":       "B\n",
		"cur/1600000003.c.h!2,z":             "C\n",
		"cur/1600000004.d.h:2,":              "D\n",
		"new/1600000000.e.h":                 "E\n",
		"new/.hidden":                        "no",
		"tmp/1600000009.f.h":                 "half",
		"cur/odd:name:2,S":                   "F\n",
	})
	when := time.Unix(1234567890, 0)
	if err := os.Chtimes(filepath.Join(root, "new/1600000000.e.h"), when, when); err != nil {
		t.Fatal(err)
	}
	inbox := folders(t, root)[0]
	msgs, notes, err := inbox.Messages()
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		Base, Text string
		Flags      []imap.Flag
	}
	var got []row
	for _, m := range msgs {
		f, err := m.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(f)
		f.Close()
		got = append(got, row{m.Base, string(text), m.Flags})
		if m.Base == "1600000000.e.h" && !m.Date.Equal(when) {
			t.Errorf("date %v, want %v", m.Date, when)
		}
	}
	want := []row{
		{"1600000003.c.h", "C\n", nil},
		{"1600000001.a.h", "A\n", []imap.Flag{`\Flagged`, `\Answered`, `\Seen`, "$Junk", "later"}},
		{"1600000000.e.h", "E\n", nil},
		{"1600000002.b.h", "B\n", []imap.Flag{`\Deleted`, `\Draft`, "$Forwarded"}},
		{"1600000004.d.h", "D\n", nil},
		{"odd:name", "F\n", []imap.Flag{`\Seen`}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
	if len(notes) != 1 || !strings.Contains(notes[0].Text, "'z'") {
		t.Errorf("notes %v; want one about the letter z", notes)
	}
}

func TestOpenFindsARenamedFile(t *testing.T) {
	root := tree(t, map[string]string{"cur/": "", "new/1600000000.e.h": "E\n"})
	inbox := folders(t, root)[0]
	msgs, _, err := inbox.Messages()
	if err != nil || len(msgs) != 1 {
		t.Fatalf("%d messages, %v", len(msgs), err)
	}
	if err := os.Rename(msgs[0].Path(), filepath.Join(root, "cur/1600000000.e.h:2,S")); err != nil {
		t.Fatal(err)
	}
	f, err := msgs[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.Remove(filepath.Join(root, "cur/1600000000.e.h:2,S")); err != nil {
		t.Fatal(err)
	}
	if _, err := msgs[0].Open(); !os.IsNotExist(err) {
		t.Errorf("a file that is gone: %v", err)
	}
}

// Whoever owns a Maildir can put links into it; an import that root runs must not
// give away what they lead to.
func TestLinksAreNotFollowed(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	outside := tree(t, map[string]string{"cur/1600000009.z.h": "not theirs\n"})
	if err := os.WriteFile(secret, []byte("0 secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	root := tree(t, map[string]string{"cur/1600000001.a.h:2,Sa": "A\n", "new/dir/": "", ".Half/new/": "", ".Work/cur/1600000001.a.h": "W\n"})
	for from, to := range map[string]string{
		"cur/1600000002.b.h": secret, "cur/1600000003.c.h": "nowhere", "new/1600000004.d.h": root + "/cur/1600000001.a.h:2,Sa",
		"dovecot-keywords": secret, "dovecot-uidlist": secret, ".Half/cur": outside + "/cur", ".Else": outside,
	} {
		if err := os.Symlink(to, filepath.Join(root, from)); err != nil {
			t.Fatal(err)
		}
	}
	m, err := maildir.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	fs, notes, err := m.Folders()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range fs {
		msgs, more, err := f.Messages()
		if err != nil {
			t.Fatal(err)
		}
		notes = append(notes, more...)
		for _, m := range msgs {
			got = append(got, f.Name+" "+m.Base)
		}
	}
	if diff := cmp.Diff([]string{"INBOX 1600000001.a.h", "Work 1600000001.a.h"}, got); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
	var unread []string
	for _, n := range notes {
		if n.Unread {
			name, _, _ := strings.Cut(strings.TrimPrefix(n.Text, root+"/"), ":")
			unread = append(unread, name)
		}
	}
	want := []string{".Else", "dovecot-keywords", "cur/1600000002.b.h", "cur/1600000003.c.h", "new/1600000004.d.h", "new/dir", "dovecot-uidlist", ".Half/cur"}
	if diff := cmp.Diff(want, unread); diff != "" {
		t.Errorf("reported (-want +got):\n%s", diff)
	}
}

// A file that a link has replaced since it was listed is not opened either.
func TestLinkInPlaceOfAFile(t *testing.T) {
	root := tree(t, map[string]string{"cur/1600000001.a.h": "A\n", "cur/1600000002.b.h": "B\n"})
	msgs, _, err := folders(t, root)[0].Messages()
	if err != nil || len(msgs) != 2 {
		t.Fatalf("%d messages, %v", len(msgs), err)
	}
	for i, to := range []string{"1600000002.b.h", "/etc/passwd"} {
		if err := errors.Join(os.Remove(msgs[i].Path()), os.Symlink(to, msgs[i].Path())); err != nil {
			t.Fatal(err)
		}
		if f, err := msgs[i].Open(); err == nil || !strings.Contains(err.Error(), "symbolic link") {
			t.Errorf("%s: %v, %v", msgs[i].Path(), f, err)
		}
	}
}

func TestOpenRefusesALink(t *testing.T) {
	root := tree(t, map[string]string{"mail/cur/": ""})
	if err := os.Symlink("mail", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"link", "link/"} {
		if _, err := maildir.Open(root + "/" + path); err == nil || !strings.Contains(err.Error(), "name "+root+"/mail itself") {
			t.Errorf("Open(%s): %v", path, err)
		}
	}
}

func TestNotesOnNames(t *testing.T) {
	fs := folders(t, tree(t, map[string]string{"cur/": "", ".a&b/cur/": "", ".c&\xff/cur/": ""}))
	for i, want := range []string{"", `"a&b" is not in modified UTF-7; it is taken as it is`, `it becomes "c&_"`} {
		if got := strings.Join(fs[i].Notes, "; "); !strings.Contains(got, want) {
			t.Errorf("%s: %s; want %s", fs[i].Name, got, want)
		}
	}
}

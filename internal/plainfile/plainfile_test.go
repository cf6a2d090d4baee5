//go:build unix

package plainfile_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rookery-mail/rookery/internal/plainfile"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	for name, err := range map[string]error{
		"file": os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o600),
		"dir":  os.Mkdir(filepath.Join(dir, "dir"), 0o700),
		"pipe": syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600),
		"in":   os.Symlink("file", filepath.Join(dir, "in")),
		"out":  os.Symlink("/etc/passwd", filepath.Join(dir, "out")),
		"lost": os.Symlink("nowhere", filepath.Join(dir, "lost")),
		"up":   os.Symlink("/", filepath.Join(dir, "up")),
	} {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	root, err := plainfile.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	f, err := plainfile.Open(root, "file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); string(b) != "text" || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
	for _, name := range []string{"dir", "pipe", "in", "out", "lost"} {
		_, err := plainfile.Open(root, name)
		if _, ok := errors.AsType[*plainfile.KindError](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"up/etc/passwd", "../x", "/etc/passwd"} {
		if _, err := plainfile.Open(root, name); err == nil {
			t.Errorf("%s was opened", name)
		}
	}
	if _, err := plainfile.ReadDir(root, "up"); err == nil {
		t.Error("a link to a directory was read")
	}
	entries, err := plainfile.ReadDir(root, ".")
	if err != nil || len(entries) != 7 || entries[0].Name() != "dir" {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestPaths(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink("file", file+"link"), os.Symlink(".", dir+"/here"), os.Symlink("no", dir+"/lost")); err != nil {
		t.Fatal(err)
	}
	f, err := plainfile.OpenPath(dir + "/here/file") // a link above is followed
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, path := range []string{file + "link", dir + "/lost"} {
		_, err := plainfile.OpenPath(path)
		if _, ok := errors.AsType[*plainfile.LinkError](err); !ok {
			t.Errorf("OpenPath(%s): %v", path, err)
		}
	}
	_, err = plainfile.OpenRoot(dir + "/here/")
	if l, ok := errors.AsType[*plainfile.LinkError](err); !ok || l.Target != dir {
		t.Errorf("OpenRoot: %v", err)
	}
	if _, err := plainfile.OpenRoot(file); err == nil {
		t.Error("a file is a root")
	}
}

package datadir_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore/datadir"
)

// TestMain lets the test run itself as the other process.
func TestMain(m *testing.M) {
	if path := os.Getenv("DATADIR_TEST_OPEN"); path != "" {
		d, err := datadir.Open(nil, path)
		if err != nil {
			os.Stdout.WriteString(err.Error())
			os.Exit(3)
		}
		d.Close()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func openElsewhere(t *testing.T, path string) (output string, ok bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "DATADIR_TEST_OPEN="+path)
	out, err := cmd.Output()
	return string(out), err == nil
}

func TestOneProcessHoldsTheFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d, err := datadir.Open(nil, path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = datadir.Open(nil, path)
	var inUse *datadir.InUseError
	if !errors.Is(err, imap.InUse) || !errors.As(err, &inUse) || inUse.PID != os.Getpid() {
		t.Errorf("a second Open here gave %v", err)
	}
	out, ok := openElsewhere(t, path)
	if want := "in use by process " + strconv.Itoa(os.Getpid()); ok || !strings.Contains(out, want) {
		t.Errorf("another process was told %q, want something with %q", out, want)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if out, ok := openElsewhere(t, path); !ok {
		t.Errorf("after Close another process was told %q", out)
	}
}

func TestFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d, err := datadir.Open(nil, path)
	if err != nil {
		t.Fatal(err)
	}
	if d.Format() != datadir.Version {
		t.Errorf("a new folder has format %d", d.Format())
	}
	d.Close()
	for text, kind := range map[string]imap.Kind{
		"rookery store\nformat 999\n":       imap.ContactAdmin,
		"rookery store\nformat 1\n":         imap.ContactAdmin,
		"rookery store\nformat 0\n":         imap.Corruption,
		"rookery store\nformat x\n":         imap.Corruption,
		"rookery store\nformat 2x\n":        imap.Corruption,
		"rookery store\nformat 2\nfrom 2\n": imap.Corruption,
		"rookery store\nformat 2\nfrom x\n": imap.Corruption,
		"":                                  imap.Corruption,
	} {
		if err := os.WriteFile(filepath.Join(path, "FORMAT"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := datadir.Open(nil, path); !errors.Is(err, kind) {
			t.Errorf("format file %q gave %v, want kind %v", text, err, kind)
		}
	}
}

func TestRefusesForeignFolder(t *testing.T) {
	path := t.TempDir()
	if err := os.WriteFile(filepath.Join(path, "letter.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := datadir.Open(nil, path); !errors.Is(err, imap.ContactAdmin) {
		t.Errorf("a folder with other files gave %v", err)
	}
}

func TestCutAtEveryOperation(t *testing.T) {
	crashfs.EveryCut(t, 1, func() crashfs.Scenario {
		opened := false
		return crashfs.Scenario{
			Run: func(t *testing.T, fs *crashfs.FS) {
				d, err := datadir.Open(fs, "data")
				if err != nil {
					t.Fatal(err)
				}
				opened = fs.Alive()
				d.Close()
			},
			Check: func(t *testing.T, fs *crashfs.FS) {
				if _, err := fs.Stat("data/FORMAT"); opened && err != nil {
					t.Errorf("the folder was opened, but its format is lost: %v", err)
				}
				d, err := datadir.Open(fs, "data")
				if err != nil {
					t.Fatal(err)
				}
				d.Close()
			},
		}
	})
}

// A folder that is made with all above it outlives a power cut.
func TestNewFoldersAreDurable(t *testing.T) {
	fs := crashfs.New()
	d, err := datadir.Open(fs, "/srv/mail/rookery/data")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range fs.Clones() {
		if _, err := c.FS.Stat("/srv/mail/rookery/data/FORMAT"); err != nil {
			t.Errorf("with %d%% kept: %v", c.Kept, err)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// Who tidies up removes LOCK and OWNER of a running server: the folder is held
// all the same, and is free when the process has ended, whatever OWNER says.
func TestTheLockOutlivesItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d, err := datadir.Open(nil, path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(path, "LOCK")); err != nil {
		t.Fatal(err)
	}
	want := "in use by process " + strconv.Itoa(os.Getpid())
	for range 2 { // the first that was refused does not take the name of the owner
		if out, ok := openElsewhere(t, path); ok || !strings.Contains(out, want) {
			t.Errorf("without LOCK another process was told %q, want something with %q", out, want)
		}
	}
	if err := os.Remove(filepath.Join(path, "OWNER")); err != nil {
		t.Fatal(err)
	}
	if out, ok := openElsewhere(t, path); ok || !strings.Contains(out, "in use by another process") {
		t.Errorf("without LOCK and OWNER another process was told %q", out)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	// A number of a process that lives, as after a crash when it was given out again.
	if err := os.WriteFile(filepath.Join(path, "OWNER"), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, ok := openElsewhere(t, path); !ok {
		t.Errorf("a folder that nobody has was refused: %q", out)
	}
}

// A store that has lost FORMAT, or has a garbled one, is told how to get it back,
// and what is told is true.
func TestFormatIsLost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d, err := datadir.Open(nil, path)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	if err := os.Mkdir(filepath.Join(path, "journal"), 0o700); err != nil {
		t.Fatal(err)
	}
	format := filepath.Join(path, "FORMAT")
	for _, garbled := range []bool{false, true} {
		if garbled {
			err = os.WriteFile(format, []byte("\x00\x00"), 0o600)
		} else {
			err = os.Remove(format)
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = datadir.Open(nil, path)
		if err == nil {
			t.Fatal("it was opened")
		}
		for _, want := range []string{"from a backup", `"rookery store" and "format 3"`, "rookery check"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("garbled %v: nothing of %s in: %v", garbled, want, err)
			}
		}
		if !garbled && !strings.Contains(err.Error(), "remove nothing") {
			t.Errorf("somebody may remove the only copy: %v", err)
		}
		if err := os.WriteFile(format, []byte("rookery store\nformat 3\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if d, err = datadir.Open(nil, path); err != nil {
			t.Fatal(err)
		}
		d.Close()
	}
}

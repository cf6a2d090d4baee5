package datadir_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/internal/durable"
	"github.com/rookery-mail/rookery/mailstore/datadir"
)

// The formats of these tests are made up. Each step writes the file of its format
// from that of the one before, and removes that: so a step that is run too soon,
// too late or not at all shows.
func upTo(version int, log *slog.Logger) datadir.Formats {
	f := datadir.Formats{Version: version, Logger: log}
	for from := datadir.Version; from < version; from++ {
		f.Steps = append(f.Steps, datadir.Step{From: from, Does: fmt.Sprintf("file %d becomes file %d", from, from+1), Run: func(_ context.Context, d *datadir.Dir) error {
			return convert(d, from)
		}})
	}
	return f
}

const category vfs.DiskWriteCategory = "test"

func convert(d *datadir.Dir, from int) error {
	old, next := d.Join(fmt.Sprint("data", from)), d.Join(fmt.Sprint("data", from+1))
	text, err := contents(d.FS(), old)
	if err != nil {
		if _, err := contents(d.FS(), next); err == nil {
			return nil // it was interrupted behind the removal
		}
		return err
	}
	if err := durable.WriteFile(d.FS(), next, text+fmt.Sprint(" ", from+1), category); err != nil {
		return err
	}
	if err := d.FS().Remove(old); err != nil {
		return err
	}
	return durable.SyncDir(d.FS(), d.Join())
}

func contents(fs vfs.FS, name string) (string, error) {
	f, err := fs.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	p, err := io.ReadAll(f)
	return string(p), err
}

// older makes a folder of this release's format, which is an old one for those
// that the tests make up.
func older(t *testing.T, fs vfs.FS) {
	t.Helper()
	d, err := datadir.Open(fs, "data")
	if err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(fs, fmt.Sprint("data/data", datadir.Version), "mail", category); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

const newest = datadir.Version + 3

var mailOfNewest = fmt.Sprintf("mail %d %d %d", newest-2, newest-1, newest)

func wantNewest(t *testing.T, fs vfs.FS, d *datadir.Dir) {
	t.Helper()
	text, err := contents(fs, fmt.Sprint("data/data", newest))
	if err != nil || text != mailOfNewest || d.Format() != newest {
		t.Errorf("format %d: %q, %v", d.Format(), text, err)
	}
	if text, err := contents(fs, "data/FORMAT"); err != nil || text != fmt.Sprintf("rookery store\nformat %d\n", newest) {
		t.Errorf("FORMAT says %q, %v", text, err)
	}
}

func TestUpgrade(t *testing.T) {
	fs := vfs.NewMem()
	older(t, fs)
	var log strings.Builder
	formats := upTo(newest, slog.New(slog.NewTextHandler(&log, nil)))
	for range 2 { // the second time there is nothing to do
		d, err := datadir.OpenToUpgrade(t.Context(), fs, "data", formats)
		if err != nil {
			t.Fatal(err)
		}
		wantNewest(t, fs, d)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), "the store's format is changed, and durable"); n != 3 || !strings.Contains(log.String(), "becomes file") {
		t.Errorf("%d steps were told:\n%s", n, log.String())
	}
	if _, err := datadir.Open(fs, "data"); !errors.Is(err, imap.ContactAdmin) || !strings.Contains(err.Error(), "newer") {
		t.Errorf("this release opens a newer folder: %v", err)
	}
	// A new folder has no steps to take.
	d, err := datadir.OpenToUpgrade(t.Context(), fs, "new", formats)
	if err != nil || d.Format() != newest {
		t.Fatalf("a new folder: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// Whatever a crash leaves of an upgrade, the next start ends it, and a release that
// does not know the newer format does not open what is half done.
func TestUpgradeCutAtEveryOperation(t *testing.T) {
	crashfs.EveryCut(t, 1, func() crashfs.Scenario {
		return crashfs.Scenario{
			Prepare: func(t *testing.T, fs *crashfs.FS) { older(t, fs) },
			Run: func(t *testing.T, fs *crashfs.FS) {
				d, err := datadir.OpenToUpgrade(t.Context(), fs, "data", upTo(newest, slog.New(slog.DiscardHandler)))
				if err != nil {
					t.Fatal(err)
				}
				d.Close()
			},
			Check: func(t *testing.T, fs *crashfs.FS) {
				d, err := datadir.Open(fs, "data")
				if err == nil { // as it was, untouched
					if text, err := contents(fs, fmt.Sprint("data/data", datadir.Version)); text != "mail" {
						t.Errorf("an old release opens a folder that is half done: %q, %v", text, err)
					}
					d.Close()
				}
				d, err = datadir.OpenToUpgrade(t.Context(), fs, "data", upTo(newest, slog.New(slog.DiscardHandler)))
				if err != nil {
					t.Fatal(err)
				}
				wantNewest(t, fs, d)
				d.Close()
			},
		}
	})
}

// A disk that fails at one operation of an upgrade stops it with a message, and the
// next start ends it.
func TestUpgradeFailsAtEveryOperation(t *testing.T) {
	for at, done := 1, false; !done; at++ {
		fs := crashfs.New()
		older(t, fs)
		n := 0
		fs.Fail(func(op errorfs.Op) error {
			// A lock that is not let go of ends with the process.
			if op.Kind.ReadOrWrite() == errorfs.OpIsRead || strings.HasSuffix(op.Path, "LOCK") {
				return nil
			}
			if n++; n == at {
				return errors.New("input/output error")
			}
			return nil
		})
		d, err := datadir.OpenToUpgrade(t.Context(), fs, "data", upTo(newest, slog.New(slog.DiscardHandler)))
		fs.Fail(nil)
		done = n < at
		if err == nil {
			d.Close()
		} else if imap.KindOf(err) != imap.Unavailable {
			t.Errorf("operation %d: %v", at, err)
		}
		if d, err = datadir.OpenToUpgrade(t.Context(), fs, "data", upTo(newest, slog.New(slog.DiscardHandler))); err != nil {
			t.Fatalf("operation %d, then: %v", at, err)
		}
		wantNewest(t, fs, d)
		d.Close()
	}
}

// What is on its way to a newer format is opened by nobody else.
func TestUpgradeUnderWay(t *testing.T) {
	fs := vfs.NewMem()
	older(t, fs)
	stop := errors.New("the disk is full")
	formats := datadir.Formats{Version: datadir.Version + 1, Logger: slog.New(slog.DiscardHandler), Steps: []datadir.Step{{
		From: datadir.Version, Does: "nothing", Run: func(context.Context, *datadir.Dir) error { return stop },
	}}}
	_, err := datadir.OpenToUpgrade(t.Context(), fs, "data", formats)
	if !errors.Is(err, stop) || !strings.Contains(err.Error(), "no mail is lost") {
		t.Errorf("a step that fails: %v", err)
	}
	if _, err := datadir.Open(fs, "data"); !errors.Is(err, imap.ContactAdmin) {
		t.Errorf("half done, and opened: %v", err)
	}
	formats.Steps = nil
	if _, err := datadir.OpenToUpgrade(t.Context(), fs, "data", formats); !errors.Is(err, imap.ServerBug) {
		t.Errorf("without its step: %v", err)
	}
	half := fmt.Sprintf("rookery store\nformat %d\nfrom %d\n", datadir.Version, datadir.Version-1)
	if err := durable.WriteFile(fs, "data/FORMAT", half, category); err != nil {
		t.Fatal(err)
	}
	_, err = datadir.Open(fs, "data")
	if !errors.Is(err, imap.ContactAdmin) || !strings.Contains(err.Error(), "is on its way from format") || !strings.Contains(err.Error(), "start the server") {
		t.Errorf("for a check of what is half done: %v", err)
	}
	if text, err := contents(fs, "data/FORMAT"); text != half {
		t.Errorf("it was changed to %q, %v", text, err)
	}
}

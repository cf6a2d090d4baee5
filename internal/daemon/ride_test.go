package daemon

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/internal/crashfs"
)

// TestRidesArePartOfTheIndex: what was acknowledged because it rode with the messages is
// there after a power cut for a server, a check, and a repair that has no index.
func TestRidesArePartOfTheIndex(t *testing.T) {
	for kept := range 3 {
		disk := crashfs.New()
		l := &life{t: t, rng: rand.New(rand.NewPCG(1, 1)), s: openHome(t, disk), expunged: make(map[string]bool), users: []string{"ann", "bob"}}
		if err := l.s.store.Users().Set(t.Context(), "ann", "a hash"); err != nil {
			t.Fatal(err)
		}
		for n := range 30 {
			l.step()
			if err := l.append(l.account(), "INBOX", 500+100*n); err != nil {
				t.Fatal(err)
			}
		}
		want := lookAt(t, l.s)
		if rides := l.s.blobs.Stats().Rides; rides < 20 {
			t.Errorf("only %d rides", rides)
		}
		crashed := disk.Clones()[kept].FS
		if err := l.s.Close(); err != nil {
			t.Error(err)
		}
		for what, remove := range map[string]string{"nothing": "", "the index": home + "/index", "the journal": home + "/journal"} {
			t.Run(fmt.Sprintf("kept=%d,without %s", kept, what), func(t *testing.T) {
				d := copyDisk(t, crashed)
				if remove == "" {
					clean(t, d)
				} else if err := d.RemoveAll(remove); err != nil {
					t.Fatal(err)
				}
				same(t, want, repair(t, d))
			})
		}
		served := func(t *testing.T, d vfs.FS) {
			s := openHome(t, d)
			if d := cmp.Diff(want.Boxes, lookAt(t, s).Boxes); d != "" {
				t.Errorf("mailboxes differ:\n%s", d)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		t.Run(fmt.Sprintf("kept=%d,served", kept), func(t *testing.T) { served(t, crashed) })
	}
}

// TestRiderRots: what has ridden is damaged after a power cut, and what rode later shows
// that something is missing. A server does not start, a check says why, and a repair brings
// every message back, to where it was or to Recovered.
func TestRiderRots(t *testing.T) {
	disk := crashfs.New()
	l := &life{t: t, rng: rand.New(rand.NewPCG(1, 1)), s: openHome(t, disk), expunged: make(map[string]bool), users: []string{"ann", "bob"}}
	if err := l.s.store.Users().Set(t.Context(), "ann", "a hash"); err != nil {
		t.Fatal(err)
	}
	for n := range 30 {
		if err := l.append(l.account(), "INBOX", 500+100*n); err != nil {
			t.Fatal(err)
		}
	}
	want := lookAt(t, l.s)
	crashed := disk.Clones()[0].FS
	if err := l.s.Close(); err != nil {
		t.Error(err)
	}
	spoilRider(t, crashed)
	if lost := defectsOf(t, crashed); !slices.ContainsFunc(lost, func(text string) bool {
		return strings.Contains(text, "changes that were acknowledged are missing") && strings.Contains(text, "--repair")
	}) {
		t.Errorf("a check finds %q", lost)
	}
	s, err := openTuned(context.Background(), home, tuning{log: slog.New(slog.DiscardHandler), fs: crashed})
	if !errors.Is(err, imap.Corruption) || !strings.Contains(fmt.Sprint(err), "rookery check --repair") {
		t.Errorf("a server: %v", err)
	}
	if err == nil {
		_ = s.Close()
	}
	r := repair(t, crashed)
	before, after := 0, 0
	for _, b := range want.Boxes {
		before += len(b.Rows)
	}
	for name, b := range r.now.Boxes {
		after += len(b.Rows)
		if old := want.Boxes[name]; old != nil && b.Validity == old.Validity && b.UIDNext < old.UIDNext {
			t.Errorf("%s: UIDs from %d on would be used again up to %d", name, b.UIDNext, old.UIDNext)
		}
	}
	if after < before || r.Recovered == 0 {
		t.Errorf("%d messages before, %d after: %+v %q", before, after, r.RepairResult, r.notes)
	}
}

// spoilRider damages one of the riders of a disk.
func spoilRider(t *testing.T, disk vfs.FS) {
	t.Helper()
	name, err := hex.DecodeString(strings.TrimSpace(string(get(t, disk, home+"/index/RIDES"))))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files(t, disk, home+"/messages") {
		data := get(t, disk, path)
		if bytes.Count(data, name) < 10 {
			continue
		}
		at := 0
		for range 5 {
			at += 1 + bytes.Index(data[at+1:], name)
		}
		data[at+70] ^= 4
		put(t, disk, path, data)
		return
	}
	t.Fatal("nothing has ridden")
}

// defectsOf returns what a check finds.
func defectsOf(t *testing.T, disk vfs.FS) (list []string) {
	t.Helper()
	dir, err := openDir(disk, home)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	s, err := look(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	k := &check{storage: s, report: func(e admin.Event) {
		if e.Defect != nil {
			list = append(list, e.Defect.String())
		}
	}}
	if err := errors.Join(k.run(context.Background()), s.closeEngines()); err != nil {
		t.Error(err)
	}
	return list
}

// TestRidesUnreadable: after an orderly end nobody needs to know which opening has ridden.
func TestRidesUnreadable(t *testing.T) {
	disk := crashfs.New()
	l := &life{t: t, rng: rand.New(rand.NewPCG(1, 1)), s: openHome(t, disk), expunged: make(map[string]bool), users: []string{"ann", "bob"}}
	for n := range 5 {
		if err := l.append(l.account(), "INBOX", 500+100*n); err != nil {
			t.Fatal(err)
		}
	}
	want := lookAt(t, l.s)
	if err := l.s.Close(); err != nil {
		t.Error(err)
	}
	disk.Fail(func(op errorfs.Op) error {
		if strings.HasSuffix(op.Path, "/RIDES") && !crashfs.Changes(op) {
			return syscall.EIO
		}
		return nil
	})
	s := openHome(t, disk)
	if d := cmp.Diff(want.Boxes, lookAt(t, s).Boxes); d != "" {
		t.Errorf("mailboxes differ:\n%s", d)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

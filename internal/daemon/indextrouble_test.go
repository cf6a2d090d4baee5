package daemon

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// A server that does not start since its index is damaged says what to do, and so
// does a check.
func TestIndexTrouble(t *testing.T) {
	disk := vfs.NewMem()
	_, end := lived(t, disk, 1, 60)
	end()
	rng := rand.New(rand.NewPCG(7, 7))
	const remedy = "run `rookery check --repair --data home`"
	refused := 0
	for _, path := range files(t, disk, home+"/index") {
		for _, how := range slices.Sorted(maps.Keys(damages)) {
			hurt := copyDisk(t, disk)
			damages[how](t, hurt, path, rng)
			checked := copyDisk(t, hurt)
			s, err := openTuned(context.Background(), home, tuning{log: slog.New(slog.DiscardHandler), fs: hurt})
			if err == nil {
				_ = s.Close() // it may meet the damage
				continue
			}
			refused++
			if kind := imap.KindOf(err); kind != imap.Corruption && kind != imap.ContactAdmin || !strings.Contains(err.Error(), remedy) {
				t.Errorf("%s %s: a server says %v, which is %v", path, how, err, kind)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%s %s: more than one line: %v", path, how, err)
			}
			if texts := checkOf(t, checked); !strings.Contains(texts, remedy) {
				t.Errorf("%s %s: a check says %s", path, how, texts)
			}
		}
	}
	if refused < 3 {
		t.Errorf("only %d damages keep a server from starting", refused)
	}
}

// TestIndexOfANewerRelease: an index that this release does not know is not taken
// for a damaged one, which a repair would make anew.
func TestIndexOfANewerRelease(t *testing.T) {
	disk := vfs.NewMem()
	_, end := lived(t, disk, 1, 5)
	end()
	kv, err := pebblekv.Open(home+"/index", pebblekv.Options{FS: disk, Journal: home + "/journal", Existing: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	err = kv.Update(context.Background(), 0, func(tx driver.Txn) error { return tx.Set([]byte{'F'}, []byte{99}) })
	if err = errors.Join(err, kv.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := openTuned(context.Background(), home, tuning{log: slog.New(slog.DiscardHandler), fs: disk})
	if err == nil {
		_ = s.Close()
		t.Fatal("it is opened")
	}
	if text := err.Error(); !strings.Contains(text, "use a newer rookery") || strings.Contains(text, "repair") {
		t.Error(text)
	}
}

// checkOf returns what a check finds.
func checkOf(t *testing.T, disk vfs.FS) string {
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
	var texts []string
	k := &check{storage: s, report: func(e admin.Event) {
		if e.Defect != nil {
			texts = append(texts, e.Defect.Text)
		}
	}}
	if err := k.run(context.Background()); err != nil {
		t.Fatal(err)
	}
	return strings.Join(texts, "\n")
}

package pebblekv_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// lookAll is Look.
func lookAll(t *testing.T, kv *pebblekv.KV) []pebblekv.Missing {
	t.Helper()
	list, err := kv.Look(context.Background(), true)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// matching lists the files that match a pattern, the last first.
func matching(t *testing.T, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(pattern)
	if err != nil || len(list) == 0 {
		t.Fatalf("nothing matches %s: %v", pattern, err)
	}
	slices.Sort(list)
	slices.Reverse(list)
	return list
}

// remove removes files, or has others take their place.
func remove(t *testing.T, replace bool, paths ...string) {
	t.Helper()
	for _, path := range paths {
		var err error
		if replace {
			if err = os.WriteFile(path+"x", []byte("something else"), 0o600); err == nil {
				err = os.Rename(path+"x", path)
			}
		} else {
			err = os.RemoveAll(path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

const (
	logsOfIndex   = "data/index/*.log"
	logsOfJournal = "data/journal/*/*.log"
)

// rested makes a store with a state and with tables, which are open.
func rested(t *testing.T) (kv *pebblekv.KV, want map[string]string) {
	t.Helper()
	kv, want = journaled(t, vfs.Default, pebblekv.Options{Still: true}), make(map[string]string)
	rng := rand.New(rand.NewPCG(4, 2))
	for range 2 {
		for range 50 {
			if err := change(rng, kv, want); err != nil {
				t.Fatal(err)
			}
		}
		if err := kv.Settle(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	contents(t, kv)
	return kv, want
}

// TestGone: somebody removes files of the database or of its journal while changes go
// on. All that was acknowledged, before, meanwhile and afterwards, is in the journal,
// and in the database where it can be opened again.
func TestGone(t *testing.T) {
	for _, test := range []struct {
		name  string
		take  func(t *testing.T)
		saved bool // the database can be opened again
	}{
		{"log", func(t *testing.T) { remove(t, false, matching(t, logsOfIndex)[0]) }, true},
		{"logs", func(t *testing.T) { remove(t, false, matching(t, logsOfIndex)...) }, true},
		{"log in the journal", func(t *testing.T) { remove(t, false, matching(t, logsOfJournal)[0]) }, true},
		{"log in both", func(t *testing.T) {
			remove(t, false, matching(t, logsOfIndex)[0], matching(t, logsOfJournal)[0])
		}, true},
		{"log replaced", func(t *testing.T) { remove(t, true, matching(t, logsOfIndex)[0]) }, true},
		{"log in the journal replaced", func(t *testing.T) { remove(t, true, matching(t, logsOfJournal)[0]) }, true},
		{"log in both replaced", func(t *testing.T) {
			remove(t, true, matching(t, logsOfIndex)[0], matching(t, logsOfJournal)[0])
		}, true},
		{"journal", func(t *testing.T) { remove(t, false, "data/journal") }, true},
		{"log and journal", func(t *testing.T) { remove(t, false, "data/journal", matching(t, logsOfIndex)[0]) }, true},
		{"epoch", func(t *testing.T) { remove(t, false, "data/index/JOURNAL") }, true},
		{"manifest", func(t *testing.T) { remove(t, false, matching(t, "data/index/MANIFEST-*")...) }, false},
		{"tables", func(t *testing.T) { remove(t, false, matching(t, "data/index/*.sst")...) }, false},
		{"all files", func(t *testing.T) { remove(t, false, matching(t, "data/index/*")...) }, false},
		{"folder", func(t *testing.T) { remove(t, false, "data/index") }, false},
		{"folder moved", func(t *testing.T) {
			if err := os.Rename("data/index", "data/elsewhere"); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"folders", func(t *testing.T) { remove(t, false, "data/index", "data/journal") }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			kv, want := rested(t)
			rng := rand.New(rand.NewPCG(3, 3))
			more := func() {
				t.Helper()
				for range 20 {
					if err := change(rng, kv, want); err != nil {
						t.Fatal(err)
					}
				}
			}
			if list := lookAll(t, kv); len(list) > 0 {
				t.Fatalf("before, a look found %+v", list)
			}
			test.take(t)
			more()
			list := lookAll(t, kv)
			for _, m := range list {
				if needed := strings.Contains(m.File, "MANIFEST") || strings.Contains(m.File, "OPTIONS") ||
					strings.Contains(m.File, "marker") || strings.HasSuffix(m.File, ".sst"); m.Saved == needed || m.Saved != (m.Err == nil) {
					t.Errorf("a look found %+v", m)
				}
			}
			if len(list) == 0 || test.saved == slices.ContainsFunc(list, func(m pebblekv.Missing) bool { return !m.Saved }) {
				t.Errorf("a look found %+v", list)
			}
			more()
			for _, m := range lookAll(t, kv) {
				if m.Saved || test.saved {
					t.Errorf("the next look found %+v", m)
				}
			}
			if problems, err := kv.VerifyJournal(context.Background()); err != nil || len(problems) > 0 {
				t.Errorf("the journal: %v, %v", problems, err)
			}
			if err := kv.Close(); err != nil {
				t.Error(err)
			}
			if got, report := replayed(t, vfs.Default); !report.Whole || !maps.Equal(got, lasting(want)) {
				t.Errorf("the journal has %d keys, want %d: %+v", len(got), len(lasting(want)), report)
			}
			if !test.saved {
				return
			}
			kv = journaled(t, vfs.Default, pebblekv.Options{Existing: true})
			if got := contents(t, kv); !maps.Equal(got, want) {
				t.Errorf("opened again, %d keys are there, want %d", len(got), len(want))
			}
			if err := kv.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestGoneBesideNewLogs: logs that are removed are missed also when they are not the
// newest any more.
func TestGoneBesideNewLogs(t *testing.T) {
	for name, pattern := range map[string][]string{
		"log": {logsOfIndex}, "log in the journal": {logsOfJournal}, "both": {logsOfIndex, logsOfJournal},
	} {
		for _, other := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, replaced %v", name, other), func(t *testing.T) {
				t.Chdir(t.TempDir())
				kv, want := busy(t, vfs.Default)
				rng := rand.New(rand.NewPCG(3, 3))
				for _, p := range pattern {
					remove(t, other, matching(t, p)[0])
				}
				for range 60 {
					if err := change(rng, kv, want); err != nil {
						t.Fatal(err)
					}
				}
				for _, m := range lookAll(t, kv) {
					if !m.Saved {
						t.Errorf("a look found %+v", m)
					}
				}
				if list := lookAll(t, kv); len(list) > 0 {
					t.Errorf("the next look found %+v", list)
				}
				if err := kv.Close(); err != nil {
					t.Error(err)
				}
				if got, report := replayed(t, vfs.Default); !report.Whole || !maps.Equal(got, lasting(want)) {
					t.Errorf("the journal has %d keys, want %d: %+v", len(got), len(lasting(want)), report)
				}
				kv = journaled(t, vfs.Default, pebblekv.Options{Existing: true})
				if got := contents(t, kv); !maps.Equal(got, want) {
					t.Errorf("opened again, %d keys are there, want %d", len(got), len(want))
				}
				if err := kv.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestGoneSeesItsOwn: files that the database removes by itself are not missed.
func TestGoneSeesItsOwn(t *testing.T) {
	t.Chdir(t.TempDir())
	kv, want := busy(t, vfs.Default)
	rng := rand.New(rand.NewPCG(3, 3))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 500 {
			if err := change(rng, kv, want); err != nil {
				t.Error(err)
			}
		}
	}()
	defer func() { <-done }()
	for end := false; !end; {
		select {
		case <-done:
			end = true
		default:
		}
		if list := lookAll(t, kv); len(list) > 0 {
			t.Fatalf("a look found %+v", list)
		}
	}
	if err := kv.Close(); err != nil {
		t.Error(err)
	}
}

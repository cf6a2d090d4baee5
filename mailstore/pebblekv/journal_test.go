package pebblekv_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

var silent = slog.New(slog.DiscardHandler)

// derivedT says that keys that begin with t can be made anew.
func derivedT(_ driver.Account, key []byte) []byte {
	if len(key) > 0 && key[0] == 't' {
		return []byte{'u'}
	}
	return nil
}

func journaled(t *testing.T, fs vfs.FS, opts pebblekv.Options) *pebblekv.KV {
	t.Helper()
	opts.FS, opts.Logger, opts.Journal, opts.Derived = fs, silent, "data/journal", derivedT
	kv, err := pebblekv.Open("data/index", opts)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

// contents returns all keys of some accounts.
func contents(t *testing.T, kv *pebblekv.KV) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for a := range driver.Account(4) {
		err := kv.View(context.Background(), a, func(r driver.Reader) error {
			return r.Scan([]byte{0}, nil, func(key, value []byte) bool {
				all[fmt.Sprintf("%d %s", a, key)] = string(value)
				return true
			})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// replayed makes a store of a journal.
func replayed(t *testing.T, fs vfs.FS) (map[string]string, *pebblekv.JournalReport) {
	t.Helper()
	kv, err := pebblekv.Open("new", pebblekv.Options{FS: vfs.NewMem(), Logger: silent, Derived: derivedT})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	report, err := kv.Replay(context.Background(), fs, "data/journal", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return contents(t, kv), report
}

func lasting(all map[string]string) map[string]string {
	all = maps.Clone(all)
	maps.DeleteFunc(all, func(key, _ string) bool { return key[2] == 't' })
	return all
}

// change makes a random change and says in want what is to be there.
func change(rng *rand.Rand, kv *pebblekv.KV, want map[string]string) error {
	a := driver.Account(rng.IntN(4))
	after := maps.Clone(want)
	err := kv.Update(context.Background(), a, func(tx driver.Txn) error {
		after = maps.Clone(want)
		for range 1 + rng.IntN(5) {
			key := fmt.Sprintf("%c%03d", "kt"[rng.IntN(2)], rng.IntN(300))
			switch rng.IntN(8) {
			case 0:
				if err := tx.Delete([]byte(key)); err != nil {
					return err
				}
				delete(after, fmt.Sprintf("%d %s", a, key))
			case 1:
				end := key + strings.Repeat("0", rng.IntN(2)) + "~"
				if rng.IntN(20) == 0 {
					end = key[:1] + "~"
				}
				if err := tx.DeleteRange([]byte(key), []byte(end)); err != nil {
					return err
				}
				maps.DeleteFunc(after, func(k, _ string) bool {
					return k[:1] == fmt.Sprint(a) && k[2:] >= key && k[2:] < end
				})
			default:
				value := string(binary.AppendUvarint(nil, rng.Uint64())) + strings.Repeat("v", rng.IntN(3000))
				if err := tx.Set([]byte(key), []byte(value)); err != nil {
					return err
				}
				after[fmt.Sprintf("%d %s", a, key)] = value
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	clear(want)
	maps.Copy(want, after)
	return nil
}

// TestJournal: whatever is done, and however the store ends, its journal says
// the same.
func TestJournal(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			fs := vfs.NewMem()
			want := make(map[string]string)
			opts := pebblekv.Options{MemTableBytes: 64 << 10, JournalBytes: 200 << 10}
			for life := range 4 {
				kv := journaled(t, fs, opts)
				for range 200 {
					if err := change(rng, kv, want); err != nil {
						t.Fatal(err)
					}
				}
				if life%2 == 0 {
					if err := kv.SaveState(context.Background()); err != nil {
						t.Fatal(err)
					}
					if err := change(rng, kv, want); err != nil {
						t.Fatal(err)
					}
				}
				if err := kv.Settle(context.Background()); err != nil && life > 1 {
					t.Fatal(err)
				}
				if err := kv.Close(); err != nil {
					t.Fatal(err)
				}
				got, report := replayed(t, fs)
				if !report.Whole || !maps.Equal(got, lasting(want)) {
					t.Errorf("life %d, closed: the journal has %d keys, and %d are there: %+v", life, len(got), len(lasting(want)), report)
				}
			}
			bounded(t, fs)
		})
	}
}

// bounded wants two states at most, and no log from before them.
func bounded(t *testing.T, fs vfs.FS) {
	t.Helper()
	epochs, err := fs.List("data/journal")
	if err != nil || len(epochs) != 1 {
		t.Fatalf("epochs %v, %v", epochs, err)
	}
	names, err := fs.List("data/journal/" + epochs[0])
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	states := 0
	for _, n := range names {
		if strings.HasPrefix(n, "state-") {
			states++
		}
	}
	if states == 0 || states > 2 || len(names) > 40 {
		t.Errorf("the journal has %d states, and %v", states, names)
	}
}

// TestJournalDamage: what is missing or damaged is noticed, and what is before
// it is there.
func TestJournalDamage(t *testing.T) {
	fs := vfs.NewMem()
	rng := rand.New(rand.NewPCG(1, 2))
	want := make(map[string]string)
	kv := journaled(t, fs, pebblekv.Options{MemTableBytes: 64 << 10, JournalBytes: 1 << 30})
	for range 2 {
		for range 300 {
			if err := change(rng, kv, want); err != nil {
				t.Fatal(err)
			}
		}
		if err := kv.SaveState(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	for range 300 {
		if err := change(rng, kv, want); err != nil {
			t.Fatal(err)
		}
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	epochs, _ := fs.List("data/journal")
	dir := "data/journal/" + epochs[0]
	names, _ := fs.List(dir)
	slices.Sort(names)
	newest := ""
	for _, n := range names {
		if strings.HasPrefix(n, "state-") {
			newest = n
		}
	}
	for _, name := range names {
		f, err := fs.Open(dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		info, _ := f.Stat()
		whole := make([]byte, info.Size())
		if _, err := f.ReadAt(whole, 0); err != nil && len(whole) > 0 {
			t.Fatal(err)
		}
		f.Close()
		for _, how := range []string{"removed", "cut", "flipped"} {
			broken := slices.Clone(whole)
			if len(broken) > 0 && how == "flipped" {
				broken[len(broken)/2] ^= 4
			} else if how == "cut" {
				broken = broken[:len(broken)/2]
			}
			write(t, fs, dir+"/"+name, broken)
			if how == "removed" {
				if err := fs.Remove(dir + "/" + name); err != nil {
					t.Fatal(err)
				}
			}
			got, report := replayed(t, fs)
			same := maps.Equal(got, lasting(want))
			if report.Whole && !same {
				t.Errorf("%s %s: nobody has noticed", name, how)
			}
			if name == newest && !same {
				t.Errorf("%s %s: the state before did not do: %+v", name, how, report)
			}
			if !report.Found {
				t.Errorf("%s %s: nothing was found: %+v", name, how, report)
			}
		}
		write(t, fs, dir+"/"+name, whole)
	}
	if got, report := replayed(t, fs); !report.Whole || !maps.Equal(got, lasting(want)) {
		t.Errorf("the test has not put things back: %+v", report)
	}
}

func write(t *testing.T, fs vfs.FS, name string, data []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.Write(data)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// TestJournalLogLost: a store whose newest log was lost is not opened, for the
// journal has what it lacks; also not after a start that let the former log go.
func TestJournalLogLost(t *testing.T) {
	for lives := 1; lives <= 3; lives++ {
		fs := vfs.NewMem()
		rng := rand.New(rand.NewPCG(3, 3))
		want := make(map[string]string)
		for range lives {
			kv := journaled(t, fs, pebblekv.Options{})
			for range 10 {
				if err := change(rng, kv, want); err != nil {
					t.Fatal(err)
				}
			}
			if err := kv.Close(); err != nil {
				t.Fatal(err)
			}
		}
		names, err := fs.List("data/index")
		if err != nil {
			t.Fatal(err)
		}
		names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, ".log") })
		slices.Sort(names)
		if len(names) != 1 {
			t.Fatalf("%d lives: the logs are %v, not the newest alone", lives, names)
		}
		if err := fs.Remove("data/index/" + names[0]); err != nil {
			t.Fatal(err)
		}
		_, err = pebblekv.Open("data/index", pebblekv.Options{FS: fs, Logger: silent, Journal: "data/journal", Derived: derivedT})
		if imap.KindOf(err) != imap.Corruption {
			t.Errorf("%d lives: a store without its newest log: %v", lives, err)
		}
	}
}

// TestJournalLogNeverWritten: a crash has kept that a log was begun, but neither of its
// names, and nothing was in it. The next opening sees to it that nobody misses it.
func TestJournalLogNeverWritten(t *testing.T) {
	fs := vfs.NewMem()
	kv := journaled(t, fs, pebblekv.Options{})
	commits(t, kv, 0, 10)
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	dir, _ := journalFiles(t, fs)
	replace(t, fs, dir+"/logs", append(read(t, fs, dir+"/logs"), "99 0\n"...))
	kv = journaled(t, fs, pebblekv.Options{})
	now := contents(t, kv)
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	if got, report := replayed(t, fs); !report.Whole || !maps.Equal(got, lasting(now)) {
		t.Errorf("the journal has %d keys, the store %d: %+v", len(got), len(lasting(now)), report)
	}
}

// TestJournalCut: after a power cut at any operation the journal alone has what
// was acknowledged, also when states are being saved meanwhile, and the store
// goes on with it.
func TestJournalCut(t *testing.T) {
	opts := pebblekv.Options{MemTableBytes: 32 << 10, JournalBytes: 64 << 10}
	cuts := crashfs.EveryCut(t, 1, func() crashfs.Scenario {
		acked, next := make(map[string]string), make(map[string]string)
		return crashfs.Scenario{
			Prepare: func(t *testing.T, fs *crashfs.FS) {
				if err := fs.MkdirAll("data", 0o700); err != nil {
					t.Fatal(err)
				}
				if d, err := fs.OpenDir(""); err != nil || d.Sync() != nil {
					t.Fatal(err)
				}
			},
			Run: func(t *testing.T, fs *crashfs.FS) {
				rng := rand.New(rand.NewPCG(7, 7))
				want := make(map[string]string)
				for life := range 2 {
					kv := journaled(t, fs, opts)
					for i := range 25 {
						if err := change(rng, kv, want); err != nil {
							t.Fatal(err)
						}
						next = maps.Clone(want)
						if fs.Alive() {
							acked = maps.Clone(want)
						} else {
							_ = kv.Close() // the rest has no effect
							return
						}
						if i == 12 && life == 1 {
							if err := kv.SaveState(context.Background()); err != nil {
								t.Fatal(err)
							}
						}
					}
					if err := kv.Close(); err != nil {
						t.Fatal(err)
					}
				}
			},
			Check: func(t *testing.T, fs *crashfs.FS) {
				there, err := pebblekv.HasJournal(fs, "data/journal")
				if err != nil || !there && len(acked) > 0 {
					t.Fatalf("no journal: %v", err)
				}
				if there {
					got, report := replayed(t, fs)
					if !maps.Equal(got, lasting(acked)) && !maps.Equal(got, lasting(next)) {
						t.Errorf("the journal has %d keys, acknowledged were %d: %+v", len(got), len(lasting(acked)), report)
					}
				}
				kv := journaled(t, fs, opts)
				now := contents(t, kv)
				if !maps.Equal(now, acked) && !maps.Equal(now, next) {
					t.Errorf("the store has %d keys, acknowledged were %d", len(now), len(acked))
				}
				if err := change(rand.New(rand.NewPCG(9, 9)), kv, now); err != nil {
					t.Error(err)
				}
				if err := kv.Close(); err != nil {
					t.Error(err)
				}
				got, report := replayed(t, fs)
				if !report.Whole || !maps.Equal(got, lasting(now)) {
					t.Errorf("afterwards the journal has %d keys, the store %d: %+v", len(got), len(lasting(now)), report)
				}
			},
		}
	})
	t.Logf("%d cuts", cuts)
}

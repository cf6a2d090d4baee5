package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/internal/durable"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

var damages = map[string]func(t *testing.T, disk vfs.FS, path string, rng *rand.Rand){
	"removed": func(t *testing.T, disk vfs.FS, path string, _ *rand.Rand) {
		if err := disk.Remove(path); err != nil {
			t.Fatal(err)
		}
	},
	"cut": func(t *testing.T, disk vfs.FS, path string, rng *rand.Rand) {
		data := get(t, disk, path)
		if err := disk.Remove(path); err != nil { // it may have another name
			t.Fatal(err)
		}
		put(t, disk, path, data[:rng.IntN(len(data)+1)])
	},
	"flipped": func(t *testing.T, disk vfs.FS, path string, rng *rand.Rand) {
		data := get(t, disk, path)
		if err := disk.Remove(path); err != nil {
			t.Fatal(err)
		}
		if len(data) > 0 {
			data[rng.IntN(len(data))] ^= byte(1 + rng.IntN(255))
		}
		put(t, disk, path, data)
	},
}

// TestRepairIndex: whatever happens to the index, it is made again as it was.
func TestRepairIndex(t *testing.T) {
	disk := crashfs.New()
	want, end := lived(t, disk, 1, 250)
	crashed := disk.Clones()[0].FS
	end()
	for name, base := range map[string]vfs.FS{"closed in order": disk, "crashed": crashed} {
		t.Run(name, func(t *testing.T) {
			whole := copyDisk(t, base)
			if err := whole.RemoveAll(home + "/index"); err != nil {
				t.Fatal(err)
			}
			same(t, want, repair(t, whole))
			rng := rand.New(rand.NewPCG(5, 5))
			for _, path := range files(t, base, home+"/index") {
				for _, how := range slices.Sorted(maps.Keys(damages)) {
					t.Run(fmt.Sprintf("%s %s", path, how), func(t *testing.T) {
						d := copyDisk(t, base)
						damages[how](t, d, path, rng)
						same(t, want, repair(t, d))
					})
				}
			}
		})
	}
}

// TestRepairWithoutJournal: with the index gone, and the journal damaged, or the
// index damaged and the journal gone, nothing is dropped silently.
func TestRepairWithoutJournal(t *testing.T) {
	disk := vfs.NewMem()
	want, end := lived(t, disk, 2, 250)
	end()
	rng := rand.New(rand.NewPCG(6, 6))
	for _, path := range append(files(t, disk, home+"/journal"), files(t, disk, home+"/index")...) {
		for _, how := range slices.Sorted(maps.Keys(damages)) {
			t.Run(fmt.Sprintf("%s %s", path, how), func(t *testing.T) {
				d := copyDisk(t, disk)
				gone := "/index"
				if strings.HasPrefix(path, home+"/index") {
					gone = "/journal"
				}
				if err := d.RemoveAll(home + gone); err != nil {
					t.Fatal(err)
				}
				damages[how](t, d, path, rng)
				// Lists of logs, and of how long they were, prove nothing of mail; there
				// are two saved states.
				honest(t, want, repair(t, d), gone == "/index" && !strings.HasSuffix(path, ".log"))
			})
		}
	}
	t.Run("neither", func(t *testing.T) {
		d := copyDisk(t, disk)
		if err := errors.Join(d.RemoveAll(home+"/index"), d.RemoveAll(home+"/journal")); err != nil {
			t.Fatal(err)
		}
		got := repair(t, d)
		honest(t, want, got, false)
		if got.Recovered == 0 {
			t.Error("nothing is recovered")
		}
	})
}

// TestRepairMessages: what files of messages have lost is named, and the rest is
// as it was.
func TestRepairMessages(t *testing.T) {
	disk := vfs.NewMem()
	want, end := lived(t, disk, 3, 120)
	end()
	rng := rand.New(rand.NewPCG(7, 7))
	for _, path := range files(t, disk, home+"/messages") {
		for range 3 {
			for _, how := range slices.Sorted(maps.Keys(damages)) {
				t.Run(fmt.Sprintf("%s %s", path, how), func(t *testing.T) {
					d := copyDisk(t, disk)
					damages[how](t, d, path, rng)
					got := repair(t, d)
					honest(t, want, got, true)
					if got.Renewed+got.Recovered > 0 {
						t.Errorf("the index was whole: %s", strings.Join(got.notes, "\n"))
					}
					for name, b := range got.now.Boxes {
						for uid, row := range b.Rows {
							if row != want.Boxes[name].Rows[uid] {
								t.Errorf("%s UID %d: %q was %q", name, uid, row, want.Boxes[name].Rows[uid])
							}
						}
					}
				})
			}
		}
	}
}

// TestRepairRecords: single records that say nonsense, as a wrong program might
// write them, into the journal, too.
func TestRepairRecords(t *testing.T) {
	disk := vfs.NewMem()
	want, end := lived(t, disk, 4, 120)
	end()
	for seed := range uint64(60) {
		if testing.Short() && seed > 15 {
			break
		}
		for _, journaled := range []bool{true, false} {
			t.Run(fmt.Sprintf("seed=%d,journaled=%v", seed, journaled), func(t *testing.T) {
				d := copyDisk(t, disk)
				rng := rand.New(rand.NewPCG(seed, 8))
				spoil(t, d, rng, journaled)
				got := repair(t, d)
				switch {
				case !got.Needed: // what it says makes sense
				case journaled:
					honest(t, want, got, false)
				default:
					same(t, want, got)
				}
			})
		}
	}
}

// spoil changes some records.
func spoil(t *testing.T, disk vfs.FS, rng *rand.Rand, journaled bool) {
	t.Helper()
	opts := pebblekv.Options{FS: disk, Logger: slog.New(slog.DiscardHandler), Derived: mailstore.DerivedRange}
	if journaled {
		opts.Journal = home + "/journal"
	}
	kv, err := pebblekv.Open(home+"/index", opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := kv.Close(); err != nil {
			t.Error(err)
		}
	}()
	a := driver.Account(1 + rng.IntN(3))
	err = kv.Update(context.Background(), a, func(tx driver.Txn) error {
		byKind := make(map[byte][]string)
		err := tx.Scan([]byte{0}, nil, func(key, _ []byte) bool {
			byKind[key[0]] = append(byKind[key[0]], string(key))
			return true
		})
		for range 1 + rng.IntN(3) {
			kinds := slices.Sorted(maps.Keys(byKind))
			keys := byKind[kinds[rng.IntN(len(kinds))]]
			key := []byte(keys[rng.IntN(len(keys))])
			value, _, _ := tx.Get(key)
			value = slices.Clone(value)
			switch {
			case rng.IntN(4) == 0 || len(value) == 0:
				err = errors.Join(err, tx.Delete(key))
			case rng.IntN(3) == 0:
				err = errors.Join(err, tx.Set(key, value[:rng.IntN(len(value))]))
			default:
				value[rng.IntN(len(value))] ^= byte(1 << rng.IntN(8))
				err = errors.Join(err, tx.Set(key, value))
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRepairAtRandom damages several things at once.
func TestRepairAtRandom(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 12
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 3))
			power := crashfs.New()
			want, end := lived(t, power, seed, 60+rng.IntN(100))
			crashed, disk := rng.IntN(2) == 0, power
			if crashed {
				disk = power.Clones()[0].FS
			}
			end()
			var done []string
			for range 1 + rng.IntN(4) {
				dirs := []string{"index", "index", "journal", "messages"}
				list := files(t, disk, home+"/"+dirs[rng.IntN(len(dirs))])
				how := slices.Sorted(maps.Keys(damages))[rng.IntN(len(damages))]
				path := list[rng.IntN(len(list))]
				damages[how](t, disk, path, rng)
				done = append(done, path+" "+how)
				if len(files(t, disk, home+"/messages")) < 2 {
					break
				}
			}
			got := repair(t, disk)
			all := strings.Join(done, " ")
			index, journal := strings.Contains(all, "/index/"), strings.Contains(all, "/journal/")
			if !crashed || !index || !journal {
				// Otherwise the end of the log may be damaged twice, and looks like the
				// end that the crash has left.
				honest(t, want, got, !index || !journal)
			}
			if t.Failed() {
				t.Logf("damaged: %v", done)
			}
		})
	}
}

// TestRepairCut cuts the power at every operation of a repair: run again, it
// comes to the same end.
func TestRepairCut(t *testing.T) {
	base := vfs.NewMem()
	want, end := lived(t, base, 9, 40)
	end()
	cuts := crashfs.EveryCut(t, 1, func() crashfs.Scenario {
		return crashfs.Scenario{
			Prepare: func(t *testing.T, disk *crashfs.FS) { transplant(t, base, disk) },
			Run: func(t *testing.T, disk *crashfs.FS) {
				_, err := Repair(context.Background(), RepairRequest{DataDir: home, fs: disk, Now: fixed, Report: func(RepairEvent) {}})
				if err != nil {
					t.Error(err)
				}
			},
			Check: func(t *testing.T, disk *crashfs.FS) {
				got := repair(t, disk)
				if d := cmp.Diff(want.Boxes, got.now.Boxes); d != "" {
					t.Errorf("mailboxes differ:\n%s\nnotes: %s", d, strings.Join(got.notes, "\n"))
				}
			},
		}
	})
	t.Logf("%d cuts", cuts)
}

func fixed() time.Time { return time.Unix(1_790_000_000, 0) }

// transplant copies a folder without its tables, durably.
func transplant(t *testing.T, from vfs.FS, to *crashfs.FS) {
	t.Helper()
	made := make(map[string]bool)
	for _, path := range files(t, from, home) {
		if strings.HasSuffix(path, ".sst") {
			continue
		}
		dir := to.PathDir(path)
		if err := to.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		f, err := to.Create(path, "test")
		if err == nil {
			_, err = f.Write(get(t, from, path))
		}
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		for ; dir != "." && dir != "" && dir != "/"; dir = to.PathDir(dir) {
			made[dir] = true
		}
	}
	made[""] = true
	for dir := range made {
		if err := durable.SyncDir(to, dir); err != nil {
			t.Fatal(err)
		}
	}
}

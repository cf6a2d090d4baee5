package pebblekv_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// told notes what a journal says.
type told struct {
	last map[string]string // the last value of each key
	lost int
}

func (r *told) Begin() { r.last, r.lost = make(map[string]string), 0 }

func (r *told) Lost() { r.lost++ }

func (r *told) Note(a driver.Account, key, value []byte) {
	r.last[fmt.Sprintf("%d %s", a, key)] = string(value)
}

// journalFiles lists the journal of the newest epoch.
func journalFiles(t *testing.T, fs vfs.FS) (dir string, names []string) {
	t.Helper()
	epochs, err := fs.List("data/journal")
	if err != nil || len(epochs) == 0 {
		t.Fatalf("epochs %v, %v", epochs, err)
	}
	slices.Sort(epochs)
	dir = "data/journal/" + strings.TrimSuffix(epochs[len(epochs)-1], "/")
	if names, err = fs.List(dir); err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return dir, names
}

func read(t *testing.T, fs vfs.FS, path string) []byte {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, info.Size())
	if n, err := f.ReadAt(data, 0); n < len(data) {
		t.Fatal(err)
	}
	return data
}

// replace writes a file anew: another one that shares its bytes stays.
func replace(t *testing.T, fs vfs.FS, path string, data []byte) {
	t.Helper()
	if err := fs.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(t, fs, path, data)
}

// busy makes a store with two states and logs between and behind them.
func busy(t *testing.T, fs vfs.FS) (kv *pebblekv.KV, want map[string]string) {
	t.Helper()
	rng := rand.New(rand.NewPCG(4, 2))
	want = make(map[string]string)
	kv = journaled(t, fs, pebblekv.Options{MemTableBytes: 64 << 10, JournalBytes: 1 << 30})
	for part := range 3 {
		for range 200 {
			if err := change(rng, kv, want); err != nil {
				t.Fatal(err)
			}
		}
		if part < 2 {
			if err := kv.SaveState(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	return kv, want
}

// TestJournalVerify: one wrong byte in any file of a journal is found, or hits
// nothing that is needed: with each state in turn gone, the same is replayed.
func TestJournalVerify(t *testing.T) {
	fs := vfs.NewMem()
	kv, want := busy(t, fs)
	if problems, err := kv.VerifyJournal(context.Background()); err != nil || len(problems) > 0 {
		t.Fatalf("beside a store at work: %v, %v", problems, err)
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	verify := func() []string {
		t.Helper()
		r, err := pebblekv.ReadJournal(context.Background(), fs, "data/journal", "data/index", derivedT, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r.Problems
	}
	if problems := verify(); len(problems) > 0 {
		t.Fatalf("of a whole journal: %v", problems)
	}
	rng := rand.New(rand.NewPCG(5, 2))
	dir, names := journalFiles(t, fs)
	states := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !strings.HasPrefix(n, "state-") })
	if len(states) != 2 {
		t.Fatalf("states %v", states)
	}
	found, harmless, flips := 0, 0, 10
	if testing.Short() {
		flips = 2
	}
	for _, name := range names {
		path := dir + "/" + name
		whole := read(t, fs, path)
		for range flips {
			broken := slices.Clone(whole)
			broken[rng.IntN(len(broken))] ^= byte(1 << rng.IntN(8))
			replace(t, fs, path, broken)
			if len(verify()) > 0 {
				found++
				continue
			}
			harmless++
			for _, state := range append(states, "") {
				if state == name {
					continue
				}
				kept := []byte(nil)
				if state != "" {
					kept = read(t, fs, dir+"/"+state)
					if err := fs.Remove(dir + "/" + state); err != nil {
						t.Fatal(err)
					}
				}
				if got, report := replayed(t, fs); !maps.Equal(got, lasting(want)) {
					t.Errorf("%s is damaged, and no check finds it; without %q the journal has something else: %+v", name, state, report)
				}
				if state != "" {
					write(t, fs, dir+"/"+state, kept)
				}
			}
		}
		replace(t, fs, path, whole)
		for _, cut := range []int{0, len(whole) / 2, len(whole) - 1} {
			replace(t, fs, path, whole[:cut])
			if strings.HasSuffix(name, ".log") && len(verify()) == 0 {
				t.Errorf("%s is cut at %d of %d, and no check finds it", name, cut, len(whole))
			}
		}
		replace(t, fs, path, whole)
	}
	t.Logf("%d wrong bytes were found, %d hit nothing", found, harmless)
	if found < 20 {
		t.Error("that is too few")
	}
}

// TestJournalGoesOn: what comes behind damage in a log counts, and the reader is told
// where something is missing.
func TestJournalGoesOn(t *testing.T) {
	fs := vfs.NewMem()
	kv := journaled(t, fs, pebblekv.Options{JournalBytes: 1 << 30})
	ctx := context.Background()
	const commits = 400
	for i := range commits {
		err := kv.Update(ctx, driver.Account(i%4), func(tx driver.Txn) error {
			return tx.Set(fmt.Appendf(nil, "k%03d", i), fmt.Appendf(nil, "%d %s", i, strings.Repeat("x", 500)))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	dir, names := journalFiles(t, fs)
	name := dir + "/" + names[slices.IndexFunc(names, func(n string) bool { return strings.HasSuffix(n, ".log") })]
	whole := read(t, fs, name)
	for _, damage := range []struct {
		what     string
		from, to int
	}{{"one byte", 60_000, 60_001}, {"a sector", 61_440, 65_536}, {"a block and a half", 40_000, 90_000}, {"the head", 0, 200}} {
		broken := slices.Clone(whole)
		for i := damage.from; i < damage.to; i++ {
			broken[i] = 0xff
		}
		replace(t, fs, name, broken)
		store, err := pebblekv.Open("new", pebblekv.Options{FS: vfs.NewMem(), Logger: silent, Derived: derivedT})
		if err != nil {
			t.Fatal(err)
		}
		r := &told{}
		report, err := store.Replay(ctx, fs, "data/journal", "", r)
		if err != nil || report.Whole || len(report.Problems) != 1 || r.lost != 1 {
			t.Errorf("%s: %+v, %d times lost, %v", damage.what, report, r.lost, err)
		}
		got := contents(t, store)
		missing := commits - len(got)
		if most := (damage.to-damage.from)/500 + 3; missing == 0 || missing > most {
			t.Errorf("%s: %d commits are missing, at most %d were hit", damage.what, missing, most)
		}
		if !maps.Equal(got, lasting(r.last)) {
			t.Errorf("%s: the reader was told of %d keys, %d are there", damage.what, len(r.last), len(got))
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestJournalWithoutState: logs alone are replayed, and prove little.
func TestJournalWithoutState(t *testing.T) {
	fs := vfs.NewMem()
	kv, want := busy(t, fs)
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	dir, names := journalFiles(t, fs)
	for _, n := range names {
		if strings.HasPrefix(n, "state-") {
			if err := fs.Remove(dir + "/" + n); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, report := replayed(t, fs)
	if !report.Found || report.Whole || len(got) == 0 {
		t.Errorf("%d keys, %+v", len(got), report)
	}
	same := 0
	for key, value := range got {
		if want[key] == value {
			same++
		}
	}
	if same < len(got)*9/10 {
		t.Errorf("%d of %d keys are as they were", same, len(got))
	}
}

// TestJournalMends: a store that starts with a damaged journal has a new state saved,
// and so has one whose journal somebody removes while it works.
func TestJournalMends(t *testing.T) {
	ctx := context.Background()
	for _, kind := range []string{"state-", ".log", "logs", "removed while it runs", "a log cannot be linked"} {
		t.Run(kind, func(t *testing.T) {
			fs := vfs.NewMem()
			kv, want := busy(t, fs)
			switch kind {
			case "removed while it runs":
				if err := fs.RemoveAll("data/journal"); err != nil {
					t.Fatal(err)
				}
				lookAll(t, kv)
			case "a log cannot be linked":
				dir, names := journalFiles(t, fs)
				for _, n := range names {
					if strings.HasSuffix(n, ".log") {
						if err := fs.Remove(dir + "/" + n); err != nil {
							t.Fatal(err)
						}
					}
				}
				lookAll(t, kv)
			default:
				if err := kv.Close(); err != nil {
					t.Fatal(err)
				}
				dir, names := journalFiles(t, fs)
				for _, n := range names {
					if !strings.Contains(n, kind) {
						continue
					}
					data := read(t, fs, dir+"/"+n)
					data[len(data)/2] ^= 0xff
					replace(t, fs, dir+"/"+n, data[:len(data)*3/4])
				}
				kv = journaled(t, fs, pebblekv.Options{MemTableBytes: 64 << 10, JournalBytes: 1 << 30})
			}
			deadline := time.Now().Add(time.Minute)
			for {
				problems, err := kv.VerifyJournal(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if len(problems) == 0 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("the journal is still damaged: %v", problems)
				}
				time.Sleep(time.Millisecond)
			}
			if err := change(rand.New(rand.NewPCG(1, 1)), kv, want); err != nil {
				t.Fatal(err)
			}
			if err := kv.Close(); err != nil {
				t.Fatal(err)
			}
			if got, report := replayed(t, fs); !report.Whole || !maps.Equal(got, lasting(want)) {
				t.Errorf("the journal has %d keys, the store %d: %+v", len(got), len(lasting(want)), report)
			}
		})
	}
}

// TestJournalIsAhead: a damaged journal that has more than the index is left alone: it
// may be all there is of the last changes.
func TestJournalIsAhead(t *testing.T) {
	fs := vfs.NewMem()
	kv, _ := busy(t, fs)
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	old := make(map[string][]byte)
	names, err := fs.List("data/index")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		old[n] = read(t, fs, "data/index/"+n)
	}
	kv = journaled(t, fs, pebblekv.Options{MemTableBytes: 64 << 10, JournalBytes: 1 << 30})
	want := make(map[string]string)
	rng := rand.New(rand.NewPCG(8, 8))
	for range 50 {
		if err := change(rng, kv, want); err != nil {
			t.Fatal(err)
		}
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	// Somebody puts back an index that is older, beside a journal of which a part is
	// damaged.
	if err := fs.RemoveAll("data/index"); err != nil {
		t.Fatal(err)
	}
	if err := fs.MkdirAll("data/index", 0o700); err != nil {
		t.Fatal(err)
	}
	for n, data := range old {
		write(t, fs, "data/index/"+n, data)
	}
	dir, files := journalFiles(t, fs)
	damaged := ""
	for _, n := range files {
		if strings.HasPrefix(n, "state-") && damaged == "" {
			damaged = dir + "/" + n
			replace(t, fs, damaged, read(t, fs, damaged)[:100])
		}
	}
	_, err = pebblekv.Open("data/index", pebblekv.Options{FS: fs, Logger: silent, Journal: "data/journal", Derived: derivedT})
	if err == nil {
		t.Error("an index that lacks the newest log was opened")
	}
	if got := read(t, fs, damaged); len(got) != 100 {
		t.Errorf("the damaged state has %d bytes now", len(got))
	}
}

// noLinkFS is a file system without hard links.
type noLinkFS struct{ vfs.FS }

func (noLinkFS) Link(string, string) error { return syscall.EPERM }

// TestJournalWithoutLinks: where there are no hard links a journal has states only;
// that is no damage, and saves no states all the time.
func TestJournalWithoutLinks(t *testing.T) {
	fs := noLinkFS{vfs.NewMem()}
	kv, want := busy(t, fs)
	problems, err := kv.VerifyJournal(context.Background())
	if err != nil || len(problems) > 0 {
		t.Errorf("it is called damaged: %v, %v", problems, err)
	}
	if err := kv.SaveState(context.Background()); err != nil {
		t.Fatal(err)
	}
	if list := lookAll(t, kv); len(list) > 0 {
		t.Errorf("nothing is wrong, and a look found %+v", list)
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	if got, report := replayed(t, fs); report.Whole || !maps.Equal(got, lasting(want)) {
		t.Errorf("the journal has %d keys, the store %d: %+v", len(got), len(lasting(want)), report)
	}
}

package mailstore

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/rookery-mail/rookery/mailstore/memkv"
)

// threadBench gives messages to an account that have nothing but identifiers.
type threadBench struct {
	t    *testing.T
	a    *account
	want map[string]uint64 // the thread of each identifier
}

func newThreadBench(t *testing.T) *threadBench {
	store, err := Open(t.Context(), memkv.NewKV(memkv.RunTwice()), memkv.NewBlobs(), Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close(t.Context()) })
	a, err := store.Account(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	return &threadBench{t: t, a: a.account, want: make(map[string]uint64)}
}

var errRefused = errors.New("refused")

// add adds messages in one transaction, or makes it fail behind them.
func (b *threadBench) add(fails bool, list ...[]string) {
	b.t.Helper()
	var got []uint64
	first := uint64(0)
	err := b.a.submit(b.t.Context(), &op{run: func(t *opTx) error {
		first, got = t.rec.nextMsg+1, nil
		for _, ids := range list {
			t.rec.nextMsg++
			thread, err := t.thread(t.rec.nextMsg, ids)
			if err != nil {
				return err
			}
			got = append(got, thread)
		}
		if fails {
			return errRefused
		}
		return nil
	}})
	if fails != errors.Is(err, errRefused) || !fails && err != nil {
		b.t.Fatal(err)
	}
	want := b.want
	if fails {
		want = maps.Clone(want)
	}
	for i, ids := range list {
		thread := uint64(0)
		for _, id := range ids {
			if thread == 0 {
				thread = want[id]
			}
		}
		if thread == 0 {
			thread = first + uint64(i)
		}
		for _, id := range ids {
			if want[id] == 0 {
				want[id] = thread
			}
		}
		if got[i] != thread {
			b.t.Fatalf("message %d with %q is in thread %d, want %d", first+uint64(i), ids, got[i], thread)
		}
	}
}

// reload has the account read anew, as when another process has changed it.
func (b *threadBench) reload() {
	b.t.Helper()
	if err := b.a.submit(b.t.Context(), &op{alone: b.a.reload}); err != nil {
		b.t.Fatal(err)
	}
}

// TestThreadsOfManyMessages: what is remembered of the thread index never changes
// what is found.
func TestThreadsOfManyMessages(t *testing.T) {
	b := newThreadBench(t)
	rng := rand.New(rand.NewPCG(1, 2))
	reloads := 0
	for i := range 4000 {
		var list [][]string
		for range 1 + rng.IntN(3) {
			ids := []string{fmt.Sprint("new", rng.IntN(20_000))}
			for range rng.IntN(4) {
				ids = append(ids, fmt.Sprint("old", rng.IntN(1+i)))
			}
			list = append(list, ids)
		}
		b.add(rng.IntN(10) == 0, list...)
		if rng.IntN(1000) == 0 {
			b.reload()
			reloads++
		}
	}
	if reloads == 0 {
		t.Error("the account has never been read anew")
	}
}

// TestKnownIDsAreLearned: of an account that has messages, too, all identifiers
// are known after some look-ups.
func TestKnownIDsAreLearned(t *testing.T) {
	b := newThreadBench(t)
	b.add(false, []string{"first"})
	if known := &b.a.working.ids; !known.all {
		t.Error("not all is known of an account that was empty when it was read")
	}
	const count = 5000
	for i := range count {
		b.add(false, []string{fmt.Sprint("id", i)})
	}
	b.reload()
	known := &b.a.working.ids
	if known.all || known.memory() > 0 {
		t.Error("something is known already")
	}
	lookups := 0
	for !known.all && lookups < count {
		b.add(false, []string{fmt.Sprint("another", lookups)})
		lookups++
	}
	// The test's engine runs each transaction twice.
	if lookups > 2*count/idCredit {
		t.Errorf("%d look-ups until all was known", lookups)
	}
	missed := 0
	for i := range count {
		if known.lacks(hashKey(keyThread, fmt.Sprint("id", i))) {
			t.Fatal("an identifier is not known")
		}
		if !known.lacks(hashKey(keyThread, fmt.Sprint("never", i))) {
			missed++
		}
	}
	if missed > count/20 {
		t.Errorf("%d of %d identifiers are taken for known", missed, count)
	}
	b.add(false, []string{"id7", "id8"}, []string{"new", "id8", "id9"})
}

// TestKnownIDsAreBounded: an account with very many messages is looked up as ever.
func TestKnownIDsAreBounded(t *testing.T) {
	k := newKnownIDs(0)
	for i := range 2*mostIDs + firstIDs {
		k.add(hashKey(keyThread, fmt.Sprint(i)))
		if k.memory() > 2<<20 {
			t.Fatal("too much memory")
		}
	}
	if !k.off || k.lacks(hashKey(keyThread, "new")) {
		t.Error("too many keys, and some are said to be missing")
	}
	if k = newKnownIDs(2*mostIDs + 1); !k.off {
		t.Error("an account that has too many messages")
	}
}

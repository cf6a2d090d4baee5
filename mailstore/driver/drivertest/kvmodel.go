package drivertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/mailstore/driver"
)

// kvRandomAgainstModel runs random transactions, some of which fail, on the
// engine and on a map, and compares inside and after each.
func kvRandomAgainstModel(t *testing.T, h Harness) {
	kv := openKV(t, h)
	model := map[string]string{}
	failed := errors.New("rolled back")
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 7))
		next := maps.Clone(model)
		keep := rng.IntN(4) > 0
		err := kv.Update(context.Background(), 5, func(tx driver.Txn) error {
			next = maps.Clone(model)
			r := rand.New(rand.NewPCG(seed, 8)) // the same again when fn is run again
			for range r.IntN(20) {
				randomEdit(t, r, tx, next)
			}
			if !keep {
				return failed
			}
			return nil
		})
		if keep && err != nil || !keep && err != failed {
			t.Fatalf("seed %d: Update gave %v", seed, err)
		}
		if keep {
			model = next
		}
		view(t, kv, 5, func(r driver.Reader) { compare(t, seed, r, model, nil, nil) })
		if t.Failed() {
			return
		}
	}
}

func randomKey(rng *rand.Rand) string {
	return fmt.Sprintf("%c%c", 'a'+rune(rng.IntN(6)), 'a'+rune(rng.IntN(6)))[:1+rng.IntN(2)]
}

func randomEdit(t *testing.T, rng *rand.Rand, tx driver.Txn, model map[string]string) {
	key := randomKey(rng)
	switch rng.IntN(8) {
	case 0, 1, 2:
		value := fmt.Sprint(rng.Uint32())
		must(t, tx.Set([]byte(key), []byte(value)))
		model[key] = value
	case 3:
		must(t, tx.Delete([]byte(key)))
		delete(model, key)
	case 4:
		end := randomKey(rng)
		must(t, tx.DeleteRange([]byte(key), []byte(end)))
		maps.DeleteFunc(model, func(k, _ string) bool { return k >= key && k < end })
	case 5:
		want, ok := model[key]
		wantGet(t, tx, key, want, ok)
	default:
		compare(t, 0, tx, model, []byte(key), []byte(randomKey(rng)))
	}
}

func compare(t *testing.T, seed uint64, r driver.Reader, model map[string]string, from, to []byte) {
	t.Helper()
	want := []string{}
	for _, k := range slices.Sorted(maps.Keys(model)) {
		if k >= string(from) && (to == nil || k < string(to)) {
			want = append(want, k+"="+model[k])
		}
	}
	if diff := cmp.Diff(want, pairs(t, r, from, to)); diff != "" {
		t.Errorf("seed %d: scan [%q, %q) (-want +got):\n%s", seed, from, to, diff)
	}
}

package pebblekv_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// TestFirstKey: a transaction finds under the key that it looks up first what the
// last commit has left there, whatever that did, of more accounts than are kept.
func TestFirstKey(t *testing.T) {
	kv := open(t, vfs.NewMem(), "kv")
	defer kv.Close()
	accounts := 2 * pebblekv.KeptAccounts
	if testing.Short() {
		accounts = pebblekv.KeptAccounts + 50
	}
	rng := rand.New(rand.NewPCG(3, 4))
	keys := []string{"A", "B", "C"}
	want := make(map[string]string)
	refused := errors.New("refused")
	for n := range 4 * accounts {
		account := driver.Account(1 + rng.IntN(accounts))
		if n%2 == 0 {
			account = driver.Account(1 + rng.IntN(3)) // what is changed often
		}
		at := func(key string) string { return fmt.Sprint(account, key) }
		changes := make(map[string]string)
		fails := rng.IntN(5) == 0
		err := kv.Update(t.Context(), account, func(tx driver.Txn) error {
			for range 1 + rng.IntN(4) {
				key := keys[rng.IntN(len(keys))]
				switch rng.IntN(6) {
				case 0:
					changes[at(key)] = ""
					if err := tx.Delete([]byte(key)); err != nil {
						return err
					}
				case 1, 2:
					changes[at(key)] = fmt.Sprint("value", n, rng.IntN(10))
					if err := tx.Set([]byte(key), []byte(changes[at(key)])); err != nil {
						return err
					}
				case 3:
					for _, key := range keys[1:] {
						changes[at(key)] = ""
					}
					if err := tx.DeleteRange([]byte("B"), []byte("D")); err != nil {
						return err
					}
				default:
					value, ok := changes[at(key)]
					if !ok {
						value = want[at(key)]
					}
					got, found, err := tx.Get([]byte(key))
					if err != nil || string(got) != value || found != (value != "") {
						t.Fatalf("account %d: %s is %q (%t, %v), want %q", account, key, got, found, err, value)
					}
				}
			}
			if fails {
				return refused
			}
			return nil
		})
		if fails != errors.Is(err, refused) || !fails && err != nil {
			t.Fatal(err)
		}
		if !fails {
			for key, value := range changes {
				want[key] = value
			}
		}
	}
}

package drivertest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/rookery-mail/rookery/mailstore/driver"
)

// together runs fn n times at once and waits.
func together(n int, fn func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { fn(i) })
	}
	wg.Wait()
}

func increment(kv driver.KV, a driver.Account, key string) error {
	return kv.Update(context.Background(), a, func(tx driver.Txn) error {
		n, err := readCounter(tx, key)
		if err != nil {
			return err
		}
		return tx.Set([]byte(key), binary.BigEndian.AppendUint64(nil, n+1))
	})
}

func readCounter(r driver.Reader, key string) (uint64, error) {
	v, ok, err := r.Get([]byte(key))
	if err != nil || !ok {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}

func kvSerialised(t *testing.T, h Harness) {
	kv := openKV(t, h)
	const workers, each = 16, 40
	together(workers, func(i int) {
		for range each {
			if err := increment(kv, driver.Account(i%3), "n"); err != nil {
				t.Error(err)
			}
		}
	})
	total := uint64(0)
	for a := range driver.Account(3) {
		view(t, kv, a, func(r driver.Reader) {
			n, err := readCounter(r, "n")
			must(t, err)
			total += n
		})
	}
	if total != workers*each {
		t.Errorf("%d increments are left of %d: transactions on one account overlapped", total, workers*each)
	}
}

func kvAccountsDoNotWait(t *testing.T, h Harness) {
	kv := openKV(t, h)
	must(t, kv.Update(context.Background(), 1, func(driver.Txn) error {
		// Would hang for ever if account 2 waited for account 1.
		set(t, kv, 2, "a", "1")
		view(t, kv, 2, func(r driver.Reader) { wantGet(t, r, "a", "1", true) })
		return nil
	}))
}

func kvWaitEndsWithContext(t *testing.T, h Harness) {
	kv := openKV(t, h)
	inside, release := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		var once sync.Once
		first <- kv.Update(context.Background(), 1, func(tx driver.Txn) error {
			once.Do(func() { close(inside) })
			<-release
			return tx.Set([]byte("a"), []byte("first"))
		})
	}()
	<-inside
	ctx, cancel := context.WithCancel(context.Background())
	second := make(chan error, 1)
	go func() {
		second <- kv.Update(ctx, 1, func(tx driver.Txn) error { return tx.Set([]byte("a"), []byte("second")) })
	}()
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("an Update that waited when its context ended gave %v", err)
	}
	close(release)
	must(t, <-first)
	wantPairs(t, kv, 1, "a=first")
}

func kvViewIsASnapshot(t *testing.T, h Harness) {
	kv := openKV(t, h)
	set(t, kv, 1, "a", "1", "b", "1")
	view(t, kv, 1, func(r driver.Reader) {
		wantGet(t, r, "a", "1", true)
		set(t, kv, 1, "a", "2", "b", "2", "c", "2")
		must(t, kv.Update(context.Background(), 1, func(tx driver.Txn) error { return tx.DeleteRange(nil, []byte("b")) }))
		wantGet(t, r, "b", "1", true)
		if got := pairs(t, r, nil, nil); len(got) != 2 || got[0] != "a=1" || got[1] != "b=1" {
			t.Errorf("a view changed under its reader: %q", got)
		}
	})
	wantPairs(t, kv, 1, "b=2", "c=2")
}

func kvViewSeesReturnedUpdates(t *testing.T, h Harness) {
	kv := openKV(t, h)
	together(8, func(i int) {
		key := fmt.Sprintf("w%d", i)
		for n := range uint64(30) {
			if err := increment(kv, driver.Account(i%2), key); err != nil {
				t.Error(err)
				return
			}
			err := kv.View(context.Background(), driver.Account(i%2), func(r driver.Reader) error {
				if got, err := readCounter(r, key); err != nil || got != n+1 {
					t.Errorf("after update %d returned a view reads %d, %v", n+1, got, err)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
	})
}

// kvViewsAreAtomic writes the same number under several keys: no view may see
// two different ones, and none may see the numbers go back.
func kvViewsAreAtomic(t *testing.T, h Harness) {
	kv := openKV(t, h)
	const keys, rounds = 20, 60
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			last := ""
			for {
				select {
				case <-stop:
					return
				default:
				}
				err := kv.View(context.Background(), 1, func(r driver.Reader) error {
					seen, n := "", 0
					err := r.Scan(nil, nil, func(k, v []byte) bool {
						if n++; n > 1 && string(v) != seen {
							t.Errorf("key %q has %s beside %s: half of a transaction is visible", k, v, seen)
						}
						seen = string(v)
						return true
					})
					if n != 0 && n != keys || seen < last {
						t.Errorf("a view has %d keys of %d, round %q after %q", n, keys, seen, last)
					}
					last = seen
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for round := range rounds {
		must(t, kv.Update(context.Background(), 1, func(tx driver.Txn) error {
			for k := range keys {
				must(t, tx.Set(fmt.Appendf(nil, "k%d", k), fmt.Appendf(nil, "%04d", round)))
			}
			return nil
		}))
	}
	close(stop)
	readers.Wait()
}

// kvViewDuringUpdate proves that a view neither waits for a transaction that is
// being put together nor sees it.
func kvViewDuringUpdate(t *testing.T, h Harness) {
	kv := openKV(t, h)
	set(t, kv, 1, "a", "1")
	must(t, kv.Update(context.Background(), 1, func(tx driver.Txn) error {
		must(t, tx.Set([]byte("a"), []byte("2")))
		must(t, tx.Set([]byte("b"), []byte("2")))
		done := make(chan struct{})
		go func() {
			defer close(done)
			wantPairs(t, kv, 1, "a=1")
		}()
		<-done
		return nil
	}))
	wantPairs(t, kv, 1, "a=2", "b=2")
}

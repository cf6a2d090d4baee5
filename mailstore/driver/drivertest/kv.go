package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

func kvTests() []test {
	return []test{
		{name: "Empty", run: kvEmpty},
		{name: "OrderAndBounds", run: kvOrderAndBounds},
		{name: "AccountsAreApart", run: kvAccountsAreApart},
		{name: "OwnWrites", run: kvOwnWrites},
		{name: "DeleteRange", run: kvDeleteRange},
		{name: "Rollback", run: kvRollback},
		{name: "CallerMayReuseSlices", run: kvCallerMayReuseSlices},
		{name: "BigTransaction", run: kvBigTransaction},
		{name: "ManyKeys", run: kvManyKeys},
		{name: "ScanStops", run: kvScanStops},
		{name: "ReadsInsideScan", run: kvReadsInsideScan},
		{name: "RandomAgainstModel", run: kvRandomAgainstModel},
		{name: "ContextEnded", run: kvContextEnded},
		{name: "Closed", run: kvClosed},
		{name: "ValuesStay", run: kvValuesStay},
		{name: "CloseWaits", run: kvCloseWaits},
		{name: "Watch", run: kvWatch},
		{name: "Reopen", needsReopen: true, run: kvReopen},
		{name: "TooLarge", run: kvTooLarge},
		{name: "Fails", needs: needsFaults, runMany: kvFails},
		{name: "Crash", needs: needsCrash, run: kvCrash},
		{name: "Serialised", run: kvSerialised},
		{name: "AccountsDoNotWait", run: kvAccountsDoNotWait},
		{name: "WaitEndsWithContext", run: kvWaitEndsWithContext},
		{name: "ViewIsASnapshot", run: kvViewIsASnapshot},
		{name: "ViewSeesReturnedUpdates", run: kvViewSeesReturnedUpdates},
		{name: "ViewsAreAtomic", run: kvViewsAreAtomic},
		{name: "ViewDuringUpdate", run: kvViewDuringUpdate},
	}
}

// pairs is what a scan gave, as "key=value".
func pairs(t testing.TB, r driver.Reader, from, to []byte) []string {
	t.Helper()
	got := []string{}
	must(t, r.Scan(from, to, func(k, v []byte) bool {
		got = append(got, fmt.Sprintf("%s=%s", k, v))
		return true
	}))
	return got
}

func set(t testing.TB, kv driver.KV, a driver.Account, keysAndValues ...string) {
	t.Helper()
	must(t, kv.Update(context.Background(), a, func(tx driver.Txn) error {
		for i := 0; i < len(keysAndValues); i += 2 {
			if err := tx.Set([]byte(keysAndValues[i]), []byte(keysAndValues[i+1])); err != nil {
				return err
			}
		}
		return nil
	}))
}

func view(t testing.TB, kv driver.KV, a driver.Account, fn func(r driver.Reader)) {
	t.Helper()
	must(t, kv.View(context.Background(), a, func(r driver.Reader) error {
		fn(r)
		return nil
	}))
}

func wantPairs(t testing.TB, kv driver.KV, a driver.Account, want ...string) {
	t.Helper()
	if want == nil {
		want = []string{}
	}
	view(t, kv, a, func(r driver.Reader) {
		t.Helper()
		if diff := cmp.Diff(want, pairs(t, r, nil, nil)); diff != "" {
			t.Errorf("account %d (-want +got):\n%s", a, diff)
		}
	})
}

func wantGet(t testing.TB, r driver.Reader, key, want string, wantOK bool) {
	t.Helper()
	v, ok, err := r.Get([]byte(key))
	if err != nil || ok != wantOK || string(v) != want {
		t.Errorf("Get(%q) = %q, %v, %v; want %q, %v", key, v, ok, err, want, wantOK)
	}
}

func kvEmpty(t *testing.T, h Harness) {
	kv := openKV(t, h)
	for _, a := range []driver.Account{0, 1, math.MaxUint64} {
		view(t, kv, a, func(r driver.Reader) { wantGet(t, r, "x", "", false) })
		wantPairs(t, kv, a)
	}
	// An empty value is not the same as no value.
	set(t, kv, 1, "x", "")
	view(t, kv, 1, func(r driver.Reader) { wantGet(t, r, "x", "", true) })
}

func kvOrderAndBounds(t *testing.T, h Harness) {
	kv := openKV(t, h)
	set(t, kv, 3, "b", "2", "a\xff", "1.9", "a", "1", "a\x00", "1.1", "\xff\xff", "9", "c", "3", "\x00", "0")
	wantPairs(t, kv, 3, "\x00=0", "a=1", "a\x00=1.1", "a\xff=1.9", "b=2", "c=3", "\xff\xff=9")
	for _, tc := range []struct {
		from, to string
		want     []string
	}{
		{"a", "b", []string{"a=1", "a\x00=1.1", "a\xff=1.9"}},
		{"a\x00", "b\x00", []string{"a\x00=1.1", "a\xff=1.9", "b=2"}},
		{"bb", "\xff\xff", []string{"c=3"}},
		{"a", "a", []string{}},
		{"c", "a", []string{}},
	} {
		view(t, kv, 3, func(r driver.Reader) {
			if diff := cmp.Diff(tc.want, pairs(t, r, []byte(tc.from), []byte(tc.to))); diff != "" {
				t.Errorf("Scan(%q, %q) (-want +got):\n%s", tc.from, tc.to, diff)
			}
		})
	}
	view(t, kv, 3, func(r driver.Reader) {
		if diff := cmp.Diff([]string{"c=3", "\xff\xff=9"}, pairs(t, r, []byte("bb"), nil)); diff != "" {
			t.Errorf("Scan to the end (-want +got):\n%s", diff)
		}
	})
}

func kvAccountsAreApart(t *testing.T, h Harness) {
	kv := openKV(t, h)
	accounts := []driver.Account{0, 1, 2, 255, 256, 1 << 32, math.MaxUint64 - 1, math.MaxUint64}
	for _, a := range accounts {
		set(t, kv, a, "", "empty", "k", fmt.Sprint(uint64(a)), "\xff", "end")
	}
	must(t, kv.Update(context.Background(), 255, func(tx driver.Txn) error {
		return tx.DeleteRange(nil, nil)
	}))
	wantPairs(t, kv, 255)
	for _, a := range accounts {
		if a != 255 {
			wantPairs(t, kv, a, "=empty", fmt.Sprintf("k=%d", uint64(a)), "\xff=end")
		}
	}
}

func kvOwnWrites(t *testing.T, h Harness) {
	kv := openKV(t, h)
	set(t, kv, 1, "a", "1", "b", "2", "c", "3", "d", "4")
	must(t, kv.Update(context.Background(), 1, func(tx driver.Txn) error {
		must(t, tx.Set([]byte("b"), []byte("two")))
		must(t, tx.Delete([]byte("c")))
		must(t, tx.Delete([]byte("nothing")))
		must(t, tx.Set([]byte("bb"), []byte("new")))
		must(t, tx.Set([]byte("e"), []byte("5")))
		must(t, tx.Set([]byte("e"), []byte("five")))
		must(t, tx.Delete([]byte("a")))
		must(t, tx.Set([]byte("a"), []byte("again")))
		wantGet(t, tx, "a", "again", true)
		wantGet(t, tx, "b", "two", true)
		wantGet(t, tx, "c", "", false)
		wantGet(t, tx, "d", "4", true)
		wantGet(t, tx, "e", "five", true)
		want := []string{"a=again", "b=two", "bb=new", "d=4", "e=five"}
		if diff := cmp.Diff(want, pairs(t, tx, nil, nil)); diff != "" {
			t.Errorf("scan of own writes (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want[1:3], pairs(t, tx, []byte("b"), []byte("d"))); diff != "" {
			t.Errorf("bounded scan of own writes (-want +got):\n%s", diff)
		}
		return nil
	}))
	wantPairs(t, kv, 1, "a=again", "b=two", "bb=new", "d=4", "e=five")
}

func kvDeleteRange(t *testing.T, h Harness) {
	kv := openKV(t, h)
	for i := range 1000 {
		set(t, kv, 1, fmt.Sprintf("k%04d", i), "old")
	}
	must(t, kv.Update(context.Background(), 1, func(tx driver.Txn) error {
		must(t, tx.Set([]byte("k0500"), []byte("before the delete")))
		must(t, tx.Set([]byte("k0500a"), []byte("before the delete")))
		must(t, tx.DeleteRange([]byte("k0003"), []byte("k0997")))
		wantGet(t, tx, "k0002", "old", true)
		wantGet(t, tx, "k0003", "", false)
		wantGet(t, tx, "k0500", "", false)
		wantGet(t, tx, "k0500a", "", false)
		wantGet(t, tx, "k0997", "old", true)
		must(t, tx.Set([]byte("k0600"), []byte("after the delete")))
		must(t, tx.DeleteRange([]byte("k0001"), []byte("k0002")))
		must(t, tx.DeleteRange([]byte("k0009"), []byte("k0001"))) // nothing is in it
		want := []string{"k0000=old", "k0002=old", "k0600=after the delete", "k0997=old", "k0998=old", "k0999=old"}
		if diff := cmp.Diff(want, pairs(t, tx, nil, nil)); diff != "" {
			t.Errorf("scan inside (-want +got):\n%s", diff)
		}
		return nil
	}))
	wantPairs(t, kv, 1, "k0000=old", "k0002=old", "k0600=after the delete", "k0997=old", "k0998=old", "k0999=old")
	must(t, kv.Update(context.Background(), 1, func(tx driver.Txn) error { return tx.DeleteRange([]byte("k06"), nil) }))
	wantPairs(t, kv, 1, "k0000=old", "k0002=old")
}

func kvRollback(t *testing.T, h Harness) {
	kv := openKV(t, h)
	set(t, kv, 1, "a", "1")
	sentinel := errors.New("no")
	err := kv.Update(context.Background(), 1, func(tx driver.Txn) error {
		must(t, tx.Set([]byte("a"), []byte("2")))
		must(t, tx.Set([]byte("b"), []byte("2")))
		must(t, tx.DeleteRange(nil, nil))
		must(t, tx.Set([]byte("c"), []byte("2")))
		return sentinel
	})
	if err != sentinel {
		t.Errorf("Update gave %v, want fn's error itself", err)
	}
	wantPairs(t, kv, 1, "a=1")
	if err := kv.View(context.Background(), 1, func(driver.Reader) error { return sentinel }); err != sentinel {
		t.Errorf("View gave %v, want fn's error itself", err)
	}
}

func kvCallerMayReuseSlices(t *testing.T, h Harness) {
	kv := openKV(t, h)
	must(t, kv.Update(context.Background(), 1, func(tx driver.Txn) error {
		k, v := []byte("key0"), []byte("value0")
		for i := range byte(5) {
			k[3], v[5] = '0'+i, '0'+i
			must(t, tx.Set(k, v))
		}
		k[3] = '1'
		must(t, tx.Delete(k))
		from, to := []byte("key3"), []byte("key4")
		must(t, tx.DeleteRange(from, to))
		copy(from, "xxxx")
		copy(to, "yyyy")
		copy(k, "zzzz")
		want := []string{"key0=value0", "key2=value2", "key4=value4"}
		if diff := cmp.Diff(want, pairs(t, tx, nil, nil)); diff != "" {
			t.Errorf("inside (-want +got):\n%s", diff)
		}
		return nil
	}))
	wantPairs(t, kv, 1, "key0=value0", "key2=value2", "key4=value4")
}

func kvBigTransaction(t *testing.T, h Harness) {
	kv := openKV(t, h)
	value := bytes.Repeat([]byte("0123456789abcdef"), 4096) // 64 kB
	n := (driver.MaxTxnBytes - 1<<16) / (len(value) + 8)
	must(t, kv.Update(context.Background(), 1, func(tx driver.Txn) error {
		for i := range n {
			must(t, tx.Set(fmt.Appendf(nil, "%08d", i), value))
		}
		return nil
	}))
	view(t, kv, 1, func(r driver.Reader) {
		found := 0
		must(t, r.Scan(nil, nil, func(k, v []byte) bool {
			if string(k) != fmt.Sprintf("%08d", found) || !bytes.Equal(v, value) {
				t.Errorf("key %q has a value of %d bytes, not what was written", k, len(v))
			}
			found++
			return true
		}))
		if found != n {
			t.Errorf("found %d keys, want %d", found, n)
		}
	})
}

func kvManyKeys(t *testing.T, h Harness) {
	kv := openKV(t, h)
	const n = 20000
	must(t, kv.Update(context.Background(), 1, func(tx driver.Txn) error {
		for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(n) {
			must(t, tx.Set(fmt.Appendf(nil, "%06d", i), fmt.Appendf(nil, "v%d", i)))
		}
		return nil
	}))
	view(t, kv, 1, func(r driver.Reader) {
		next := 0
		must(t, r.Scan(nil, nil, func(k, _ []byte) bool {
			if string(k) != fmt.Sprintf("%06d", next) {
				t.Fatalf("key %q where %06d was expected", k, next)
			}
			next++
			return true
		}))
		if next != n {
			t.Errorf("%d keys, want %d", next, n)
		}
		wantGet(t, r, "012345", "v12345", true)
	})
}

func kvScanStops(t *testing.T, h Harness) {
	kv := openKV(t, h)
	set(t, kv, 1, "a", "1", "b", "2", "c", "3")
	count := func(r driver.Reader) (n int) {
		must(t, r.Scan(nil, nil, func(_, _ []byte) bool { n++; return n < 2 }))
		return n
	}
	view(t, kv, 1, func(r driver.Reader) {
		if n := count(r); n != 2 {
			t.Errorf("fn was called %d times after it returned false at the second", n)
		}
	})
	must(t, kv.Update(context.Background(), 1, func(tx driver.Txn) error {
		must(t, tx.Set([]byte("aa"), nil))
		if n := count(tx); n != 2 {
			t.Errorf("in a transaction fn was called %d times after it returned false at the second", n)
		}
		return nil
	}))
}

func kvReadsInsideScan(t *testing.T, h Harness) {
	kv := openKV(t, h)
	set(t, kv, 1, "a", "1", "b", "2")
	check := func(r driver.Reader) {
		seen := []string{}
		must(t, r.Scan(nil, nil, func(k, v []byte) bool {
			wantGet(t, r, "a", "1", true)
			inner := pairs(t, r, []byte("b"), nil)
			seen = append(seen, fmt.Sprintf("%s=%s %v", k, v, inner))
			return true
		}))
		if diff := cmp.Diff([]string{"a=1 [b=2]", "b=2 [b=2]"}, seen); diff != "" {
			t.Errorf("nested reads (-want +got):\n%s", diff)
		}
	}
	view(t, kv, 1, check)
	must(t, kv.Update(context.Background(), 1, func(tx driver.Txn) error {
		check(tx)
		return nil
	}))
}

func kvContextEnded(t *testing.T, h Harness) {
	kv := openKV(t, h)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := kv.View(ctx, 1, func(driver.Reader) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("View under an ended context gave %v", err)
	}
	err := kv.Update(ctx, 1, func(tx driver.Txn) error { return tx.Set([]byte("a"), nil) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Update under an ended context gave %v", err)
	}
	// A context that ends while fn runs stops the commit.
	ctx, cancel = context.WithCancel(context.Background())
	err = kv.Update(ctx, 1, func(tx driver.Txn) error {
		must(t, tx.Set([]byte("a"), nil))
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Update whose context ended before the commit gave %v", err)
	}
	wantPairs(t, kv, 1)
}

func kvClosed(t *testing.T, h Harness) {
	kv := h.OpenKV(t)
	set(t, kv, 1, "a", "1")
	must(t, kv.Close())
	wantKind(t, kv.View(context.Background(), 1, func(driver.Reader) error { return nil }), imap.Closed)
	wantKind(t, kv.Update(context.Background(), 1, func(driver.Txn) error { return nil }), imap.Closed)
}

func kvWatch(t *testing.T, h Harness) {
	kv := openKV(t, h)
	stop := kv.Watch(1, func() {})
	set(t, kv, 1, "a", "1")
	stop()
	stop()
}

func kvReopen(t *testing.T, h Harness) {
	kv := h.OpenKV(t)
	for i := range 100 {
		set(t, kv, driver.Account(i%3), fmt.Sprintf("k%02d", i), fmt.Sprint(i))
	}
	must(t, kv.Update(context.Background(), 1, func(tx driver.Txn) error {
		return tx.DeleteRange([]byte("k02"), []byte("k95"))
	}))
	for round := range 3 {
		must(t, kv.Close())
		kv = h.OpenKV(t)
		want := []string{"k01=1", "k97=97"}
		for r := range round {
			want = append(want, fmt.Sprintf("r%d=x", r))
		}
		wantPairs(t, kv, 1, want...)
		view(t, kv, 2, func(r driver.Reader) { wantGet(t, r, "k50", "50", true) })
		set(t, kv, 1, fmt.Sprintf("r%d", round), "x")
	}
	must(t, kv.Close())
}

package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// untilLast fails an engine at its first operation, at its second, and so on
// until there are no more, once and from then on; some are left out with -short.
// run reports whether an operation has failed.
func untilLast(t *testing.T, fresh func(t *testing.T) Harness, run func(t *testing.T, h Harness, n int) (failed bool)) {
	step := 1
	if testing.Short() {
		step = 4
	}
	for _, times := range []int{1, 1 << 30} {
		for n, failed := 1, true; failed; n += step {
			ok := t.Run(fmt.Sprintf("n=%d,times=%d", n, times), func(t *testing.T) {
				h := fresh(t)
				failAt := h.FailAt
				h.FailAt = func(n, _ int) { failAt(n, times) }
				failed = run(t, h, n)
			})
			if !ok {
				return
			}
		}
	}
}

// wantFailure checks the kind of an error that a failing engine has given.
func wantFailure(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, imap.Unavailable) && !errors.Is(err, driver.ErrUnknown) {
		t.Errorf("an engine that fails gave %v, want kind Unavailable or ErrUnknown", err)
	}
}

// kvLife is a KV that fails, and what is known of one account in it.
type kvLife struct {
	t    *testing.T
	kv   driver.KV
	has  map[string]string // what was acknowledged
	also map[string]string // what there may be in its place, where that is not known
}

func (l *kvLife) look() ([]string, error) {
	var got []string
	err := l.kv.View(context.Background(), 1, func(r driver.Reader) error {
		got = pairs(l.t, r, nil, nil)
		return nil
	})
	return got, err
}

// compare checks what is there, and finds out what was not known.
func (l *kvLife) compare(when string) {
	l.t.Helper()
	got, err := l.look()
	if err != nil {
		l.t.Errorf("%s: %v", when, err)
		return
	}
	if l.also != nil && slices.Equal(got, flat(l.also)) {
		l.has = l.also
	}
	l.also = nil
	if diff := cmp.Diff(flat(l.has), got); diff != "" {
		l.t.Errorf("%s (-acknowledged +there):\n%s", when, diff)
	}
}

// flat is a map as pairs gives it.
func flat(m map[string]string) []string {
	list := []string{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, k+"="+m[k])
	}
	return list
}

// update runs the i-th transaction.
func (l *kvLife) update(i int) error {
	next := maps.Clone(l.has)
	for k := range 4 {
		next[fmt.Sprintf("k%02d.%d", i, k)] = fmt.Sprint(i)
	}
	next["n"] = fmt.Sprint(i)
	gone := fmt.Sprintf("k%02d", i-3)
	maps.DeleteFunc(next, func(k, _ string) bool { return k >= gone && k < gone+"z" })
	err := l.kv.Update(context.Background(), 1, func(tx driver.Txn) error {
		for k, v := range next {
			if err := tx.Set([]byte(k), []byte(v)); err != nil {
				return err
			}
		}
		return tx.DeleteRange([]byte(gone), []byte(gone+"z"))
	})
	switch {
	case err == nil:
		l.has = next
	case errors.Is(err, driver.ErrUnknown):
		l.also = next
	}
	return err
}

// kvFails: when an operation fails, the transaction that needed it has happened as
// a whole or not at all, and says which unless it says that nobody knows; a view
// shows nothing that is lost later; healed, the engine goes on.
func kvFails(t *testing.T, fresh func(t *testing.T) Harness) {
	untilLast(t, fresh, func(t *testing.T, h Harness, n int) (failed bool) {
		l := &kvLife{t: t, kv: openKV(t, h), has: map[string]string{}}
		h.FailAt(n, 1)
		for i := range 12 {
			err := l.update(i)
			if err == nil {
				continue
			}
			wantFailure(t, err)
			if got, err := l.look(); err != nil {
				wantFailure(t, err)
			} else if !slices.Equal(got, flat(l.has)) && (l.also == nil || !slices.Equal(got, flat(l.also))) {
				t.Errorf("while it fails a view shows %q", got)
			}
			failed = h.Heal(t) || failed
			l.compare("healed")
		}
		failed = h.Heal(t) || failed
		l.compare("in the end")
		must(t, l.update(12))
		l.compare("after one more")
		if h.Persistent {
			end(t, h, l.kv)
			l.kv = openKV(t, h)
			l.compare("opened again")
		}
		return failed
	})
}

// end ends a store: by a power cut where that is possible, else in order.
func end(t *testing.T, h Harness, store io.Closer) {
	t.Helper()
	if h.Crash != nil {
		h.Crash(t)
		return
	}
	must(t, store.Close())
}

// kvCrash: what an Update has returned for is there after a power cut.
func kvCrash(t *testing.T, h Harness) {
	l := &kvLife{t: t, has: map[string]string{}}
	for i := range 30 {
		if i%10 == 0 {
			l.kv = openKV(t, h)
			l.compare("opened again")
		}
		must(t, l.update(i))
		if i%10 == 9 {
			h.Crash(t)
		}
	}
	l.kv = openKV(t, h)
	l.compare("in the end")
}

// kvTooLarge: a transaction larger than an engine must take happens as a whole, or
// is refused with kind Limit.
func kvTooLarge(t *testing.T, h Harness) {
	kv := openKV(t, h)
	set(t, kv, 1, "a", "1")
	value := make([]byte, 1<<20)
	const n = 2 * driver.MaxTxnBytes / (1 << 20)
	err := kv.Update(context.Background(), 1, func(tx driver.Txn) error {
		for i := range n {
			if err := tx.Set(fmt.Appendf(nil, "k%02d", i), value); err != nil {
				return err
			}
		}
		return tx.Delete([]byte("a"))
	})
	want := n
	if err != nil {
		wantKind(t, err, imap.Limit)
		want = 1
	}
	found := 0
	view(t, kv, 1, func(r driver.Reader) {
		must(t, r.Scan(nil, nil, func(_, _ []byte) bool { found++; return true }))
	})
	if found != want {
		t.Errorf("Update gave %v, and %d keys are there, want %d", err, found, want)
	}
	set(t, kv, 1, "b", "it goes on")
}

// blobLife is a Blobs that fails, and what is known of one account in it.
type blobLife struct {
	t     *testing.T
	b     driver.Blobs
	has   map[driver.Ref][]byte // acknowledged
	given map[driver.Ref]bool   // all that were ever given out
}

// keep writes a blob, and notes it where a Sync says that it is durable: also a
// second one, since the first may have lost it.
func (l *blobLife) keep(data []byte) error {
	ref, w, err := put(l.b, 1, data, nil)
	if err != nil {
		return err
	}
	defer w.Release()
	if l.given[ref] {
		l.t.Errorf("ref %#x was given out twice", ref)
	}
	l.given[ref] = true
	err = l.b.Sync(context.Background())
	if err == nil || l.b.Sync(context.Background()) == nil {
		l.has[ref] = data
	}
	return err
}

// compare checks that what was acknowledged is there; failing says that it may be
// unavailable.
func (l *blobLife) compare(when string, failing bool) {
	l.t.Helper()
	for ref, data := range l.has {
		got, err := read(l.b, 1, ref)
		if failing && errors.Is(err, imap.Unavailable) {
			continue
		}
		if err != nil || !bytes.Equal(got, data) {
			l.t.Errorf("%s: a blob of %d bytes that was acknowledged gave %d bytes, %v", when, len(data), len(got), err)
		}
	}
}

// blobFails: when an operation fails, what was acknowledged stays readable, and
// what was not is refused; healed, the engine goes on, and nothing is given out
// twice.
func blobFails(t *testing.T, fresh func(t *testing.T) Harness) {
	untilLast(t, fresh, func(t *testing.T, h Harness, n int) (failed bool) {
		l := &blobLife{t: t, b: openBlobs(t, h), has: map[driver.Ref][]byte{}, given: map[driver.Ref]bool{}}
		h.FailAt(n, 1)
		for i, size := range []int{10, 5000, 300_000, 0, 70_000, 20} {
			err := l.keep(content(i, size))
			if err == nil && i%3 == 2 {
				for ref := range l.has {
					err = l.b.Delete(context.Background(), 1, []driver.Ref{ref})
					delete(l.has, ref) // it may be there still
					break
				}
			}
			if err == nil {
				continue
			}
			wantKind(t, err, imap.Unavailable)
			l.compare("while it fails", true)
			failed = h.Heal(t) || failed
			l.compare("healed", false)
		}
		failed = h.Heal(t) || failed
		l.compare("in the end", false)
		must(t, l.keep(content(9, 5000)))
		if h.Persistent {
			end(t, h, l.b)
			l.b = openBlobs(t, h)
			l.compare("opened again", false)
			must(t, l.keep(content(10, 5000)))
		}
		must(t, l.b.Sweep(context.Background(), 1, func(ref driver.Ref) bool { return l.has[ref] != nil }))
		if got := listed(t, l.b, 1); len(got) != len(l.has) {
			t.Errorf("%d blobs are listed, want %d", len(got), len(l.has))
		}
		l.compare("swept", false)
		return failed
	})
}

// blobCrash: what a Sync has returned for is there after a power cut, and no ref
// is given out again.
func blobCrash(t *testing.T, h Harness) {
	l := &blobLife{t: t, has: map[driver.Ref][]byte{}, given: map[driver.Ref]bool{}}
	for round := range 4 {
		l.b = openBlobs(t, h)
		l.compare("opened again", false)
		for i, n := range sizes() {
			must(t, l.keep(content(round*100+i, n)))
		}
		// This one nobody waits for.
		ref, w, err := put(l.b, 1, content(round, 3000), nil)
		must(t, err)
		w.Release()
		l.given[ref] = true
		h.Crash(t)
	}
	l.b = openBlobs(t, h)
	l.compare("in the end", false)
}

// blobCrashAfterRefusal: a blob that is deleted while it is pinned stays away after a
// power cut, also where others have had it synced.
func blobCrashAfterRefusal(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	kept := map[driver.Ref]string{}
	for i, n := range sizes() {
		data := content(2*i, n)
		refused, w, err := put(b, 1, data, nil)
		must(t, err)
		if i%2 == 0 {
			must(t, b.Sync(context.Background()))
		}
		must(t, b.Delete(context.Background(), 1, []driver.Ref{refused}))
		w.Release()
		kept[keep(t, b, 1, content(2*i+1, n), nil)] = fmt.Sprintf("%d ", n)
	}
	h.Crash(t)
	b = openBlobs(t, h)
	if diff := cmp.Diff(kept, listed(t, b, 1)); diff != "" {
		t.Errorf("after a power cut (-kept +listed):\n%s", diff)
	}
}

// blobDamage: a blob whose bytes have changed gives kind Corruption, and never
// other bytes than were written; the others are as they were.
func blobDamage(t *testing.T, h Harness) {
	victims := []struct{ size, at int }{
		{100, 0}, {driver.CheckedAtOpen, 0}, {driver.CheckedAtOpen + 1, 0}, {300_000, 0}, {1 << 20, 0},
		{300_000, 80_000}, {1 << 20, 960_000}, // content is random there, too
	}
	for i, v := range victims {
		b := h.OpenBlobs(t)
		before := keep(t, b, 1, content(2*i, 5000), nil)
		data := content(2*i+10, v.size) // of an even seed: random where it begins
		victim := keep(t, b, 1, data, []byte("meta"))
		behind := keep(t, b, 1, content(2*i+100, 5000), nil)
		must(t, b.Close())
		h.Damage(t, data[v.at:])
		b = h.OpenBlobs(t)
		for _, piece := range []int{1000, driver.CheckedAtOpen, 2 * driver.CheckedAtOpen, v.size} {
			blob, err := b.Open(context.Background(), 1, victim)
			if err != nil {
				wantKind(t, err, imap.Corruption)
			} else {
				wantDamage(t, blob, data, piece)
				must(t, blob.Close())
			}
			if v.size <= driver.CheckedAtOpen && err == nil {
				t.Errorf("damage in a blob of %d bytes is not found when it is opened", v.size)
			}
		}
		wantBlob(t, b, 1, before, content(2*i, 5000))
		wantBlob(t, b, 1, behind, content(2*i+100, 5000))
		must(t, b.Close())
	}
}

// wantDamage reads a blob piece by piece.
func wantDamage(t *testing.T, blob driver.Blob, data []byte, piece int) {
	t.Helper()
	found := false
	for p, off := make([]byte, piece), 0; off < len(data); off += len(p) {
		n, err := blob.ReadAt(p, int64(off))
		if !bytes.Equal(p[:n], data[off:off+n]) {
			t.Errorf("other bytes than were written among %d at %d", piece, off)
		}
		if err != nil && err != io.EOF {
			wantKind(t, err, imap.Corruption)
			found = true
		}
	}
	if !found {
		t.Errorf("damage in a blob of %d bytes is not found", len(data))
	}
}

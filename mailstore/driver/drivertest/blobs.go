package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

func blobTests() []test {
	return []test{
		{name: "Sizes", run: blobSizes},
		{name: "UnknownSize", run: blobUnknownSize},
		{name: "WrongSize", run: blobWrongSize},
		{name: "ReadBack", run: blobReadBack},
		{name: "PartialReads", run: blobPartialReads},
		{name: "UnknownRefs", run: blobUnknownRefs},
		{name: "AccountsAreApart", run: blobAccountsAreApart},
		{name: "Delete", run: blobDelete},
		{name: "DeleteWhileOpen", run: blobDeleteWhileOpen},
		{name: "DeleteWhilePinned", run: blobDeleteWhilePinned},
		{name: "ReleaseUnfinished", run: blobReleaseUnfinished},
		{name: "Sweep", run: blobSweep},
		{name: "SweepSparesPinned", run: blobSweepSparesPinned},
		{name: "ListMeta", run: blobListMeta},
		{name: "ListStops", run: blobListStops},
		{name: "RefsAreNeverReused", run: blobRefsAreNeverReused},
		{name: "Skip", run: blobSkip},
		{name: "ContextEnded", run: blobContextEnded},
		{name: "Closed", run: blobClosed},
		{name: "WriterOutlivesContext", run: blobWriterOutlivesContext},
		{name: "ReadTogether", run: blobReadTogether},
		{name: "SweepBesideWriters", run: blobSweepBesideWriters},
		{name: "Reopen", needsReopen: true, run: blobReopen},
		{name: "Fails", needs: needsFaults, runMany: blobFails},
		{name: "Crash", needs: needsCrash, run: blobCrash},
		{name: "CrashAfterRefusal", needs: needsCrash, run: blobCrashAfterRefusal},
		{name: "Damage", needs: needsDamage, run: blobDamage},
		{name: "RefsAreNeverReusedAfterReopen", needsReopen: true, run: blobRefsNotReusedAfterReopen},
		{name: "ManyWriters", run: blobManyWriters},
		{name: "ReadersAndDeleters", run: blobReadersAndDeleters},
		{name: "SyncTogether", run: blobSyncTogether},
		{name: "SlowWriters", run: blobSlowWriters},
	}
}

// content makes n bytes that depend on seed: 40,000 that compress well, as many
// that do not, and so on.
func content(seed, n int) []byte {
	p := make([]byte, n)
	rng := rand.New(rand.NewPCG(uint64(seed), uint64(n)))
	v := uint64(0)
	for i := range p {
		if i%8 == 0 {
			v = rng.Uint64()
		}
		p[i] = byte(v >> (8 * (i % 8)))
		if (i/40_000+seed)%2 == 1 {
			p[i] = "some few bytes  "[p[i]%16]
		}
	}
	return p
}

// put writes one blob in pieces; the caller releases the writer.
func put(b driver.Blobs, a driver.Account, data, meta []byte) (driver.Ref, driver.Writer, error) {
	w, err := b.Create(context.Background(), a, int64(len(data)))
	if err != nil {
		return 0, nil, err
	}
	for p := data; len(p) > 0; {
		n := min(len(p), 100_000)
		if _, err := w.Write(p[:n]); err != nil {
			w.Release()
			return 0, nil, err
		}
		p = p[n:]
	}
	ref, err := w.Finish(meta)
	if err != nil {
		w.Release()
		return 0, nil, err
	}
	return ref, w, nil
}

// keep writes one blob, makes it durable and releases it.
func keep(t testing.TB, b driver.Blobs, a driver.Account, data, meta []byte) driver.Ref {
	t.Helper()
	ref, w, err := put(b, a, data, meta)
	must(t, err)
	must(t, b.Sync(context.Background()))
	w.Release()
	return ref
}

func read(b driver.Blobs, a driver.Account, ref driver.Ref) ([]byte, error) {
	blob, err := b.Open(context.Background(), a, ref)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	p, err := io.ReadAll(io.NewSectionReader(blob, 0, blob.Size()))
	if err == nil && int64(len(p)) != blob.Size() {
		err = fmt.Errorf("the Size is %d, %d bytes were read", blob.Size(), len(p))
	}
	return p, err
}

func wantBlob(t testing.TB, b driver.Blobs, a driver.Account, ref driver.Ref, want []byte) {
	t.Helper()
	got, err := read(b, a, ref)
	if err != nil {
		t.Errorf("blob %#x of account %d: %v", ref, a, err)
	} else if !bytes.Equal(got, want) {
		t.Errorf("blob %#x of account %d: %d bytes are not the %d that were written", ref, a, len(got), len(want))
	}
}

func wantNoBlob(t testing.TB, b driver.Blobs, a driver.Account, ref driver.Ref) {
	t.Helper()
	_, err := read(b, a, ref)
	wantKind(t, err, imap.NotFound)
}

func listed(t testing.TB, b driver.Blobs, a driver.Account) map[driver.Ref]string {
	t.Helper()
	got := map[driver.Ref]string{}
	must(t, b.List(context.Background(), a, func(ref driver.Ref, info driver.BlobInfo) error {
		if _, twice := got[ref]; twice {
			t.Errorf("blob %#x is listed twice", ref)
		}
		got[ref] = fmt.Sprintf("%d %s", info.Size, info.Meta)
		return nil
	}))
	return got
}

// sizes lie around the bounds where engines change their ways.
func sizes() []int {
	return []int{0, 1, 7, 4095, 4096, 4097, 65535, 65536, 65537, 131072, 262143, 262144, 262145, 1 << 20, 5<<20 + 3}
}

func blobSizes(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	refs := map[int]driver.Ref{}
	for _, n := range sizes() {
		refs[n] = keep(t, b, 1, content(1, n), fmt.Appendf(nil, "meta %d", n))
		wantBlob(t, b, 1, refs[n], content(1, n))
	}
	for n, ref := range refs {
		wantBlob(t, b, 1, ref, content(1, n))
	}
	if got := listed(t, b, 1); len(got) != len(refs) {
		t.Errorf("%d blobs are listed, want %d", len(got), len(refs))
	}
}

func blobUnknownSize(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	for _, n := range sizes() {
		w, err := b.Create(context.Background(), 1, -1)
		must(t, err)
		data := content(2, n)
		for step, p := 1, data; len(p) > 0; step = step*3 + 1 {
			k := min(step, len(p))
			got, err := w.Write(p[:k])
			if must(t, err); got != k {
				t.Fatalf("Write of %d bytes says %d", k, got)
			}
			p = p[k:]
		}
		ref, err := w.Finish(nil)
		must(t, err)
		must(t, b.Sync(context.Background()))
		w.Release()
		wantBlob(t, b, 1, ref, data)
	}
}

func blobWrongSize(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	for _, wrote := range []int{0, 9, 11, 1 << 20} {
		w, err := b.Create(context.Background(), 1, 10)
		must(t, err)
		_, err = w.Write(content(1, wrote))
		if err == nil {
			_, err = w.Finish(nil)
		}
		if err == nil {
			t.Errorf("a blob of %d bytes was taken where 10 were announced", wrote)
		}
		w.Release()
	}
	if got := listed(t, b, 1); len(got) != 0 {
		t.Errorf("refused blobs are listed: %v", got)
	}
}

func blobReadBack(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	for _, n := range sizes() {
		w, err := b.Create(context.Background(), 1, -1)
		must(t, err)
		data := content(3, n)
		check := func(when string, have int) {
			t.Helper()
			for _, from := range []int{0, have / 3, max(have-1, 0), have} {
				got := make([]byte, have-from)
				if k, err := w.ReadAt(got, int64(from)); k != len(got) || err != nil && err != io.EOF {
					t.Fatalf("size %d, %s: ReadAt(%d) = %d, %v", n, when, from, k, err)
				}
				if !bytes.Equal(got, data[from:have]) {
					t.Fatalf("size %d, %s: other bytes at %d", n, when, from)
				}
			}
			if k, err := w.ReadAt(make([]byte, 5), int64(have)); k != 0 || err != io.EOF {
				t.Errorf("size %d, %s: ReadAt behind the end = %d, %v; want 0, EOF", n, when, k, err)
			}
		}
		check("before the first byte", 0)
		_, err = w.Write(data[:n/2])
		must(t, err)
		check("half written", n/2)
		_, err = w.Write(data[n/2:])
		must(t, err)
		check("written", n)
		_, err = w.Finish([]byte("m"))
		must(t, err)
		check("finished", n)
		must(t, b.Sync(context.Background()))
		check("durable", n)
		w.Release()
		w.Release()
	}
}

func blobPartialReads(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	for _, n := range sizes() {
		data := content(4, n)
		ref := keep(t, b, 1, data, nil)
		blob, err := b.Open(context.Background(), 1, ref)
		must(t, err)
		if blob.Size() != int64(n) {
			t.Errorf("Size is %d, want %d", blob.Size(), n)
		}
		rng := rand.New(rand.NewPCG(1, uint64(n)))
		for range 50 {
			off, length := rng.IntN(n+1), rng.IntN(min(n, 200_000)+1)
			got := make([]byte, length)
			want := data[off:min(off+length, n)]
			k, err := blob.ReadAt(got, int64(off))
			if k != len(want) || !bytes.Equal(got[:k], want) || (k < length) != (err == io.EOF) && k < length || err != nil && err != io.EOF {
				t.Fatalf("size %d: ReadAt(%d bytes at %d) = %d, %v", n, length, off, k, err)
			}
		}
		if k, err := blob.ReadAt(make([]byte, 1), int64(n)+10); k != 0 || err != io.EOF {
			t.Errorf("size %d: ReadAt behind the end = %d, %v; want 0, EOF", n, k, err)
		}
		must(t, blob.Close())
	}
}

func blobUnknownRefs(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	unknown := []driver.Ref{0, 1, 7, 1<<32 + 9, 1<<64 - 1}
	for _, ref := range unknown {
		wantNoBlob(t, b, 1, ref)
	}
	ref := keep(t, b, 1, content(1, 1000), nil)
	must(t, b.Delete(context.Background(), 1, []driver.Ref{0, ref + 1, ref + 2, ref - 1, 1<<64 - 1}))
	must(t, b.Delete(context.Background(), 99, unknown))
	for _, near := range []driver.Ref{ref + 1, ref + 2, ref + 100, ref - 1, ref + 1<<32} {
		wantNoBlob(t, b, 1, near)
	}
	wantBlob(t, b, 1, ref, content(1, 1000))
}

func blobAccountsAreApart(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	r1 := keep(t, b, 1, content(1, 100), []byte("one"))
	r2 := keep(t, b, 2, content(2, 100), []byte("two"))
	if r1 != r2 { // a ref may mean something else to each account
		wantNoBlob(t, b, 2, r1)
		must(t, b.Delete(context.Background(), 2, []driver.Ref{r1}))
	}
	must(t, b.Sweep(context.Background(), 2, func(ref driver.Ref) bool { return ref == r2 }))
	wantBlob(t, b, 1, r1, content(1, 100))
	wantBlob(t, b, 2, r2, content(2, 100))
	if got := listed(t, b, 1); len(got) != 1 || got[r1] != "100 one" {
		t.Errorf("account 1 lists %v", got)
	}
}

func blobListMeta(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	want := map[driver.Ref]string{}
	for i, n := range []int{0, 1, 4096} {
		for _, size := range []int{0, 10, 70_000, 300_000} {
			meta := content(i, n)
			want[keep(t, b, 1, content(i, size), meta)] = fmt.Sprintf("%d %s", size, meta)
		}
	}
	got := listed(t, b, 1)
	if len(got) != len(want) {
		t.Errorf("%d blobs are listed, want %d", len(got), len(want))
	}
	for ref, w := range want {
		if got[ref] != w {
			t.Errorf("blob %#x: wrong size or meta", ref)
		}
	}
}

func blobListStops(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	for range 3 {
		keep(t, b, 1, []byte("x"), nil)
	}
	sentinel, n := errors.New("enough"), 0
	err := b.List(context.Background(), 1, func(driver.Ref, driver.BlobInfo) error { n++; return sentinel })
	if err != sentinel || n != 1 {
		t.Errorf("List gave %v after %d calls, want fn's error after one", err, n)
	}
}

func blobContextEnded(t *testing.T, h Harness) {
	b := openBlobs(t, h)
	ref := keep(t, b, 1, []byte("x"), nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := b.Open(ctx, 1, ref)
	_, err2 := b.Create(ctx, 1, -1)
	err3 := b.List(ctx, 1, func(driver.Ref, driver.BlobInfo) error { return nil })
	for i, err := range []error{err, err2, err3, b.Sync(ctx), b.Sweep(ctx, 1, func(driver.Ref) bool { return false })} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("call %d under an ended context gave %v", i, err)
		}
	}
	wantBlob(t, b, 1, ref, []byte("x"))
}

func blobClosed(t *testing.T, h Harness) {
	b := h.OpenBlobs(t)
	ref := keep(t, b, 1, []byte("x"), nil)
	must(t, b.Close())
	_, err := b.Open(context.Background(), 1, ref)
	wantKind(t, err, imap.Closed)
	_, err = b.Create(context.Background(), 1, -1)
	wantKind(t, err, imap.Closed)
	wantKind(t, b.Sync(context.Background()), imap.Closed)
	wantKind(t, b.Skip(context.Background(), 1), imap.Closed)
	wantKind(t, b.Delete(context.Background(), 1, []driver.Ref{ref}), imap.Closed)
	wantKind(t, b.Sweep(context.Background(), 1, func(driver.Ref) bool { return false }), imap.Closed)
	wantKind(t, b.List(context.Background(), 1, func(driver.Ref, driver.BlobInfo) error { return nil }), imap.Closed)
}

func blobReopen(t *testing.T, h Harness) {
	b := h.OpenBlobs(t)
	want := map[driver.Ref][]byte{}
	var gone []driver.Ref
	for round := range 4 {
		for i, n := range sizes() {
			ref := keep(t, b, 1, content(round, n), fmt.Appendf(nil, "%d/%d", round, n))
			if i%3 == round%3 {
				must(t, b.Delete(context.Background(), 1, []driver.Ref{ref}))
				gone = append(gone, ref)
			} else {
				want[ref] = content(round, n)
			}
		}
		must(t, b.Close())
		b = h.OpenBlobs(t)
		must(t, b.Sweep(context.Background(), 1, func(r driver.Ref) bool { _, ok := want[r]; return ok }))
		for ref, data := range want {
			wantBlob(t, b, 1, ref, data)
		}
		for _, ref := range gone {
			wantNoBlob(t, b, 1, ref)
		}
		if got := listed(t, b, 1); len(got) != len(want) {
			t.Errorf("round %d: %d blobs are listed, want %d", round, len(got), len(want))
		}
	}
	must(t, b.Close())
}

func blobRefsNotReusedAfterReopen(t *testing.T, h Harness) {
	seen := map[driver.Ref]bool{}
	for round := range 5 {
		b := h.OpenBlobs(t)
		for i := range 10 {
			ref := keep(t, b, 1, content(i, 300), nil)
			if seen[ref] {
				t.Errorf("round %d: ref %#x was given out before", round, ref)
			}
			seen[ref] = true
		}
		must(t, b.Sweep(context.Background(), 1, func(driver.Ref) bool { return false }))
		must(t, b.Close())
	}
}

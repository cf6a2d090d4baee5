package bloblog_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// TestDeleteOfAPinnedBlobWaits: what is deleted while its writer holds it is not
// taken away before the writer lets go, however much is tidied up; afterwards it
// is.
func TestDeleteOfAPinnedBlobWaits(t *testing.T) {
	ctx := context.Background()
	for _, n := range []int{5000, 400_000} {
		fs := vfs.NewMem()
		s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true, SegmentBytes: 1000, MaxWaste: 0.01})
		data := text(1, n)
		ref, w, err := write(s, 1, data)
		must(t, err)
		must(t, s.Sync(ctx))
		mustKeep(t, s, 1, text(2, 5000)) // the newest segment is never emptied
		must(t, s.Tidy(ctx))
		must(t, s.Delete(ctx, 1, []driver.Ref{ref}))
		must(t, s.Tidy(ctx))
		if st := s.Stats(); st.DeadBytes != 0 || st.Removed != 0 {
			t.Errorf("%d bytes: while the blob is pinned %d bytes are dead, %d segments removed", n, st.DeadBytes, st.Removed)
		}
		if names, _ := fs.List("blobs"); !slices.Contains(names, "00000001.seg") {
			t.Errorf("%d bytes: the file of a pinned blob is gone: %v", n, names)
		}
		got := make([]byte, n)
		if k, err := w.ReadAt(got, 0); k != n || err != nil && err != io.EOF || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: a pinned blob is read back as %d bytes, %v", n, k, err)
		}
		w.Release()
		if _, err := readAll(s, 1, ref); !errors.Is(err, imap.NotFound) {
			t.Errorf("%d bytes: a deleted blob gave %v", n, err)
		}
		must(t, s.Tidy(ctx))
		if names, _ := fs.List("blobs"); slices.Contains(names, "00000001.seg") {
			t.Errorf("%d bytes: the file of a blob that nobody needs is still there", n)
		}
		must(t, s.Close())
	}
}

// TestWaitForALaneEnds: the ninth long upload of an account waits for the others,
// until its context ends.
func TestWaitForALaneEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, "blobs", bloblog.Options{FS: vfs.NewMem(), Manual: true})
		defer s.Close()
		data := text(1, 600_000)
		begin := func(ctx context.Context) (driver.Writer, error) {
			w, err := s.Create(ctx, 1, -1)
			must(t, err)
			_, err = w.Write(data)
			return w, err
		}
		var others []driver.Writer
		for range 8 {
			w, err := begin(context.Background())
			must(t, err)
			others = append(others, w)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() {
			w, err := begin(ctx)
			w.Release()
			ended <- err
		}()
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatalf("the ninth upload did not wait: %v", err)
		default:
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the wait ended with %v", err)
		}
		others[0].Release()
		w, err := begin(context.Background())
		must(t, err)
		w.Release()
		for _, w := range others[1:] {
			w.Release()
		}
	})
}

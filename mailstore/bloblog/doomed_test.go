package bloblog_test

import (
	"context"
	"slices"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// TestWasteOnTheDiskIsCounted: a segment of no more use counts as dead for as
// long as its file is there, because a reader has it or because it cannot be
// removed.
func TestWasteOnTheDiskIsCounted(t *testing.T) {
	ctx := context.Background()
	for name, stuck := range map[string]bool{"held by a reader": false, "cannot be removed": true} {
		t.Run(name, func(t *testing.T) {
			fs := crashfs.New()
			s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true, SegmentBytes: 1000})
			defer s.Close()
			const n = 300_000
			ref := mustKeep(t, s, 1, text(1, n))
			mustKeep(t, s, 1, text(2, 5000))
			must(t, s.Tidy(ctx))
			before := s.Stats()
			b, err := s.Open(ctx, 1, ref)
			must(t, err)
			must(t, s.Delete(ctx, 1, []driver.Ref{ref}))
			if stuck {
				must(t, b.Close())
				fs.Fail(func(op errorfs.Op) error {
					if op.Kind == errorfs.OpRemove {
						return syscall.EIO
					}
					return nil
				})
			}
			must(t, s.Tidy(ctx))
			if st := s.Stats(); st.DeadBytes < n || st.Bytes != before.Bytes || st.Segments != before.Segments {
				t.Errorf("before the file is gone: %+v, at first %+v", st, before)
			}
			fs.Fail(nil)
			must(t, b.Close())
			if stuck {
				must(t, s.Tidy(ctx)) // tries again
			}
			if st := s.Stats(); st.DeadBytes != 0 || st.Bytes > before.Bytes-n || st.Segments != before.Segments-1 {
				t.Errorf("when the file is gone: %+v, at first %+v", st, before)
			}
			if names, _ := fs.List("blobs"); len(names) != 2 { // a segment and the list of deleted ones
				t.Errorf("the files %v are left", names)
			}
		})
	}
}

// TestSetAsideBeforeItsSeal: what is set aside is not in the store any more, also
// where a crash has left it unsealed.
func TestSetAsideBeforeItsSeal(t *testing.T) {
	ctx := context.Background()
	crash := crashfs.New()
	s := open(t, "blobs", bloblog.Options{FS: crash, Manual: true})
	mustKeep(t, s, 1, text(1, 5000))
	fs := crash.Clones()[2].FS
	must(t, s.Close())
	flip(t, fs, "blobs/00000001.log", 10)
	s = open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
	files, err := s.SetAside(ctx, "aside")
	must(t, err)
	must(t, s.Close())
	names, _ := fs.List("blobs")
	if len(files) != 1 || slices.Contains(names, files[0]) {
		t.Errorf("%v was set aside; in the store are %v", files, names)
	}
	if names, _ := fs.List("aside"); !slices.Equal(names, files) {
		t.Errorf("%v was set aside, and is not in %v", files, names)
	}
}

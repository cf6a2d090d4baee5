package bloblog_test

import (
	"path"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/driver/drivertest"
)

// TestDriverOnAFailingDisk: that a segment cannot be sealed or removed now and
// then, or that what is deleted cannot be noted, is nothing that a caller ever
// hears of.
func TestDriverOnAFailingDisk(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		fs := crashfs.New()
		var n atomic.Int64
		fs.Fail(func(op errorfs.Op) error {
			ofSeals := op.Kind == errorfs.OpRename || op.Kind == errorfs.OpRemove
			ofDeletes := op.Kind == errorfs.OpFileWriteAt && path.Base(op.Path) == "deleted"
			if (ofSeals || ofDeletes) && n.Add(1)%3 == 0 {
				return syscall.EIO
			}
			return nil
		})
		return drivertest.Harness{
			OpenBlobs: func(t *testing.T) driver.Blobs {
				return open(t, "blobs", bloblog.Options{FS: fs, SegmentBytes: 20_000, MaxWaste: 0.2})
			},
		}
	})
}

// TestBadPlace: where one file cannot be written to any more, another serves,
// for short blobs and for long ones.
func TestBadPlace(t *testing.T) {
	for _, size := range []int{6000, 600_000} {
		fs := crashfs.New()
		s := open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
		first := mustKeep(t, s, 1, text(1, size))
		fs.Fail(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpFileWriteAt && path.Base(op.Path) == "00000001.log" {
				return syscall.EIO
			}
			return nil
		})
		if _, w, err := write(s, 1, text(2, size)); imap.KindOf(err) != imap.Unavailable {
			t.Errorf("a place that is bad gave %v", err)
		} else if w != nil {
			w.Release()
		}
		second := mustKeep(t, s, 1, text(3, size))
		wantBytes(t, s, first, text(1, size))
		wantBytes(t, s, second, text(3, size))
		fs.Fail(nil)
		must(t, s.Close())
		s = open(t, "blobs", bloblog.Options{FS: fs, Manual: true})
		wantBytes(t, s, first, text(1, size))
		wantBytes(t, s, second, text(3, size))
		must(t, s.Close())
	}
}

package bloblog_test

import (
	"path"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

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

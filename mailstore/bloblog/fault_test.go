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

// TestDriverWithFaults: the suite with a disk that fails in front of callers, that
// loses power, and that damages what it has.
func TestDriverWithFaults(t *testing.T) {
	for name, opts := range map[string]bloblog.Options{
		"Defaults":   {},
		"Compressed": {Compress: bloblog.Zstd, SegmentBytes: 100_000, MaxWaste: 0.1, OpenFiles: 3},
	} {
		t.Run(name, func(t *testing.T) {
			drivertest.Run(t, func(t *testing.T) drivertest.Harness {
				opts := opts
				fs := crashfs.New()
				failed := func() bool { return false }
				h := drivertest.Harness{
					Persistent: true,
					OpenBlobs: func(t *testing.T) driver.Blobs {
						opts.FS = fs
						return open(t, "blobs", opts)
					},
					FailAt: func(n, times int) { failed = fs.FailNth(n, times, syscall.EIO) },
					Heal: func(*testing.T) bool {
						fs.Fail(nil)
						return failed()
					},
					Crash: func(*testing.T) { fs = fs.Clones()[0].FS },
				}
				if opts.Compress == bloblog.Uncompressed { // else see TestDamagedCompressed
					h.Damage = func(t *testing.T, content []byte) { damage(t, fs, content[:60], 30) }
				}
				return h
			})
		})
	}
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

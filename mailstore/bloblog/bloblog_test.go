package bloblog_test

import (
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/driver/drivertest"
)

func open(t testing.TB, dir string, opts bloblog.Options) *bloblog.Store {
	t.Helper()
	opts.Logger = slog.New(slog.DiscardHandler)
	s, err := bloblog.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDriver(t *testing.T) {
	for name, opts := range map[string]bloblog.Options{
		"Defaults":      {},
		"TinySegments":  {SegmentBytes: 20_000, MaxWaste: 0.1, OpenFiles: 3},
		"EachItsOwn":    {SegmentBytes: 1, MaxWaste: 0.01, OpenFiles: 1},
		"NeverTidiedUp": {Manual: true, SegmentBytes: 1 << 20},
		"Compressed":    {Compress: bloblog.Zstd, SegmentBytes: 20_000, MaxWaste: 0.1},
	} {
		t.Run(name, func(t *testing.T) {
			drivertest.Run(t, func(t *testing.T) drivertest.Harness {
				opts, dir := opts, "blobs"
				if opts.FS = vfs.NewMem(); name == "Defaults" {
					opts.FS, dir = nil, t.TempDir()
				}
				return drivertest.Harness{
					Persistent: true,
					OpenBlobs:  func(t *testing.T) driver.Blobs { return open(t, dir, opts) },
				}
			})
		})
	}
}

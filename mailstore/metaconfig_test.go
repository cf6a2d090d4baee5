package mailstore_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/memkv"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
	"github.com/rookery-mail/rookery/mailstore/reserve"
)

// A metaConfig is one way to run a store. All must answer alike.
type metaConfig struct {
	name string
	opts mailstore.Options
	// engines opens them, again after each end of them. Without it they are in
	// memory and outlive every restart.
	engines func(tb testing.TB, fs vfs.FS) (driver.KV, driver.Blobs)
	restart metaRestart
	sweeps  bool // sweep and tidy where the list says so
}

// A metaRestart is what a configuration makes of "restart".
type metaRestart uint8

const (
	metaGoOn  metaRestart = iota // end the sessions only
	metaStop                     // close everything and open it
	metaCut                      // cut the power: what is not synced is lost
	metaCut50                    // the same, with half of it there
)

func metaConfigs() []metaConfig {
	tiny := mailstore.Options{TxnRows: 2, TxnBytes: 1000, PageRows: 3, FoldRows: 3, ColumnRows: 3, TextBatch: 2}
	return []metaConfig{
		{name: "in memory"},
		{name: "in memory, tiny transactions", opts: tiny, restart: metaStop, sweeps: true},
		{name: "in memory, no index kept", opts: mailstore.Options{IndexMemory: 1, FoldRows: 1, PageRows: 1, DeriveDelay: time.Hour}, sweeps: true},
		{name: "in memory, pages of 7", opts: mailstore.Options{TxnRows: 5, PageRows: 7, FoldRows: 2, IndexMemory: 3000, ColumnRows: 2, TextBatch: 3}, restart: metaStop},
		{name: "embedded", engines: embedded(pebblekv.Options{}, bloblog.Options{}), restart: metaStop, sweeps: true},
		{name: "embedded, all small", opts: tiny, restart: metaStop, sweeps: true, engines: embedded(
			pebblekv.Options{MemTableBytes: 64 << 10, CacheBytes: 1 << 10, MaxOpenFiles: 10},
			bloblog.Options{SegmentBytes: 3000, MaxWaste: 0.1, OpenFiles: 1})},
		{name: "embedded, one message in a segment", opts: mailstore.Options{IndexMemory: 1}, engines: embedded(
			pebblekv.Options{MemTableBytes: 256 << 10, CacheBytes: 64 << 20}, bloblog.Options{SegmentBytes: 1, MaxWaste: 0.01})},
		{name: "embedded, relaxed", restart: metaStop, sweeps: true, engines: embedded(
			pebblekv.Options{Relaxed: 5 * time.Millisecond}, bloblog.Options{SegmentBytes: 10_000})},
		{name: "embedded, compressed", restart: metaStop, sweeps: true, engines: embedded(
			pebblekv.Options{}, bloblog.Options{Compress: bloblog.Zstd, SegmentBytes: 5000, MaxWaste: 0.1})},
		{name: "embedded, power cuts", restart: metaCut, opts: mailstore.Options{DeriveDelay: time.Hour, TextLag: 3, ColumnRows: 2}, engines: embedded(pebblekv.Options{}, bloblog.Options{SegmentBytes: 10_000, Compress: bloblog.Zstd})},
		{name: "embedded, power cuts, all small", opts: tiny, restart: metaCut50, sweeps: true, engines: embedded(
			pebblekv.Options{MemTableBytes: 64 << 10}, bloblog.Options{SegmentBytes: 2000, MaxWaste: 0.2, Compress: bloblog.Zstd})},
	}
}

// embedded opens the embedded engines with the reserve in between, as the daemon
// does.
func embedded(ko pebblekv.Options, bo bloblog.Options) func(testing.TB, vfs.FS) (driver.KV, driver.Blobs) {
	return func(tb testing.TB, fs vfs.FS) (driver.KV, driver.Blobs) {
		tb.Helper()
		ko, bo := ko, bo
		ko.FS, bo.FS, bo.RideShare = fs, fs, 100
		ko.Logger, bo.Logger = slog.New(slog.DiscardHandler), slog.New(slog.DiscardHandler)
		blobs, err := bloblog.Open("blobs", bo)
		if err != nil {
			tb.Fatal(err)
		}
		ko.Blobs = blobs
		kv, err := pebblekv.Open("kv", ko)
		if err != nil {
			tb.Fatal(err)
		}
		guard := reserve.New(reserve.Options{FS: fs, Path: "", Logger: ko.Logger})
		return closer{guard.KV(kv), blobs}, guard.Blobs(kv.Blobs())
	}
}

// closer closes the blobs after the index that names them.
type closer struct {
	driver.KV
	blobs driver.Blobs
}

func (c closer) Close() error {
	err := c.KV.Close()
	if berr := c.blobs.Close(); err == nil {
		err = berr
	}
	return err
}

// metaDisk is a store of a configuration with the engines and disk below it.
type metaDisk struct {
	tb    testing.TB
	c     metaConfig
	fs    *crashfs.FS
	kv    driver.KV
	blobs driver.Blobs
	store *mailstore.Store
}

func newMetaDisk(tb testing.TB, c metaConfig) *metaDisk {
	d := &metaDisk{tb: tb, c: c, fs: crashfs.New()}
	if c.engines == nil {
		d.kv, d.blobs = memkv.NewKV(memkv.RunTwice()), memkv.NewBlobs()
	}
	d.open()
	return d
}

func (d *metaDisk) open() {
	d.tb.Helper()
	if d.c.engines != nil {
		d.kv, d.blobs = d.c.engines(d.tb, d.fs)
	}
	var err error
	if d.store, err = mailstore.Open(ctx, d.kv, d.blobs, d.c.opts); err != nil {
		d.tb.Fatal(err)
	}
}

func (d *metaDisk) close() {
	d.tb.Helper()
	if err := d.store.Close(ctx); err != nil {
		d.tb.Fatal(err)
	}
	if d.c.engines != nil {
		if err := d.kv.Close(); err != nil {
			d.tb.Fatal(err)
		}
	}
}

func (d *metaDisk) restart() {
	d.tb.Helper()
	switch d.c.restart {
	case metaGoOn:
		return
	case metaStop:
		d.close()
	default:
		kept := map[metaRestart]int{metaCut: 0, metaCut50: 1}[d.c.restart]
		after := d.fs.Clones()[kept].FS
		d.close() // in a world of its own
		d.fs = after
	}
	d.open()
}

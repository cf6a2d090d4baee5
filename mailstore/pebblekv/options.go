package pebblekv

import (
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/mailstore/driver"
)

// Options says how a store is opened. The zero value is what a daemon wants.
type Options struct {
	// FS is where the files are; nil is the machine's file system.
	FS vfs.FS

	// CacheBytes bounds the memory of blocks that were read from disk and of
	// memtables together: Pebble has no cache at all while these fill it. 0 is
	// 16 MB and room for two memtables.
	CacheBytes int64

	// MemTableBytes is how much is gathered in memory (and in the log) before
	// it is written as a table; 0 is 8 MB. Two of them exist during a flush.
	// They grow from 256 kB as they fill.
	MemTableBytes uint64

	// MaxOpenFiles bounds the tables that are kept open; 0 is 256.
	MaxOpenFiles int

	// FileBytes, where it is not 0, is how large the system lets a file become
	// (ulimit -f): logs and tables are kept well below it. (A saved state of the
	// journal is as large as it is.)
	FileBytes int64

	// Relaxed lets Update return before its change is on disk. What was
	// acknowledged less than this long (or one sync of the disk, where that
	// takes longer) before a crash of the machine or of the process may be
	// lost; the store is whole all the same, and holds all that came before
	// what it lost. 0, the default, loses nothing.
	Relaxed time.Duration

	// Blobs are what the index names. A store that has them syncs them before it
	// writes what may name them to its log; use them by way of [KV.Blobs] then,
	// and close them after the KV. Where they cannot be synced, the store fails.
	// If they implement [Rider] as well, one sync mostly does for both; then whoever opens
	// the store after a crash has them here, or calls [LayIn] before.
	Blobs driver.Blobs

	// Journal, where it is set, is a folder that says the same as the store, and
	// from which [KV.Replay] makes it again: its logs, by hard links, and now and
	// then a saved state. See journal.go.
	Journal string

	// JournalBytes is how much is written to the log before another state is
	// saved, or more: as much as the state itself takes; 0 is 64 MB.
	JournalBytes int64

	// Derived returns, for a key that can be made anew from what else there is,
	// the first key behind all such keys that follow it; nil for other keys.
	// What is derived is not in saved states. nil: nothing is.
	Derived func(a driver.Account, key []byte) (end []byte)

	// Existing refuses to open a folder that has no store, instead of making one.
	Existing bool

	// Still leaves the tables as they are, however many there are: for who looks
	// only, and would have to wait for their merging, or keep it in memory.
	Still bool

	// Logger gets what the engine has to say: errors and slow disks as such,
	// the rest at debug level. nil is slog.Default().
	Logger *slog.Logger
}

// formatVersion pins Pebble's format on disk, so that a store is not upgraded
// (and made unreadable for the release before) by an update of the library.
const formatVersion = pebble.FormatWALSyncChunks

// blockBytes is what is read from a table at once. What mail programs ask for
// again and again is read in the order of its keys, and then large blocks that
// need no unpacking cost least: they come out of the system's cache of files.
// Values that are large and seldom read are compressed by who writes them.
const blockBytes = 32 << 10

// filePart is which part of FileBytes one table or what one log gathers may take.
const filePart = 4

// tableBytes is the size at which a table of the first level ends, as Pebble has
// it; each level has twice that of the one before.
const tableBytes = 2 << 20

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 8 << 20
	}
	if o.FileBytes > 0 {
		o.MemTableBytes = min(o.MemTableBytes, uint64(o.FileBytes/filePart))
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 16<<20 + 2*int64(o.MemTableBytes)
	}
	if o.MaxOpenFiles == 0 {
		o.MaxOpenFiles = 256
	}
	if o.JournalBytes == 0 {
		o.JournalBytes = 64 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

func (o Options) pebble(l *listener) *pebble.Options {
	p := &pebble.Options{
		FS:                          o.FS,
		CacheSize:                   o.CacheBytes,
		MemTableSize:                o.MemTableBytes,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       2,
		MaxOpenFiles:                o.MaxOpenFiles,
		FormatMajorVersion:          formatVersion,
		Logger:                      l,
		EventListener:               l.events(),
	}
	p.DisableAutomaticCompactions = o.Still
	p.Experimental.CompactionScheduler = newScheduler()
	for i := range p.Levels {
		if o.FileBytes > 0 {
			p.TargetFileSizes[i] = min(tableBytes<<i, o.FileBytes/filePart)
		}
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		p.Levels[i].BlockSize = blockBytes
		p.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	}
	return p
}

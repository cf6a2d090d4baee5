package pebblekv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"

	"github.com/rookery-mail/rookery/imap"
)

// Checkpoint writes a copy of the store, as it is at some moment of the call,
// into the folder dir, which must not exist yet. Everything is in it that an
// Update had returned for before; it can be opened like the store itself. Files
// that never change are shared by hard links where the file system allows it.
// Readers and writers go on meanwhile. Where it fails, dir is removed.
func (kv *KV) Checkpoint(ctx context.Context, dir string) error {
	const op = "index checkpoint"
	if err := ctx.Err(); err != nil {
		return err
	}
	acct, in, err := kv.enter(op, 0)
	if err != nil {
		return err
	}
	defer kv.leave(0, acct)
	if err := in.db.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
		kind := imap.Unavailable
		if pebble.IsCorruptionError(err) {
			kind = imap.Corruption
		}
		return imap.E(op, kind, err)
	}
	return nil
}

// Settle brings what is in the log into tables. It is for before Close, where
// time allows: damage to a table is always noticed, while damage at the end of
// a log looks like the end that a crash leaves. Nothing is lost without it.
func (kv *KV) Settle(ctx context.Context) error {
	const op = "index settle"
	acct, in, err := kv.enter(op, 0)
	if err != nil {
		return err
	}
	defer kv.leave(0, acct)
	flushed, err := in.db.AsyncFlush()
	if err != nil {
		return imap.E(op, imap.Unavailable, err)
	}
	select {
	case <-flushed:
		return nil
	case <-in.failed:
		return imap.E(op, imap.Unavailable, in.failure())
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Damage is a part of the database that does not match its checksums.
type Damage struct {
	File string // its path
	// First and Last are the accounts whose keys the file may have, both
	// included.
	First, Last uint64
	Err         error
}

// Verify reads every table of the database from the disk, past all caches, and
// calls found for each that is damaged. It may run beside anything. What is
// still in the log was verified when the store was opened. The error is of
// another kind: the store is closed, or ctx has ended.
func (kv *KV) Verify(ctx context.Context, found func(Damage)) error {
	const op = "index verify"
	acct, in, err := kv.enter(op, 0)
	if err != nil {
		return err
	}
	defer kv.leave(0, acct)
	levels, err := in.db.SSTables()
	if err != nil {
		return imap.E(op, imap.Unavailable, err)
	}
	for _, level := range levels {
		for _, t := range level {
			if err := ctx.Err(); err != nil {
				return err
			}
			path := kv.opts.FS.PathJoin(kv.dir, fmt.Sprintf("%s.sst", t.BackingSSTNum))
			err := kv.verifyTable(ctx, path)
			if errors.Is(err, fs.ErrNotExist) && !in.hasTable(t.BackingSSTNum.String()) {
				continue // replaced meanwhile
			}
			if err != nil {
				found(Damage{File: path, First: accountOf(t.Smallest.UserKey), Last: accountOf(t.Largest.UserKey), Err: err})
			}
		}
	}
	return nil
}

// hasTable reports whether a table is still in use.
func (in *instance) hasTable(num string) bool {
	levels, err := in.db.SSTables()
	if err != nil {
		return true
	}
	for _, level := range levels {
		for _, t := range level {
			if t.BackingSSTNum.String() == num {
				return true
			}
		}
	}
	return false
}

func (kv *KV) verifyTable(ctx context.Context, path string) error {
	f, err := kv.opts.FS.Open(path)
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r, err := sstable.NewReader(ctx, readable, sstable.ReaderOptions{})
	if err != nil {
		return err // NewReader has closed the file
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}

// accountOf returns the account of a whole key.
func accountOf(key []byte) uint64 {
	if len(key) < prefixLen {
		return 0
	}
	return binary.BigEndian.Uint64(key)
}

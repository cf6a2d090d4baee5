package pebblekv

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// When a block of a table does not match its checksum, Pebble tries each bit of
// it to say in a message which one is wrong: a second of a processor for a block
// of 32 kB, each time that it is read. A store that is damaged would be busy with
// that. So badBlocks remembers which reads gave such a block, and the next one of
// it fails at once. It looks at nothing before there is reason to.
type badBlocks struct {
	suspect atomic.Bool // there is damage, or may be

	mu   sync.Mutex
	seen map[badBlock]bool
}

type badBlock struct {
	file   string
	off    int64
	length int
}

// watch wraps a table that is opened for reading.
func (b *badBlocks) watch(name string, f vfs.File) vfs.File {
	info, err := f.Stat()
	if err != nil {
		return f
	}
	return &watchedTable{File: f, name: name, size: info.Size(), bad: b}
}

// watchedTable is a table that is being read.
type watchedTable struct {
	vfs.File
	name string
	size int64
	bad  *badBlocks
}

// blockTrailer is what follows a block: the kind of its compression and a
// checksum.
const blockTrailer = 5

// ReadAt implements io.ReaderAt.
func (t *watchedTable) ReadAt(p []byte, off int64) (int, error) {
	n, err := t.File.ReadAt(p, off)
	// The footer ends the file, and is no block.
	if !t.bad.suspect.Load() || err != nil || n <= blockTrailer || off+int64(n) == t.size || matches(p[:n]) {
		return n, err
	}
	key := badBlock{t.name, off, n}
	t.bad.mu.Lock()
	defer t.bad.mu.Unlock()
	if t.bad.seen[key] {
		return 0, fmt.Errorf("%w: the block at %d of %s does not match its checksum", pebble.ErrCorruption, off, t.name)
	}
	if t.bad.seen == nil {
		t.bad.seen = make(map[badBlock]bool)
	}
	t.bad.seen[key] = true
	return n, nil
}

// matches reports whether a block matches the checksum at its end.
func matches(p []byte) bool {
	return maskedSum(p[:len(p)-4]) == binary.LittleEndian.Uint32(p[len(p)-4:])
}

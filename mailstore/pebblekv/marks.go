package pebblekv

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// marks writes a record without keys to the log, a moment after commits, which says
// up to where the log was on disk then: that proves the commits before it. Pebble
// says it in each piece of a log, too, but as it counts it leaves out what was
// waiting to be written when a block of 32 kB was full, so it falls behind; and of a
// store at rest nothing would prove the last commits. A store at rest writes none.
type marks struct {
	due atomic.Bool // a commit has come since the last mark

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

// markDelay is how long a commit goes without proof, at least.
const markDelay = time.Second

// commit takes note that a commit is on disk.
func (m *marks) commit(kv *KV) {
	if kv.opts.Relaxed > 0 || m.due.Swap(true) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.stopped:
	case m.timer == nil:
		m.timer = time.AfterFunc(markDelay, kv.mark)
	default:
		m.timer.Reset(markDelay)
	}
}

// stop ends that. A store that was closed in order has an end that is proven.
func (m *marks) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopped = true
	if m.timer != nil {
		m.timer.Stop()
	}
}

// mark writes one. Where it fails, the log has failed, and others say so.
func (kv *KV) mark() {
	acct, in, err := kv.enter("index mark", 0)
	if err != nil {
		kv.marks.due.Store(false)
		return
	}
	defer kv.leave(0, acct)
	kv.marks.due.Store(false) // what comes from here on may come behind it
	number, synced := in.disk.synced.get()
	if in.writeMark() == nil && kv.journal != nil {
		kv.journal.noteOnDisk(number, synced) // without the mark, which may be lost
	}
}

// writeMark returns when a mark is on disk, and all that was committed before it.
func (in *instance) writeMark() error {
	number, synced := in.disk.synced.get()
	text := binary.LittleEndian.AppendUint64([]byte(markMagic), number)
	return in.db.LogData(binary.LittleEndian.AppendUint64(text, synced), pebble.Sync)
}

// markMagic begins the text of a mark. What follows is the number of a log and how
// many bytes of it were on disk, 8 bytes each, little endian.
const markMagic = "on disk:"

// readMark returns what a batch says of the log with a number, 0 where it is no mark
// of it.
func readMark(repr []byte, number uint32) (synced uint64) {
	if h, ok := batchrepr.ReadHeader(repr); !ok || h.Count != 0 {
		return 0
	}
	r := batchrepr.Read(repr)
	kind, text, _, ok, err := r.Next()
	if !ok || err != nil || kind != pebble.InternalKeyKindLogData || len(text) != len(markMagic)+16 || string(text[:len(markMagic)]) != markMagic {
		return 0
	}
	text = text[len(markMagic):]
	if binary.LittleEndian.Uint64(text) != uint64(number) {
		return 0
	}
	return binary.LittleEndian.Uint64(text[8:])
}

// onDiskName is a file of the journal that says what the last mark says, or what has
// ridden behind (layin.go), and outlives the log: the number, the bytes and a checksum of both, little endian. It is not
// synced, since it is true whenever it reaches the disk.
const onDiskName = "ondisk"

// noteOnDisk writes that file. Where it fails, less is proven.
func (j *journal) noteOnDisk(number, bytes uint64) {
	_ = writeOnDisk(j.fs, j.dir(), number, bytes)
}

func writeOnDisk(disk vfs.FS, dir string, number, bytes uint64) error {
	text := binary.LittleEndian.AppendUint64(nil, number)
	text = binary.LittleEndian.AppendUint64(text, bytes)
	text = binary.LittleEndian.AppendUint32(text, crc32.Checksum(text, castagnoli))
	f, err := disk.Create(disk.PathJoin(dir, onDiskName), categoryJournal)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// readOnDisk reads it; all is 0 where it says nothing.
func readOnDisk(disk vfs.FS, dir string) (number, bytes uint64) {
	text, err := readFile(disk, disk.PathJoin(dir, onDiskName), nil)
	if err != nil || len(text) != 20 || crc32.Checksum(text[:16], castagnoli) != binary.LittleEndian.Uint32(text[16:]) {
		return 0, 0
	}
	return binary.LittleEndian.Uint64(text), binary.LittleEndian.Uint64(text[8:])
}

// syncedLog is how much of the newest log is on disk.
type syncedLog struct {
	mu            sync.Mutex
	number, bytes uint64
}

func (s *syncedLog) note(number uint64, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if number >= s.number {
		s.number, s.bytes = number, uint64(bytes)
	}
}

func (s *syncedLog) get() (number, bytes uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.number, s.bytes
}

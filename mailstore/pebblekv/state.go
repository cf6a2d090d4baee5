package pebblekv

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/internal/durable"
)

// A saved state has all keys of the store but those that can be made anew, as
// they were at one moment: a file in a form of its own, which shares no bytes
// with the store. Its name has the number of the first log that may have
// something newer.
//
// It is stateMagic, frames, and an end: a frame is the length and the CRC-32C
// of what follows (4 bytes each, little endian), then keys and values, each
// behind its length (uvarint). The first frame has nothing but the sequence number
// of the first commit that is not in the state (8 bytes). The end is a frame with
// nothing but the number of keys (8 bytes), under a length of endFrame. Older
// states, with oldMagic, lack the first frame.
const (
	stateMagic = "RkState\x02"
	oldMagic   = "RkState\x01"
	frameBytes = 64 << 10
	endFrame   = 1<<32 - 1
	maxFrame   = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func stateName(number uint64) string { return fmt.Sprintf("%s%020d", statePrefix, number) }

func parseState(name string) (number uint64, ok bool) {
	text, found := strings.CutPrefix(name, statePrefix)
	number, err := strconv.ParseUint(text, 10, 64)
	return number, found && err == nil && len(text) == 20
}

// stateNumbers returns the numbers of saved states, the newest first.
func stateNumbers(names []string) (list []uint64) {
	for _, name := range names {
		if n, ok := parseState(name); ok {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	slices.Reverse(list)
	return list
}

// stateWriter writes a state.
type stateWriter struct {
	w       *bufio.Writer
	frame   []byte
	keys    uint64
	written int64
}

func (s *stateWriter) put(key, value []byte) error {
	s.frame = binary.AppendUvarint(s.frame, uint64(len(key)))
	s.frame = append(s.frame, key...)
	s.frame = binary.AppendUvarint(s.frame, uint64(len(value)))
	s.frame = append(s.frame, value...)
	s.keys++
	if len(s.frame) < frameBytes {
		return nil
	}
	return s.flush(uint32(len(s.frame)))
}

func (s *stateWriter) flush(length uint32) error {
	var head [8]byte
	binary.LittleEndian.PutUint32(head[:], length)
	binary.LittleEndian.PutUint32(head[4:], crc32.Checksum(s.frame, castagnoli))
	_, err := s.w.Write(head[:])
	if err == nil {
		_, err = s.w.Write(s.frame)
	}
	s.written += int64(len(head) + len(s.frame))
	s.frame = s.frame[:0]
	return err
}

func (s *stateWriter) end() error {
	if len(s.frame) > 0 {
		if err := s.flush(uint32(len(s.frame))); err != nil {
			return err
		}
	}
	s.frame = binary.LittleEndian.AppendUint64(s.frame, s.keys)
	if err := s.flush(endFrame); err != nil {
		return err
	}
	return s.w.Flush()
}

// writeState writes what a snapshot has into the journal, durably.
func writeState(ctx context.Context, j *journal, from uint64, m *moment) (written int64, err error) {
	tmp := j.path(stateNew)
	f, err := j.fs.Create(tmp, categoryJournal)
	if err != nil {
		return 0, err
	}
	s := &stateWriter{w: bufio.NewWriterSize(f, 256<<10)}
	_, err = s.w.WriteString(stateMagic)
	if err == nil {
		s.frame = binary.LittleEndian.AppendUint64(s.frame, m.next)
		err = s.flush(8)
	}
	if err == nil {
		err = j.copyKeys(ctx, m.snapshot, s)
	}
	if err == nil {
		err = s.end()
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, errors.Join(err, j.fs.Remove(tmp))
	}
	if err := j.fs.Rename(tmp, j.path(stateName(from))); err != nil {
		return 0, err
	}
	return s.written, durable.SyncDir(j.fs, j.dir())
}

// copyKeys passes on what cannot be made anew.
func (j *journal) copyKeys(ctx context.Context, snapshot *pebble.Snapshot, s *stateWriter) (err error) {
	it, err := snapshot.NewIter(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; {
		if end := skipTo(j.derived, it.Key()); end != nil {
			ok = it.SeekGE(end)
			continue
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := s.put(it.Key(), value); err != nil {
			return err
		}
		if s.keys%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		ok = it.Next()
	}
	return it.Error()
}

// A moment is what a store had at one time: all commits before next, and no other.
type moment struct {
	snapshot *pebble.Snapshot
	next     uint64
}

// momentTries is how often a snapshot is taken until nothing was committed
// meanwhile. That takes microseconds, so one or two do even where many commit.
const momentTries = 1000

var errNoMoment = errors.New("so much is being committed that no state can be taken")

// takeMoment takes a snapshot and learns its place in the log.
func takeMoment(db *pebble.DB) (*moment, error) {
	for range momentTries {
		// Commits are shown in the order of their numbers: the snapshot has all
		// that are before the first mark, and none behind the second.
		before, err := mark(db)
		if err != nil {
			return nil, err
		}
		snapshot := db.NewSnapshot()
		after, err := mark(db)
		if err == nil && before == after {
			return &moment{snapshot, after}, nil
		}
		if err := errors.Join(err, snapshot.Close()); err != nil {
			return nil, err
		}
	}
	return nil, errNoMoment
}

// mark returns the number that the next commit gets.
func mark(db *pebble.DB) (uint64, error) {
	batch := db.NewBatch()
	err := batch.LogData(nil, nil)
	if err == nil {
		err = db.Apply(batch, pebble.NoSync)
	}
	next := uint64(batch.SeqNum())
	return next, errors.Join(err, batch.Close())
}

var errBadState = errors.New("the saved state does not match its checksum")

// stateNext returns the number of the first commit that is not in the newest state, 0
// where there is none.
func (j *journal) stateNext() (uint64, error) {
	names, err := j.fs.List(j.dir())
	if err != nil {
		return 0, err
	}
	states := stateNumbers(names)
	if len(states) == 0 {
		return 0, nil
	}
	f, err := j.fs.Open(j.path(stateName(states[0])))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return readStateHead(f)
}

// readStateHead reads what is before the keys of a state.
func readStateHead(r io.Reader) (next uint64, err error) {
	magic := make([]byte, len(stateMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != stateMagic && string(magic) != oldMagic {
		return 0, errors.Join(errBadState, err)
	}
	if string(magic) == oldMagic {
		return 0, nil
	}
	frame, end, err := readFrame(r)
	if err != nil || end || len(frame) != 8 {
		return 0, errors.Join(errBadState, err)
	}
	return binary.LittleEndian.Uint64(frame), nil
}

// readState calls fn for each key of a saved state, which it verifies as it
// goes: nothing counts unless the error is nil. next is the number of the first
// commit that is not in the state, 0 where an older release wrote it.
func readState(disk vfs.FS, path string, fn func(key, value []byte) error) (next uint64, err error) {
	f, err := disk.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 256<<10)
	if next, err = readStateHead(r); err != nil {
		return 0, err
	}
	return next, readKeys(r, fn)
}

func readKeys(r io.Reader, fn func(key, value []byte) error) error {
	keys := uint64(0)
	for {
		frame, end, err := readFrame(r)
		if err != nil {
			return err
		}
		if end {
			if len(frame) != 8 || binary.LittleEndian.Uint64(frame) != keys {
				return errBadState
			}
			return nil
		}
		for len(frame) > 0 {
			key, rest, ok := cutBytes(frame)
			value, rest, ok2 := cutBytes(rest)
			if !ok || !ok2 {
				return errBadState
			}
			if err := fn(key, value); err != nil {
				return err
			}
			keys++
			frame = rest
		}
	}
}

func readFrame(r io.Reader) (frame []byte, end bool, err error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, false, errors.Join(errBadState, err)
	}
	length := binary.LittleEndian.Uint32(head[:])
	if end = length == endFrame; end {
		length = 8
	}
	if length > maxFrame {
		return nil, false, errBadState
	}
	frame = make([]byte, length)
	if _, err := io.ReadFull(r, frame); err != nil || crc32.Checksum(frame, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
		return nil, false, errors.Join(errBadState, err)
	}
	return frame, end, nil
}

func cutBytes(p []byte) (b, rest []byte, ok bool) {
	n, size := binary.Uvarint(p)
	if size <= 0 || n > uint64(len(p)-size) {
		return nil, nil, false
	}
	p = p[size:]
	return p[:n:n], p[n:], true
}

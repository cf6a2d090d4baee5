package pebblekv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A logScan reads the records of one of Pebble's logs, past what is damaged in it:
// Pebble's own reader ends there.
//
// A log is blocks of 32 kB. In them are chunks, none of which crosses the end of a
// block: checksum (4 bytes), length (2), kind (1), number of the log (4), an offset
// up to which at least the log was on disk when the chunk was written (8; marks.go says
// why it may have been more), and a record or a piece of one. Before a new store has reached [formatVersion] its chunks lack the
// offset. A log that was closed ends in a head without anything (11 bytes), which
// names the number of the next log.
type logScan struct {
	data   []byte
	num    uint32
	pos    int
	synced uint64 // up to where it was on disk once, as what was read until now says
	whole  int    // the end of the last chunk that was read
}

const (
	logBlock  = 32 << 10
	shortHead = 11 // without the offset
	longHead  = 19

	chunkFull, chunkFirst, chunkMiddle, chunkLast = 5, 6, 7, 8
	withOffset                                    = 4 // is added to a kind
)

// errTorn says that a log ends in what is no record, as a crash leaves it.
var errTorn = errors.New("the log ends in what is no record")

// logHole is damage in a log, of what was on disk once.
type logHole struct{ from, to int }

func (h *logHole) Error() string {
	return fmt.Sprintf("the bytes from %d to %d do not match their checksums", h.from, h.to)
}

// chunk is a part of a log that matches its checksum.
type chunk struct {
	kind    byte
	trailer bool
	synced  uint64
	data    []byte
	end     int
}

// begins reports whether a record begins here.
func (c *chunk) begins() bool { return !c.trailer && (c.kind == chunkFull || c.kind == chunkFirst) }

// chunkAt returns the chunk at a place, if there is one.
func (s *logScan) chunkAt(pos int) (c chunk, ok bool) {
	end := min(len(s.data), (pos/logBlock+1)*logBlock)
	if pos+shortHead > end {
		return c, false
	}
	head := s.data[pos:end]
	c.kind = head[6]
	length, num := int(binary.LittleEndian.Uint16(head[4:])), binary.LittleEndian.Uint32(head[7:])
	if isTrailer(head[:shortHead], s.num) {
		c.trailer, c.end = true, pos+shortHead
		return c, true
	}
	size := shortHead
	if c.kind > chunkLast {
		c.kind -= withOffset
		size = longHead
	}
	if c.kind < chunkFull || c.kind > chunkLast || num != s.num || size+length > len(head) ||
		binary.LittleEndian.Uint32(head) != maskedSum(head[6:size+length]) {
		return c, false
	}
	if size == longHead {
		c.synced = binary.LittleEndian.Uint64(head[shortHead:])
	}
	c.data = head[size : size+length]
	c.end = pos + size + length
	return c, true
}

// isTrailer reports whether a head is what ends the log with a number.
func isTrailer(head []byte, number uint32) bool {
	return head[6] == chunkFull && binary.LittleEndian.Uint16(head[4:]) == 0 &&
		binary.LittleEndian.Uint32(head[7:]) == number+1 && binary.LittleEndian.Uint32(head) == 0
}

// maskedSum is CRC-32C as LevelDB masks it.
func maskedSum(p []byte) uint32 {
	c := crc32.Checksum(p, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// skipPadding goes to the next block where there is no room for a chunk in this one.
func (s *logScan) skipPadding() {
	end := (s.pos/logBlock + 1) * logBlock
	if end-s.pos < longHead && end <= len(s.data) && allZero(s.data[s.pos:end]) {
		s.pos = end
	}
}

func allZero(p []byte) bool { return len(bytes.TrimLeft(p, "\x00")) == 0 }

// next returns the next record and where it begins. The error is io.EOF at the end,
// errTorn where a crash may have left that, or a *logHole, behind which the scan goes
// on with the next call.
func (s *logScan) next() (rec []byte, off int, err error) {
	first := true
	for {
		s.skipPadding()
		if s.pos >= len(s.data) {
			if first {
				return nil, s.pos, io.EOF
			}
			return nil, off, errTorn
		}
		c, ok := s.chunkAt(s.pos)
		switch {
		case ok && first && c.trailer:
			s.synced = uint64(s.pos)
			s.pos = len(s.data)
			return nil, s.pos, io.EOF
		case ok && first == c.begins() && !c.trailer:
		default:
			return nil, s.pos, s.hole()
		}
		if first {
			off = s.pos
		}
		s.pos, s.whole, s.synced = c.end, c.end, max(s.synced, c.synced)
		if c.kind == chunkFull {
			s.synced = max(s.synced, readMark(c.data, s.num))
			return c.data, off, nil
		}
		rec = append(rec, c.data...)
		if c.kind == chunkLast {
			s.synced = max(s.synced, readMark(rec, s.num))
			return rec, off, nil
		}
		first = false
	}
}

// hole goes behind what is no record. It is damage where something behind it says
// that it was on disk.
func (s *logScan) hole() error {
	from, to, damage := s.pos, -1, false
	for pos := from; pos < len(s.data); {
		if kind := pos + 6; kind < len(s.data) && (s.data[kind] < chunkFull || s.data[kind] > chunkLast+withOffset) {
			pos++ // nothing begins here: most of what is looked at is zeros
			continue
		}
		c, ok := s.chunkAt(pos)
		if !ok {
			pos++
			continue
		}
		damage = damage || c.trailer || c.synced > uint64(from) || c.kind == chunkFull && readMark(c.data, s.num) > uint64(from)
		if to < 0 && (c.begins() || c.trailer) {
			to = pos
		}
		if damage && to >= 0 {
			break
		}
		pos = c.end
	}
	if !damage || to < 0 {
		s.pos = len(s.data)
		if damage {
			return &logHole{from, len(s.data)}
		}
		return errTorn
	}
	s.pos = to
	return &logHole{from, to}
}

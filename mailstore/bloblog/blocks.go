package bloblog

import (
	"encoding/binary"
	"slices"
)

// A blockList has the entries of a content's blocks, as they are in the tail of
// a record with the flag flagZstd, or (packed is false) without it.
type blockList struct {
	packed bool
	raw    []byte
}

// A span is a block as it is in the file, counted from the beginning of the
// content.
type span struct{ begin, end int64 }

func (s span) len() int64 { return s.end - s.begin }

// add appends the entry of a block that is in the file as stored.
func (l *blockList) add(block, stored []byte) {
	if !l.packed {
		l.raw = binary.LittleEndian.AppendUint32(l.raw, sum(stored))
		return
	}
	end := int64(len(stored))
	if n := len(l.raw); n > 0 {
		end += int64(binary.LittleEndian.Uint64(l.raw[n-packedEntry:]))
	}
	ofStored := sum(stored)
	ofBlock := ofStored
	if len(block) != len(stored) {
		ofBlock = sum(block)
	}
	l.raw = binary.LittleEndian.AppendUint64(l.raw, uint64(end))
	l.raw = binary.LittleEndian.AppendUint32(l.raw, ofStored)
	l.raw = binary.LittleEndian.AppendUint32(l.raw, ofBlock)
}

// addAll adds blocks that are not compressed.
func (l *blockList) addAll(content []byte) {
	for block := range slices.Chunk(content, blockSize) {
		l.add(block, block)
	}
}

// pack adds blocks, and appends to dst what of them is to be in the file.
func (l *blockList) pack(z *codec, dst, content []byte) []byte {
	for block := range slices.Chunk(content, blockSize) {
		at := len(dst)
		dst = z.pack(dst, block)
		l.add(block, dst[at:])
	}
	return dst
}

// unpack makes the list one of blocks that are not compressed, which none is.
func (l *blockList) unpack() {
	if !l.packed {
		return
	}
	l.packed = false
	sums := l.raw[:0]
	for rest := l.raw; len(rest) > 0; rest = rest[packedEntry:] {
		sums = binary.LittleEndian.AppendUint32(sums, binary.LittleEndian.Uint32(rest[8:]))
	}
	l.raw = sums
}

// span says where block i is of a content of size bytes; ok is false where the
// list makes no sense there.
func (l *blockList) span(i, size int64) (s span, ok bool) {
	begin := i * blockSize
	length := min(blockSize, size-begin)
	if !l.packed {
		return span{begin, begin + length}, int64(len(l.raw)) >= plainEntry*(i+1) && length > 0
	}
	if int64(len(l.raw)) < packedEntry*(i+1) || length <= 0 {
		return s, false
	}
	if i > 0 {
		s.begin = int64(binary.LittleEndian.Uint64(l.raw[packedEntry*(i-1):]))
	}
	s.end = int64(binary.LittleEndian.Uint64(l.raw[packedEntry*i:]))
	return s, 0 <= s.begin && s.begin < s.end && s.len() <= length
}

// sums returns the checksums of block i, in the file and as it was.
func (l *blockList) sums(i int64) (ofStored, ofBlock uint32) {
	if !l.packed {
		s := binary.LittleEndian.Uint32(l.raw[plainEntry*i:])
		return s, s
	}
	e := l.raw[packedEntry*i:]
	return binary.LittleEndian.Uint32(e[8:]), binary.LittleEndian.Uint32(e[12:])
}

// load reads block i of a content of size bytes into p, which has its length,
// and checks it. read reads from the content as it is in the file.
func (l *blockList) load(z *codec, i, size int64, p []byte, read func(p []byte, pos int64) error) error {
	s, ok := l.span(i, size)
	if !ok {
		return errBadTail
	}
	ofStored, ofBlock := l.sums(i)
	if s.len() == int64(len(p)) {
		if err := read(p, s.begin); err != nil {
			return err
		}
		if sum(p) != ofStored {
			clear(p) // nothing unchecked gets out
			return errBadContent
		}
		return nil
	}
	stored := z.block()
	defer z.blocks.Put(stored)
	q := (*stored)[:s.len()]
	if err := read(q, s.begin); err != nil {
		return err
	}
	if sum(q) != ofStored {
		return errBadContent
	}
	if !z.unpack(p, q) || sum(p) != ofBlock {
		clear(p)
		return errBadContent
	}
	return nil
}

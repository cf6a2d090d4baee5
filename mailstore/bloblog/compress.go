package bloblog

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Compression is what is done to the content of new records. Records that are
// there already stay as they are, and are read whatever is chosen.
type Compression uint8

// The kinds of Compression.
const (
	Uncompressed Compression = iota
	// Zstd compresses what gets smaller by it: blocks of 64 kB, each by itself.
	Zstd
)

// ParseCompression returns the Compression of a name, "none" or "zstd".
func ParseCompression(name string) (Compression, error) {
	switch name {
	case "none":
		return Uncompressed, nil
	case "zstd":
		return Zstd, nil
	}
	return 0, fmt.Errorf("%q is no compression; it can be none or zstd", name)
}

// A codec compresses blocks and makes them again. It is safe for concurrent use.
type codec struct {
	enc    *zstd.Encoder // nil: new content is left as it is
	dec    func() (*zstd.Decoder, error)
	blocks sync.Pool // *[]byte, of blockSize
	rooms  sync.Pool // *[]byte, to pack into
}

func newCodec(c Compression) (*codec, error) {
	z := &codec{dec: sync.OnceValues(func() (*zstd.Decoder, error) {
		// What DecodeAll writes is bounded by the room that it is given.
		return zstd.NewReader(nil, zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(0),
			zstd.WithDecoderMaxWindow(blockSize), zstd.WithDecodeAllCapLimit(true))
	})}
	var err error
	if c == Zstd {
		z.enc, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(blockSize),
			zstd.WithSingleSegment(true), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true),
			zstd.WithAllLitEntropyCompression(true)) // base64 has nothing else to save
	}
	return z, err
}

// block returns room for a block, for z.blocks.
func (z *codec) block() *[]byte {
	if p, ok := z.blocks.Get().(*[]byte); ok {
		return p
	}
	p := make([]byte, blockSize)
	return &p
}

// room returns something to pack into, for z.rooms.
func (z *codec) room() *[]byte {
	if p, ok := z.rooms.Get().(*[]byte); ok {
		return p
	}
	return new([]byte)
}

// packFrom is the length of a blob from which on compressing it is tried.
const packFrom = 128

// A block is left as it is where it would not get smaller by one part in
// worthwhile: what is saved does not pay for reading it.
const worthwhile = 8

// pack appends to dst what block is in the file: compressed, or itself.
func (z *codec) pack(dst, block []byte) []byte {
	if looksPacked(block) {
		return append(dst, block...)
	}
	at := len(dst)
	dst = z.enc.EncodeAll(block, dst)
	if len(dst)-at > len(block)-len(block)/worthwhile-1 {
		return append(dst[:at], block...)
	}
	return dst
}

// unpack fills p with what was packed, and reports whether that is its length.
func (z *codec) unpack(p, packed []byte) bool {
	dec, err := z.dec()
	if err != nil {
		return false
	}
	got, err := dec.DecodeAll(packed, p[:0:len(p)])
	return err == nil && len(got) == len(p)
}

// looksPacked reports whether the bytes are as evenly spread as those of
// compressed or encrypted content, of which nothing can be saved. Text has a few
// dozen of the 256 bytes, base64 has 64. It looks at 1 kB; a few bytes say nothing.
func looksPacked(p []byte) bool {
	const runs, run = 16, 64
	if len(p) < 4*run {
		return false
	}
	var count [256]uint16
	n := 0
	for i := range runs {
		from := i * (len(p) - run) / (runs - 1)
		if len(p) <= runs*run {
			from = i * run
		}
		for _, c := range p[min(from, len(p)):min(from+run, len(p))] {
			count[c]++
			n++
		}
	}
	// Of even content the squares come to n*n/256+n, of base64 to n*n/64+n.
	squares := 0
	for _, c := range count {
		squares += int(c) * int(c)
	}
	return squares < n*n/128+n
}

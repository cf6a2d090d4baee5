package bloblog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/rookery-mail/rookery/mailstore/driver"
)

// The format on disk. All numbers are little endian; checksums are CRC-32C.
//
// A segment is a header, records, and, once it is sealed, a footer. Records
// begin at multiples of 8:
//
//	header   56 bytes, see recordHeader
//	content  stored bytes
//	tail     meta, then an entry for every 64 kB of content
//	padding  to a multiple of 8
//
// Content is compressed in blocks of 64 kB, each by itself, so that any part of
// it is read without the rest. An entry is the checksum of the block (4 bytes).
// In a record with compressed blocks it has 16 bytes: where the block ends in
// the file, counted from the beginning of the content (8 bytes), the checksum of
// what is in the file, and that of the block as it was. A block that has its own
// length in the file is not compressed.
//
// A rider (ride.go) is a record of the same form: its content is somebody else's, and its
// meta (8 bytes) the place in the file where the records begin that it came with. It
// has no account, and is in no index.
//
// A record's header checksum covers the segment's random salt and the record's
// place. So nothing that a sender put into a message can pass for a record,
// however a crash has cut the file.
const (
	segmentMagic  = "RkBlobs\x01"
	segmentHeader = 32
	recordMagic   = 0x31726b52 // "Rkr1"
	recordHeadLen = 56
	entryLen      = 24
	trailerMagic  = "RkIndex\x01"
	trailerLen    = 32
	blockSize     = 64 << 10
	maxMeta       = 4 << 10
	alignment     = 8
)

// Record flags. The low two bits name a compression of the content; flagRider says that
// the record is no message (ride.go). A reader refuses what it does not know.
const (
	flagZstd   = 1
	flagRider  = 4
	flagsKnown = flagZstd | flagRider
)

// Lengths of an entry in a record's tail.
const (
	plainEntry  = 4
	packedEntry = 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

var (
	errBadHeader  = errors.New("not a segment, or its header is damaged")
	errBadRecord  = errors.New("the record's header does not match its checksum")
	errBadContent = errors.New("the content does not match its checksum")
	errBadTail    = errors.New("the record's tail does not match its checksum")
	errBadFooter  = errors.New("the segment's index does not match its checksum")
	errNewer      = errors.New("written by a newer release: update the server")
)

func encodeSegmentHeader(id uint32, salt uint64) []byte {
	p := make([]byte, segmentHeader)
	copy(p, segmentMagic)
	binary.LittleEndian.PutUint32(p[8:], id)
	binary.LittleEndian.PutUint64(p[16:], salt)
	binary.LittleEndian.PutUint32(p[28:], sum(p[:28]))
	return p
}

func decodeSegmentHeader(p []byte, id uint32) (salt uint64, err error) {
	if len(p) < segmentHeader || binary.LittleEndian.Uint32(p[28:]) != sum(p[:28]) {
		return 0, errBadHeader
	}
	if string(p[:8]) != segmentMagic {
		return 0, errNewer
	}
	if binary.LittleEndian.Uint32(p[8:]) != id {
		return 0, errBadHeader
	}
	return binary.LittleEndian.Uint64(p[16:]), nil
}

// A place is where a record lies. The place where a blob is first written is
// its Ref; it keeps the Ref when it moves.
type place struct {
	segment uint32
	off     uint32 // in units of alignment: a segment may have 32 GB
}

func (p place) ref() driver.Ref { return driver.Ref(p.segment)<<32 | driver.Ref(p.off) }
func (p place) pos() int64      { return int64(p.off) * alignment }

func placeOf(ref driver.Ref) place { return place{uint32(ref >> 32), uint32(ref)} }

func placeAt(segment uint32, pos int64) place { return place{segment, uint32(pos / alignment)} }

func align(n int64) int64 { return (n + alignment - 1) &^ (alignment - 1) }

type recordHeader struct {
	flags   uint16
	account driver.Account
	ref     driver.Ref
	size    int64 // bytes of content as the user sees it
	stored  int64 // bytes of content in the file
	meta    uint32
	tailSum uint32
}

// blocks is how many blocks a content of size bytes has.
func blocks(size int64) int64 { return (size + blockSize - 1) / blockSize }

func (h *recordHeader) entryLen() int64 {
	if h.flags&flagZstd != 0 {
		return packedEntry
	}
	return plainEntry
}

func (h *recordHeader) tailLen() int64 { return int64(h.meta) + h.entryLen()*blocks(h.size) }

// sane reports whether the lengths can be true, so that sums of them are.
func (h *recordHeader) sane() bool {
	const most = 1 << 50
	return h.size >= 0 && h.size <= most && h.stored >= 0 && h.stored <= h.size && h.meta <= maxMeta
}

// length is what the record takes in the file.
func (h *recordHeader) length() int64 { return align(recordHeadLen + h.stored + h.tailLen()) }

func (h *recordHeader) encode(p []byte, salt uint64, at place) {
	binary.LittleEndian.PutUint32(p[0:], recordMagic)
	binary.LittleEndian.PutUint16(p[4:], h.flags)
	binary.LittleEndian.PutUint16(p[6:], 0)
	binary.LittleEndian.PutUint64(p[8:], uint64(h.account))
	binary.LittleEndian.PutUint64(p[16:], uint64(h.ref))
	binary.LittleEndian.PutUint64(p[24:], uint64(h.size))
	binary.LittleEndian.PutUint64(p[32:], uint64(h.stored))
	binary.LittleEndian.PutUint32(p[40:], h.meta)
	binary.LittleEndian.PutUint32(p[44:], h.tailSum)
	binary.LittleEndian.PutUint32(p[48:], headerSum(p, salt, at))
	binary.LittleEndian.PutUint32(p[52:], 0)
}

func headerSum(p []byte, salt uint64, at place) uint32 {
	var seed [16]byte
	binary.LittleEndian.PutUint64(seed[0:], salt)
	binary.LittleEndian.PutUint64(seed[8:], uint64(at.ref()))
	return crc32.Update(sum(seed[:]), castagnoli, p[:48])
}

func decodeRecordHeader(p []byte, salt uint64, at place) (h recordHeader, err error) {
	if len(p) < recordHeadLen || binary.LittleEndian.Uint32(p) != recordMagic ||
		binary.LittleEndian.Uint32(p[48:]) != headerSum(p, salt, at) {
		return h, errBadRecord
	}
	h = recordHeader{
		flags:   binary.LittleEndian.Uint16(p[4:]),
		account: driver.Account(binary.LittleEndian.Uint64(p[8:])),
		ref:     driver.Ref(binary.LittleEndian.Uint64(p[16:])),
		size:    int64(binary.LittleEndian.Uint64(p[24:])),
		stored:  int64(binary.LittleEndian.Uint64(p[32:])),
		meta:    binary.LittleEndian.Uint32(p[40:]),
		tailSum: binary.LittleEndian.Uint32(p[44:]),
	}
	switch {
	case !h.sane():
		return h, errBadRecord
	case h.flags&^flagsKnown != 0:
		return h, errNewer
	case h.flags&flagZstd == 0 && h.stored != h.size:
		return h, errBadRecord
	}
	return h, nil
}

// An entry is one record in a segment's index: enough to find an account's
// records and to know what a segment wastes without reading the records.
type entry struct {
	account driver.Account
	ref     driver.Ref
	off     uint32 // in units of alignment
	length  uint32 // likewise
}

func (e entry) bytes() int64 { return int64(e.length) * alignment }

func appendEntry(p []byte, e entry) []byte {
	p = binary.LittleEndian.AppendUint64(p, uint64(e.account))
	p = binary.LittleEndian.AppendUint64(p, uint64(e.ref))
	p = binary.LittleEndian.AppendUint32(p, e.off)
	return binary.LittleEndian.AppendUint32(p, e.length)
}

func decodeEntry(p []byte) entry {
	return entry{
		account: driver.Account(binary.LittleEndian.Uint64(p)),
		ref:     driver.Ref(binary.LittleEndian.Uint64(p[8:])),
		off:     binary.LittleEndian.Uint32(p[16:]),
		length:  binary.LittleEndian.Uint32(p[20:]),
	}
}

// encodeFooter gives the index of a sealed segment: entries sorted by account
// and place, and a trailer that ends the file.
func encodeFooter(entries []entry) []byte {
	p := make([]byte, 0, len(entries)*entryLen+trailerLen)
	for _, e := range entries {
		p = appendEntry(p, e)
	}
	body := sum(p)
	at := len(p)
	p = append(p, trailerMagic...)
	p = binary.LittleEndian.AppendUint32(p, uint32(len(entries)))
	p = binary.LittleEndian.AppendUint32(p, body)
	p = append(p, make([]byte, 12)...)
	return binary.LittleEndian.AppendUint32(p, sum(p[at:]))
}

// decodeTrailer gives the number of entries and their checksum.
func decodeTrailer(p []byte) (n int, body uint32, err error) {
	if len(p) != trailerLen || binary.LittleEndian.Uint32(p[28:]) != sum(p[:28]) || string(p[:8]) != trailerMagic {
		return 0, 0, errBadFooter
	}
	return int(binary.LittleEndian.Uint32(p[8:])), binary.LittleEndian.Uint32(p[12:]), nil
}

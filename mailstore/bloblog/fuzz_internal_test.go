package bloblog

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// FuzzRecord gives the parser records whose checksums are right, and whatever is
// in them: lengths that cannot be, lists of blocks that contradict each other,
// content that inflates to more than it says. A reader gets what the header says
// it gets, or an error, and never more memory than a block.
func FuzzRecord(f *testing.F) {
	text := bytes.Repeat([]byte("a line of text that is there often\r\n"), 4000)
	for _, c := range []struct {
		compress Compression
		content  []byte
	}{{Uncompressed, nil}, {Uncompressed, text[:500]}, {Zstd, text[:500]}, {Zstd, text}, {Zstd, append(text[:70_000:70_000], 1, 2, 3)}} {
		z, err := newCodec(c.compress)
		if err != nil {
			f.Fatal(err)
		}
		w := &writer{account: 1, length: int64(len(c.content))}
		w.list.packed = c.compress == Zstd
		var rec []byte
		if w.list.packed {
			rec = w.list.pack(z, make([]byte, recordHeadLen), c.content)
		} else {
			w.list.addAll(c.content)
			rec = append(make([]byte, recordHeadLen), c.content...)
		}
		w.stored = int64(len(rec) - recordHeadLen)
		h, tail := w.header([]byte("meta"))
		h.encode(rec, fuzzSalt, fuzzPlace)
		f.Add(appendPadded(append(rec, tail...)))
	}
	huge := make([]byte, recordHeadLen+8)
	(&recordHeader{account: 1, size: 1 << 49, stored: 1 << 49}).encode(huge, fuzzSalt, fuzzPlace)
	f.Add(huge)
	f.Fuzz(func(t *testing.T, rec []byte) { readForged(t, rec) })
}

const fuzzSalt = 42

var fuzzPlace = placeAt(1, segmentHeader)

// readForged puts rec into a segment as its first record, with the checksums that
// it must have, and reads all that is there.
func readForged(t *testing.T, rec []byte) {
	if len(rec) >= recordHeadLen {
		binary.LittleEndian.PutUint32(rec, recordMagic)
		h := recordHeader{
			flags:  binary.LittleEndian.Uint16(rec[4:]),
			size:   int64(binary.LittleEndian.Uint64(rec[24:])),
			stored: int64(binary.LittleEndian.Uint64(rec[32:])),
			meta:   binary.LittleEndian.Uint32(rec[40:]),
		}
		binary.LittleEndian.PutUint64(rec[16:], uint64(fuzzPlace.ref()))
		if h.sane() {
			forgeSums(rec, h)
		}
		binary.LittleEndian.PutUint32(rec[48:], headerSum(rec, fuzzSalt, fuzzPlace))
	}
	fs := vfs.NewMem()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(fs.MkdirAll("blobs", 0o700))
	file, err := fs.Create("blobs/00000001.log", "test")
	must(err)
	_, err = file.Write(append(encodeSegmentHeader(1, fuzzSalt), rec...))
	must(err)
	must(file.Close())
	s, err := Open("blobs", Options{FS: fs, Manual: true, Logger: slog.New(slog.DiscardHandler)})
	must(err)
	defer s.Close()
	ctx := context.Background()
	if err := s.Verify(ctx, true, func(Damage) {}); imap.KindOf(err) != imap.ContactAdmin { // of a newer release
		must(err)
	}
	account := driver.Account(0)
	if len(rec) >= 16 {
		account = driver.Account(binary.LittleEndian.Uint64(rec[8:]))
	}
	b, err := s.Open(ctx, account, fuzzPlace.ref())
	if err != nil {
		return
	}
	defer b.Close()
	n, err := io.Copy(io.Discard, io.NewSectionReader(b, 0, b.Size()))
	if err == nil && n != b.Size() {
		t.Errorf("%d bytes of %d were read without an error", n, b.Size())
	}
}

// forgeSums makes the checksums of a record right where it has room for them.
func forgeSums(rec []byte, h recordHeader) {
	tail := recordHeadLen + h.stored
	if tail > int64(len(rec)) || h.tailLen() > int64(len(rec))-tail {
		return
	}
	list := blockList{h.flags&flagZstd != 0, rec[tail+int64(h.meta) : tail+h.tailLen()]}
	for i := range blocks(h.size) {
		s, ok := list.span(i, h.size)
		if !ok || s.end > h.stored {
			break
		}
		at := i * h.entryLen()
		if list.packed {
			at += 8
		}
		stored := rec[recordHeadLen:][s.begin:s.end]
		binary.LittleEndian.PutUint32(list.raw[at:], sum(stored))
		if list.packed && s.len() < min(blockSize, h.size-i*blockSize) {
			z, _ := newCodec(Uncompressed)
			p := make([]byte, min(blockSize, h.size-i*blockSize))
			if z.unpack(p, stored) {
				binary.LittleEndian.PutUint32(list.raw[at+4:], sum(p))
			}
		}
	}
	binary.LittleEndian.PutUint32(rec[44:], sum(rec[tail:tail+h.tailLen()]))
}

// TestInflatedBeyondItsSize: what compressed content says of its own size counts
// for nothing.
func TestInflatedBeyondItsSize(t *testing.T) {
	z, err := newCodec(Zstd)
	if err != nil {
		t.Fatal(err)
	}
	bomb := z.enc.EncodeAll(make([]byte, 50<<20), nil)
	if len(bomb) > blockSize {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	p := make([]byte, 1000)
	if allocs := testing.AllocsPerRun(3, func() {
		if z.unpack(p, bomb) {
			t.Error("50 MB fit into 1,000 bytes")
		}
	}); allocs > 100 {
		t.Errorf("%g allocations", allocs)
	}
	for _, n := range []int{999, 1001} {
		if z.unpack(p, z.enc.EncodeAll(make([]byte, n), nil)) {
			t.Errorf("%d bytes are taken for 1,000", n)
		}
	}
}

func TestLooksPacked(t *testing.T) {
	z, err := newCodec(Zstd)
	if err != nil {
		t.Fatal(err)
	}
	text := bytes.Repeat([]byte("SGVsbG8sIHdvcmxkIQ0KVGhpcyBpcyBiYXNlNjQ=\r\n"), 2000)
	for n := 1; n < 3000; n++ {
		if looksPacked(text[n : 2*n]) {
			t.Fatalf("%d bytes of base64 look compressed", n)
		}
	}
	packed := z.enc.EncodeAll([]byte(noiseText()), nil)
	for n := 300; n < len(packed); n += 50 {
		if !looksPacked(packed[:n]) {
			t.Fatalf("%d bytes of compressed text do not look so", n)
		}
	}
}

// noiseText makes text that compresses to something of some length.
func noiseText() string {
	var b bytes.Buffer
	x := uint32(1)
	for b.Len() < 20_000 {
		x = x*1664525 + 1013904223
		b.WriteByte('a' + byte(x>>27))
	}
	return b.String()
}

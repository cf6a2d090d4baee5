package textindex

import (
	"encoding/binary"
	"math/bits"
)

// A list of documents is written as the gaps between them in a Golomb-Rice
// code: what a gap has above its lowest k bits in unary, then these bits. With k
// chosen by the mean gap this needs within some percent of what is possible for
// documents that lie at random, from lists of one document to lists of half of
// them, where it is a bit each as in a bitmap. Of a longer list the documents
// that are not in it are written. All follows from the list's length and the
// segment's span, so that nothing says which form was chosen.

// riceBits returns k for n of span numbers.
func riceBits(n, span int) uint {
	if n == 0 {
		return 0
	}
	// One bit more pays from 0.69 of the mean gap on.
	if x := uint(span * 11 / (n * 16)); x > 0 {
		return uint(bits.Len(x)) - 1
	}
	return 0
}

// inverted reports whether the list has the numbers that are not in it.
func inverted(n, span int) bool { return n > span/2 }

// appendList writes the documents of a list, which ascend and are below span.
func appendList(dst []byte, docs []uint32, span int) []byte {
	w := bitWriter{dst: dst}
	if !inverted(len(docs), span) {
		k := riceBits(len(docs), span)
		next := uint32(0)
		for _, d := range docs {
			w.gap(d-next, k)
			next = d + 1
		}
		return w.end()
	}
	k := riceBits(span-len(docs), span)
	next, gone := uint32(0), uint32(0)
	for _, d := range docs {
		for ; gone < d; gone++ {
			w.gap(gone-next, k)
			next = gone + 1
		}
		gone = d + 1
	}
	for ; gone < uint32(span); gone++ {
		w.gap(gone-next, k)
		next = gone + 1
	}
	return w.end()
}

// readList appends the n documents of a list to docs.
func readList(docs []uint32, data []byte, n, span int) ([]uint32, error) {
	r := bitReader{data: data}
	if !inverted(n, span) {
		k := riceBits(n, span)
		next := uint64(0)
		for range n {
			next += uint64(r.gap(k)) + 1
			if next > uint64(span) {
				return docs, ErrDamaged
			}
			docs = append(docs, uint32(next-1))
		}
		return docs, r.err()
	}
	n = span - n
	k := riceBits(n, span)
	next := uint64(0)
	for range n {
		from := next
		next += uint64(r.gap(k)) + 1
		if next > uint64(span) {
			return docs, ErrDamaged
		}
		for d := from; d < next-1; d++ {
			docs = append(docs, uint32(d))
		}
	}
	for ; next < uint64(span); next++ {
		docs = append(docs, uint32(next))
	}
	return docs, r.err()
}

// bitWriter writes bits, the lowest of each byte first.
type bitWriter struct {
	dst  []byte
	acc  uint64
	have uint // bits in acc, fewer than 32
}

func (w *bitWriter) gap(gap uint32, k uint) {
	for q := gap >> k; ; q -= 32 {
		if q < 32 {
			w.put(1<<q, uint(q)+1)
			break
		}
		w.put(0, 32)
	}
	w.put(uint64(gap)&(1<<k-1), k)
}

// put writes up to 32 bits.
func (w *bitWriter) put(v uint64, n uint) {
	w.acc |= v << w.have
	w.have += n
	if w.have >= 32 {
		w.dst = binary.LittleEndian.AppendUint32(w.dst, uint32(w.acc))
		w.acc >>= 32
		w.have -= 32
	}
}

func (w *bitWriter) end() []byte {
	for w.have > 0 {
		w.dst = append(w.dst, byte(w.acc))
		w.acc >>= 8
		w.have -= min(w.have, 8)
	}
	return w.dst
}

// bitReader reads what a bitWriter has written. Behind the end it reads zeros,
// and err tells.
type bitReader struct {
	data []byte
	acc  uint64
	have uint
	over bool
}

func (r *bitReader) fill() {
	if len(r.data) >= 8 {
		// As many whole bytes as fit; what is read twice is the same.
		r.acc |= binary.LittleEndian.Uint64(r.data) << r.have
		n := (63 - r.have) / 8
		r.data = r.data[n:]
		r.have += n * 8
		return
	}
	for r.have <= 56 && len(r.data) > 0 {
		r.acc |= uint64(r.data[0]) << r.have
		r.data = r.data[1:]
		r.have += 8
	}
}

func (r *bitReader) gap(k uint) uint32 {
	q := uint32(0)
	for {
		if r.have < 32 {
			r.fill()
		}
		// Above have, acc may hold bits that fill reads again.
		zeros := uint(bits.TrailingZeros64(r.acc))
		if zeros < r.have {
			q += uint32(zeros)
			r.acc >>= zeros + 1
			r.have -= zeros + 1
			break
		}
		if r.have == 0 || q > MaxSpan {
			r.over = true
			return 0
		}
		q += uint32(r.have)
		r.acc >>= r.have
		r.have = 0
	}
	if r.have < k {
		r.fill()
		if r.have < k {
			r.over = true
			return 0
		}
	}
	v := uint32(r.acc) & (1<<k - 1)
	r.acc >>= k
	r.have -= k
	return q<<k | v
}

func (r *bitReader) err() error {
	if r.over {
		return ErrDamaged
	}
	return nil
}

package inflate

// Blocks with codes of their own, and the codes.

// order is that in which the lengths of the code for code lengths come (RFC
// 1951 section 3.2.7).
var order = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// fixedCodes sets the codes of section 3.2.6.
func (r *Reader) fixedCodes() {
	if r.fixed {
		return
	}
	var lengths [288]uint8
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		default:
			lengths[i] = 8
		}
	}
	r.lit.build(lengths[:])
	for i := range 32 {
		lengths[i] = 5
	}
	r.dist.build(lengths[:32]) // the last two stand for nothing
	r.fixed = true
}

// tableSizes begins a block with codes of its own (section 3.2.7).
func (r *Reader) tableSizes() bool {
	if !r.need(14) {
		return false
	}
	r.nlit, r.ndist, r.ncode = r.take(5)+257, r.take(5)+1, r.take(4)+4
	if r.nlit > 286 || r.ndist > 30 {
		return r.corrupt()
	}
	r.seen, r.fixed = 0, false
	clear(r.lengths[:])
	r.step = (*Reader).codeLengths
	return true
}

// codeLengths reads the lengths of the code that the other lengths come in.
func (r *Reader) codeLengths() bool {
	for ; r.seen < r.ncode; r.seen++ {
		if !r.need(3) {
			return false
		}
		r.lengths[order[r.seen]] = uint8(r.take(3))
	}
	if !r.codes.build(r.lengths[:19]) {
		return r.corrupt()
	}
	clear(r.lengths[:19])
	r.seen, r.step = 0, (*Reader).tables
	return true
}

// tables reads the lengths of the codes for literals and distances.
func (r *Reader) tables() bool {
	for r.seen < r.nlit+r.ndist {
		r.need(14)
		sym, n := r.codes.decode(r.bits, r.nbits)
		switch {
		case n == 0:
			return false
		case sym < 0:
			return r.corrupt()
		case sym < 16:
			r.take(n)
			r.lengths[r.seen] = uint8(sym)
			r.seen++
			continue
		}
		repeat, extra, value := 3, uint(2), uint8(0)
		switch sym {
		case 16:
			if r.seen == 0 {
				return r.corrupt()
			}
			value = r.lengths[r.seen-1]
		case 17:
			extra = 3
		case 18:
			repeat, extra = 11, 7
		}
		if n+extra > r.nbits {
			return false
		}
		r.take(n)
		repeat += r.take(extra)
		if r.seen+repeat > r.nlit+r.ndist {
			return r.corrupt()
		}
		for ; repeat > 0; repeat-- {
			r.lengths[r.seen] = value
			r.seen++
		}
	}
	if r.lengths[256] == 0 || !r.lit.build(r.lengths[:r.nlit]) || !r.dist.build(r.lengths[r.nlit:r.nlit+r.ndist]) {
		return r.corrupt()
	}
	r.step = (*Reader).symbol
	return true
}

const (
	maxBits  = 15
	fastBits = 9
)

// huffman is one canonical code (section 3.2.2).
type huffman struct {
	fast    [1 << fastBits]uint16 // symbol<<4 | length by the next bits; 0 where the code is longer
	count   [maxBits + 1]uint16   // how many codes have each length
	symbols [288]uint16           // in the order of their codes
}

// build makes the code with the given lengths. It reports false where they make
// none: more codes than there is room for, or room left over, except that of a
// code with a single symbol (or none), which zlib writes where a block has no
// or one distance only.
func (h *huffman) build(lengths []uint8) bool {
	h.count = [maxBits + 1]uint16{}
	for _, n := range lengths {
		h.count[n]++
	}
	h.count[0] = 0
	var next, code [maxBits + 2]uint16 // index in symbols, code of each length
	left, longest := 1, 0
	for n := 1; n <= maxBits; n++ {
		left = left<<1 - int(h.count[n])
		if left < 0 {
			return false
		}
		if h.count[n] > 0 {
			longest = n
		}
		next[n+1] = next[n] + h.count[n]
		code[n+1] = (code[n] + h.count[n]) << 1
	}
	if left > 0 && longest > 1 {
		return false
	}
	clear(h.fast[:])
	for sym, n := range lengths {
		if n == 0 {
			continue
		}
		h.symbols[next[n]] = uint16(sym)
		next[n]++
		if n <= fastBits {
			// Codes are sent with their first bit lowest.
			for i := reverse(code[n], n); i < len(h.fast); i += 1 << n {
				h.fast[i] = uint16(sym)<<4 | uint16(n)
			}
		}
		code[n]++
	}
	return true
}

func reverse(code uint16, n uint8) int {
	v := 0
	for range n {
		v = v<<1 | int(code&1)
		code >>= 1
	}
	return v
}

// decode finds the symbol that the lowest of nbits bits begin with, and its
// length. 0 means that bits are missing, symbol -1 that there is no such code.
func (h *huffman) decode(bits uint64, nbits uint) (symbol int, length uint) {
	if e := h.fast[bits&(1<<fastBits-1)]; e != 0 {
		if n := uint(e & 15); n <= nbits {
			return int(e >> 4), n
		}
		return 0, 0
	}
	code, first, index := 0, 0, 0
	for n := uint(1); n <= maxBits; n++ {
		if n > nbits {
			return 0, 0
		}
		code |= int(bits & 1)
		bits >>= 1
		count := int(h.count[n])
		if code-first < count {
			return int(h.symbols[index+code-first]), n
		}
		index += count
		first = (first + count) << 1
		code <<= 1
	}
	return -1, maxBits
}

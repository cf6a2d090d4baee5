package imap

import (
	"errors"
	"iter"
	"math"
	"slices"
	"strconv"
)

// Range is a run of numbers, both ends included, Start <= Stop, no zero.
type Range[N ~uint32] struct{ Start, Stop N }

// Len returns how many numbers the range has.
func (r Range[N]) Len() uint64 { return uint64(r.Stop) - uint64(r.Start) + 1 }

// Set is a set of numbers greater than zero, kept as sorted ranges that
// neither overlap nor touch. The zero value is the empty set. Adding in
// ascending order costs constant time; Contains a binary search.
//
// A copy of a Set shares its memory until one of them is changed: use
// [Set.Clone] before changing a copy.
type Set[N ~uint32] struct{ ranges []Range[N] }

// UIDSet is a set of UIDs.
type UIDSet = Set[UID]

// SeqSet is a set of sequence numbers.
type SeqSet = Set[SeqNum]

// UIDRange is a run of UIDs.
type UIDRange = Range[UID]

// UIDSetOf returns the set of the given UIDs, in any order. Zeros are left out.
func UIDSetOf(uids ...UID) UIDSet { return setOf(uids) }

// SeqSetOf returns the set of the given numbers, in any order.
func SeqSetOf(nums ...SeqNum) SeqSet { return setOf(nums) }

func setOf[N ~uint32](nums []N) Set[N] {
	var s Set[N]
	if slices.IsSorted(nums) {
		for _, n := range nums {
			s.Add(n)
		}
		return s
	}
	ranges := make([]Range[N], 0, len(nums))
	for _, n := range nums {
		if n != 0 {
			ranges = append(ranges, Range[N]{n, n})
		}
	}
	return Set[N]{normalise(ranges)}
}

// UIDSetOfRange returns the set of first to last, both included.
func UIDSetOfRange(first, last UID) UIDSet {
	var s UIDSet
	s.AddRange(first, last)
	return s
}

// ParseUIDSet parses the uid-set of RFC 4315 section 4: numbers and ranges,
// without "*".
func ParseUIDSet(s string) (UIDSet, error) {
	set, err := ParseNumSet(s)
	if err != nil {
		return UIDSet{}, err
	}
	if set.HasStar() {
		return UIDSet{}, errors.New(`"*" is not allowed in this set`)
	}
	return set.Resolve(0), nil
}

// normalise sorts and joins ranges in place.
func normalise[N ~uint32](ranges []Range[N]) []Range[N] {
	byStart := func(a, b Range[N]) int {
		if a.Start < b.Start {
			return -1
		} else if a.Start > b.Start {
			return 1
		}
		return 0
	}
	if !slices.IsSortedFunc(ranges, byStart) {
		slices.SortFunc(ranges, byStart)
	}
	out := ranges[:0]
	for _, r := range ranges {
		out = appendRange(out, r)
	}
	return out
}

// appendRange appends r, which must not start before the last range does.
func appendRange[N ~uint32](ranges []Range[N], r Range[N]) []Range[N] {
	if n := len(ranges); n > 0 {
		if last := &ranges[n-1]; last.Stop == math.MaxUint32 || r.Start <= last.Stop+1 {
			last.Stop = max(last.Stop, r.Stop)
			return ranges
		}
	}
	return append(ranges, r)
}

// Add adds one number; zero is ignored.
func (s *Set[N]) Add(n N) { s.AddRange(n, n) }

// AddRange adds first to last, both included and in either order. Zero is no
// number: a range that has it begins at 1, and 0 to 0 adds nothing.
func (s *Set[N]) AddRange(first, last N) {
	if first > last {
		first, last = last, first
	}
	if last == 0 {
		return
	}
	r := Range[N]{max(first, 1), last}
	if n := len(s.ranges); n == 0 || r.Start >= s.ranges[n-1].Start {
		s.ranges = appendRange(s.ranges, r)
		return
	}
	// lo is the first range that r touches or precedes, hi the first beyond it.
	lo := s.search(r.Start)
	if lo > 0 && s.ranges[lo-1].Stop+1 == r.Start {
		lo--
	}
	hi := lo
	for hi < len(s.ranges) && (r.Stop == math.MaxUint32 || s.ranges[hi].Start <= r.Stop+1) {
		r.Start = min(r.Start, s.ranges[hi].Start)
		r.Stop = max(r.Stop, s.ranges[hi].Stop)
		hi++
	}
	s.ranges = slices.Replace(s.ranges, lo, hi, r)
}

// search returns the index of the first range that ends at n or beyond.
func (s Set[N]) search(n N) int {
	lo, hi := 0, len(s.ranges)
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); s.ranges[mid].Stop < n {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// Contains reports whether n is in the set.
func (s Set[N]) Contains(n N) bool {
	i := s.search(n)
	return i < len(s.ranges) && s.ranges[i].Start <= n && n != 0
}

// Len returns how many numbers the set has.
func (s Set[N]) Len() uint64 {
	var n uint64
	for _, r := range s.ranges {
		n += r.Len()
	}
	return n
}

// IsEmpty reports whether the set has no number.
func (s Set[N]) IsEmpty() bool { return len(s.ranges) == 0 }

// Min returns the least number, zero for the empty set.
func (s Set[N]) Min() N {
	if len(s.ranges) == 0 {
		return 0
	}
	return s.ranges[0].Start
}

// Max returns the greatest number, zero for the empty set.
func (s Set[N]) Max() N {
	if len(s.ranges) == 0 {
		return 0
	}
	return s.ranges[len(s.ranges)-1].Stop
}

// Ranges returns the ranges in ascending order. The slice belongs to the set:
// it must not be changed, and holds only until the set is.
func (s Set[N]) Ranges() []Range[N] { return s.ranges }

// All iterates over the numbers in ascending order. The set may be as large as
// 4294967295 numbers: prefer [Set.Ranges] where a client gave it.
func (s Set[N]) All() iter.Seq[N] {
	return func(yield func(N) bool) {
		for _, r := range s.ranges {
			for n := r.Start; ; n++ {
				if !yield(n) {
					return
				}
				if n == r.Stop {
					break
				}
			}
		}
	}
}

// Clone returns a copy that shares nothing with s.
func (s Set[N]) Clone() Set[N] { return Set[N]{slices.Clone(s.ranges)} }

// Clear empties the set and keeps its memory for what is added next.
func (s *Set[N]) Clear() { s.ranges = s.ranges[:0] }

// Equal reports whether both sets have the same numbers.
func (s Set[N]) Equal(t Set[N]) bool { return slices.Equal(s.ranges, t.ranges) }

// Union returns the numbers that are in s or in t.
func (s Set[N]) Union(t Set[N]) Set[N] {
	out := make([]Range[N], 0, len(s.ranges)+len(t.ranges))
	a, b := s.ranges, t.ranges
	for len(a) > 0 || len(b) > 0 {
		if len(b) == 0 || len(a) > 0 && a[0].Start <= b[0].Start {
			out, a = appendRange(out, a[0]), a[1:]
		} else {
			out, b = appendRange(out, b[0]), b[1:]
		}
	}
	return Set[N]{out}
}

// Intersect returns the numbers that are in both s and t.
func (s Set[N]) Intersect(t Set[N]) Set[N] {
	var out []Range[N]
	a, b := s.ranges, t.ranges
	for len(a) > 0 && len(b) > 0 {
		if lo, hi := max(a[0].Start, b[0].Start), min(a[0].Stop, b[0].Stop); lo <= hi {
			out = append(out, Range[N]{lo, hi})
		}
		if a[0].Stop < b[0].Stop {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return Set[N]{out}
}

// Subtract returns the numbers of s that are not in t.
func (s Set[N]) Subtract(t Set[N]) Set[N] {
	var out []Range[N]
	b := t.ranges
	for _, r := range s.ranges {
		for len(b) > 0 && b[0].Stop < r.Start {
			b = b[1:]
		}
		gone := false // whether nothing of r is left
		for _, cut := range b {
			if cut.Start > r.Stop {
				break
			}
			if cut.Start > r.Start {
				out = append(out, Range[N]{r.Start, cut.Start - 1})
			}
			if cut.Stop >= r.Stop {
				gone = true
				break
			}
			r.Start = cut.Stop + 1
		}
		if !gone {
			out = append(out, r)
		}
	}
	return Set[N]{out}
}

// AppendWire appends the wire form: "1,5:7". The empty set has none, and
// nothing is appended.
func (s Set[N]) AppendWire(dst []byte) []byte {
	for i, r := range s.ranges {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = r.AppendWire(dst)
	}
	return dst
}

// AppendWire appends "5" or "5:7".
func (r Range[N]) AppendWire(dst []byte) []byte {
	dst = strconv.AppendUint(dst, uint64(r.Start), 10)
	if r.Stop != r.Start {
		dst = append(dst, ':')
		dst = strconv.AppendUint(dst, uint64(r.Stop), 10)
	}
	return dst
}

// String returns the wire form.
func (s Set[N]) String() string { return string(s.AppendWire(nil)) }

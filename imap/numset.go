package imap

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// NumRange is one element of a sequence-set as a client wrote it. Zero stands
// for "*", the greatest number in use. A single number has Start == Stop.
type NumRange struct{ Start, Stop uint32 }

// NumSet is a sequence-set of RFC 9051 section 9 as it was written: neither
// sorted nor joined, with "*" unresolved. Use [NumSet.Resolve] to work on it.
type NumSet []NumRange

// ParseNumSet parses the wire form: "1,5:7,9:*". It refuses "$".
func ParseNumSet(s string) (NumSet, error) {
	if s == "" {
		return nil, errors.New("empty number set")
	}
	set := make(NumSet, 0, strings.Count(s, ",")+1)
	for item := range strings.SplitSeq(s, ",") {
		first, second, isRange := strings.Cut(item, ":")
		start, err := parseSetNumber(first)
		if err != nil {
			return nil, err
		}
		stop := start
		if isRange {
			if stop, err = parseSetNumber(second); err != nil {
				return nil, err
			}
		}
		set = append(set, NumRange{start, stop})
	}
	return set, nil
}

// parseSetNumber reads an nz-number or "*", which it gives as zero.
func parseSetNumber(s string) (uint32, error) {
	if s == "*" {
		return 0, nil
	}
	if s == "" {
		return 0, errors.New("number missing in number set")
	}
	if s[0] == '0' {
		return 0, errors.New("numbers in a set begin at 1 and have no leading zero")
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("number up to %d expected in number set", uint32(math.MaxUint32))
	}
	if err != nil || s[0] == '+' {
		return 0, fmt.Errorf("%.20q is not a number of a number set", s)
	}
	return uint32(n), nil
}

// HasStar reports whether the set names "*".
func (s NumSet) HasStar() bool {
	for _, r := range s {
		if r.Start == 0 || r.Stop == 0 {
			return true
		}
	}
	return false
}

// Resolve returns the set of UIDs that s means in a mailbox whose greatest UID
// is last. "*" is last, and the order within a range does not matter, so
// "559:*" always contains last (RFC 9051 section 9, seq-range). With last zero
// (an empty mailbox) whatever depends on "*" is left out.
func (s NumSet) Resolve(last uint32) UIDSet { return resolve[UID](s, last) }

// ResolveSeq is [NumSet.Resolve] for sequence numbers, with last the count of
// messages. It does not check that numbers are within 1..last: in a command
// with sequence numbers those beyond are an error, which [Set.Max] shows.
func (s NumSet) ResolveSeq(last uint32) SeqSet { return resolve[SeqNum](s, last) }

func resolve[N ~uint32](s NumSet, last uint32) Set[N] {
	ranges := make([]Range[N], 0, len(s))
	for _, r := range s {
		if r.Start == 0 {
			r.Start = last
		}
		if r.Stop == 0 {
			r.Stop = last
		}
		if r.Start == 0 || r.Stop == 0 {
			continue
		}
		ranges = append(ranges, Range[N]{N(min(r.Start, r.Stop)), N(max(r.Start, r.Stop))})
	}
	return Set[N]{normalise(ranges)}
}

// AppendWire appends the set as it was written.
func (s NumSet) AppendWire(dst []byte) []byte {
	for i, r := range s {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendSetNumber(dst, r.Start)
		if r.Stop != r.Start {
			dst = append(dst, ':')
			dst = appendSetNumber(dst, r.Stop)
		}
	}
	return dst
}

func appendSetNumber(dst []byte, n uint32) []byte {
	if n == 0 {
		return append(dst, '*')
	}
	return strconv.AppendUint(dst, uint64(n), 10)
}

// String returns the wire form.
func (s NumSet) String() string { return string(s.AppendWire(nil)) }

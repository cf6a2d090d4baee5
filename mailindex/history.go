package mailindex

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/rookery-mail/rookery/imap"
)

// History remembers which UIDs were expunged at which mod-sequence, as far
// back as its bound allows, for QRESYNC (RFC 7162 section 3.2.5.2). The zero
// value remembers everything since mod-sequence 0. It is used by one goroutine
// at a time; copies of it must not be changed.
type History struct {
	entries []expunge
	floor   imap.ModSeq
	ranges  int
	limit   int
}

type expunge struct {
	modseq imap.ModSeq
	uids   imap.UIDSet
}

// NewHistory returns a history that knows of all expunges after floor and
// keeps about limit ranges of UIDs; 0 is no limit.
func NewHistory(floor imap.ModSeq, limit int) *History {
	return &History{floor: floor, limit: limit}
}

// Floor returns the mod-sequence from which on nothing is missing.
func (h *History) Floor() imap.ModSeq { return h.floor }

// Add records that uids were expunged at modseq, which must not be less than
// that of the last call. The oldest entries are forgotten where there are too
// many.
func (h *History) Add(modseq imap.ModSeq, uids imap.UIDSet) {
	if uids.IsEmpty() {
		return
	}
	if n := len(h.entries); n > 0 && h.entries[n-1].modseq >= modseq {
		last := &h.entries[n-1]
		h.ranges -= len(last.uids.Ranges())
		last.uids = last.uids.Union(uids)
		h.ranges += len(last.uids.Ranges())
	} else {
		h.entries = append(h.entries, expunge{modseq, uids.Clone()})
		h.ranges += len(uids.Ranges())
	}
	h.trim()
}

func (h *History) trim() {
	drop := 0
	for h.limit > 0 && h.ranges > h.limit && drop < len(h.entries) {
		h.ranges -= len(h.entries[drop].uids.Ranges())
		h.floor = h.entries[drop].modseq
		drop++
	}
	h.entries = slices.Delete(h.entries, 0, drop)
}

// Since returns the UIDs expunged after modseq; complete is false where some
// may be missing because the history does not reach back so far.
func (h *History) Since(modseq imap.ModSeq) (uids imap.UIDSet, complete bool) {
	from, _ := slices.BinarySearchFunc(h.entries, modseq, func(e expunge, m imap.ModSeq) int {
		if e.modseq <= m {
			return -1
		}
		return 1
	})
	sets := make([]imap.UIDSet, 0, len(h.entries)-from)
	for _, e := range h.entries[from:] {
		sets = append(sets, e.uids)
	}
	return UnionAll(sets), modseq >= h.floor
}

// UnionAll returns the numbers that are in any of the sets.
func UnionAll(sets []imap.UIDSet) imap.UIDSet {
	var out imap.UIDSet
	switch len(sets) {
	case 0:
		return out
	case 1:
		return sets[0].Clone()
	}
	var all []imap.UIDRange
	for _, s := range sets {
		all = append(all, s.Ranges()...)
	}
	slices.SortFunc(all, func(a, b imap.UIDRange) int { return int(int64(a.Start) - int64(b.Start)) })
	for _, r := range all {
		out.AddRange(r.Start, r.Stop)
	}
	return out
}

// AppendBinary appends the history in a form for disk.
func (h *History) AppendBinary(dst []byte) ([]byte, error) {
	dst = binary.AppendUvarint(dst, uint64(h.floor))
	dst = binary.AppendUvarint(dst, uint64(h.limit))
	dst = binary.AppendUvarint(dst, uint64(len(h.entries)))
	for _, e := range h.entries {
		dst = binary.AppendUvarint(dst, uint64(e.modseq))
		dst = AppendUIDSet(dst, e.uids)
	}
	return dst, nil
}

// UnmarshalBinary reads what AppendBinary has written.
func (h *History) UnmarshalBinary(data []byte) error {
	var err error
	next := func() uint64 {
		v, n := binary.Uvarint(data)
		if n <= 0 {
			err = errDamaged
			return 0
		}
		data = data[n:]
		return v
	}
	got := History{floor: imap.ModSeq(next()), limit: int(next())}
	for n := next(); n > 0 && err == nil; n-- {
		modseq := imap.ModSeq(next())
		if err != nil {
			break
		}
		var uids imap.UIDSet
		if uids, data, err = ReadUIDSet(data); err == nil {
			got.entries = append(got.entries, expunge{modseq, uids})
			got.ranges += len(uids.Ranges())
		}
	}
	if err == nil && len(data) > 0 {
		err = errDamaged
	}
	if err != nil {
		return err
	}
	*h = got
	return nil
}

var errDamaged = errors.New("mailindex: damaged expunge history")

// AppendUIDSet appends a set in a compact form for disk: differences as
// varints.
func AppendUIDSet(dst []byte, set imap.UIDSet) []byte {
	ranges := set.Ranges()
	dst = binary.AppendUvarint(dst, uint64(len(ranges)))
	last := uint64(0)
	for _, r := range ranges {
		dst = binary.AppendUvarint(dst, uint64(r.Start)-last)
		dst = binary.AppendUvarint(dst, uint64(r.Stop-r.Start))
		last = uint64(r.Stop)
	}
	return dst
}

// ReadUIDSet reads a set that AppendUIDSet has written, and returns what is
// behind it.
func ReadUIDSet(data []byte) (set imap.UIDSet, rest []byte, err error) {
	count, n := binary.Uvarint(data)
	if n <= 0 || count > uint64(len(data)) {
		return set, nil, errDamaged
	}
	data = data[n:]
	last := uint64(0)
	for range count {
		gap, n := binary.Uvarint(data)
		if n <= 0 || gap == 0 {
			return set, nil, errDamaged
		}
		data = data[n:]
		length, n := binary.Uvarint(data)
		if n <= 0 {
			return set, nil, errDamaged
		}
		data = data[n:]
		start := last + gap
		last = start + length
		if start < gap || last < start || last > 1<<32-1 {
			return set, nil, errDamaged
		}
		set.AddRange(imap.UID(start), imap.UID(last))
	}
	return set, data, nil
}

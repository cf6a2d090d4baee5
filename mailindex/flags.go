package mailindex

import (
	"encoding/binary"
	"slices"
	"sync"

	"github.com/rookery-mail/rookery/imap"
)

// FlagsID is the number of a combination of flags in the table of a snapshot.
// 0 is the empty combination. An id means the same in all snapshots that were
// made from one another, unless [Snapshot.SameFlags] says that the table has
// been rebuilt between them.
type FlagsID uint32

// FlagBits are the five system flags that a message can hold for good.
type FlagBits uint8

// The bits.
const (
	BitSeen FlagBits = 1 << iota
	BitAnswered
	BitFlagged
	BitDeleted
	BitDraft
)

// bitFlags is indexed by the number of the bit.
func bitFlags() [5]imap.Flag {
	return [5]imap.Flag{imap.FlagSeen, imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagDraft}
}

// BitOf returns the bit of a system flag in any case, or 0 for \Recent and
// keywords.
func BitOf(f imap.Flag) FlagBits {
	if !f.IsSystem() {
		return 0
	}
	for i, sys := range bitFlags() {
		if imap.EqualFlag(f, sys) {
			return 1 << i
		}
	}
	return 0
}

// List returns the flags that b holds.
func (b FlagBits) List() []imap.Flag {
	var list []imap.Flag
	for i, f := range bitFlags() {
		if b&(1<<i) != 0 {
			list = append(list, f)
		}
	}
	return list
}

// FlagSet is one combination of flags. It is immutable.
type FlagSet struct {
	bits     FlagBits
	keywords []imap.Flag // in the order of their numbers
	wire     []byte      // "(\Seen kw)"
	recent   []byte      // the same with \Recent
}

func newFlagSet(bits FlagBits, keywords []imap.Flag) *FlagSet {
	fs := &FlagSet{bits: bits, keywords: keywords}
	size := len(`(\Recent )`)
	for _, f := range bits.List() {
		size += len(f) + 1
	}
	for _, f := range keywords {
		size += len(f) + 1
	}
	render := func(first string) []byte {
		b := append(make([]byte, 0, size), '(')
		b = append(b, first...)
		add := func(f imap.Flag) {
			if len(b) > 1 {
				b = append(b, ' ')
			}
			b = append(b, f...)
		}
		for i, f := range bitFlags() {
			if bits&(1<<i) != 0 {
				add(f)
			}
		}
		for _, f := range keywords {
			add(f)
		}
		return append(b, ')')
	}
	fs.wire = render("")
	fs.recent = render(string(imap.FlagRecent))
	return fs
}

// Bits returns the system flags.
func (f *FlagSet) Bits() FlagBits { return f.bits }

// Keywords returns the keywords. The slice must not be changed.
func (f *FlagSet) Keywords() []imap.Flag { return f.keywords }

// List returns all flags, system flags first, in a slice of its own.
func (f *FlagSet) List() []imap.Flag { return append(f.bits.List(), f.keywords...) }

// Has reports whether the combination holds a flag, in any case. It is false
// for \Recent, which is no property of a combination.
func (f *FlagSet) Has(flag imap.Flag) bool {
	if bit := BitOf(flag); bit != 0 {
		return f.bits&bit != 0
	}
	return slices.ContainsFunc(f.keywords, func(k imap.Flag) bool { return imap.EqualFlag(k, flag) })
}

// Wire returns the flags as a parenthesised list, ready for a FETCH response.
// The slice must not be changed.
func (f *FlagSet) Wire() []byte { return f.wire }

// WireRecent is Wire with \Recent in front.
func (f *FlagSet) WireRecent() []byte { return f.recent }

// flagTable interns combinations. It only grows, and is shared by all
// snapshots made from one another; snapshots hold slices of it, so that
// reading needs no lock.
type flagTable struct {
	mu       sync.Mutex
	sets     []*FlagSet
	bySet    map[string]FlagsID
	keywords []imap.Flag // first spelling of each, by number
	byName   map[string]int
}

func newFlagTable(keywords []imap.Flag) *flagTable {
	t := &flagTable{bySet: make(map[string]FlagsID), byName: make(map[string]int)}
	t.internLocked(0, nil)
	for _, k := range keywords {
		t.keywordLocked(k)
	}
	return t
}

// intern returns the number of the combination of flags. \Recent and unknown
// system flags are left out; doubles do not matter.
func (t *flagTable) intern(flags []imap.Flag) FlagsID {
	t.mu.Lock()
	defer t.mu.Unlock()
	var bits FlagBits
	var nums []int
	for _, f := range flags {
		if f.IsSystem() {
			bits |= BitOf(f)
			continue
		}
		nums = append(nums, t.keywordLocked(f))
	}
	slices.Sort(nums)
	return t.internLocked(bits, slices.Compact(nums))
}

// internSet interns a combination of another table.
func (t *flagTable) internSet(set *FlagSet) FlagsID {
	t.mu.Lock()
	defer t.mu.Unlock()
	nums := make([]int, len(set.keywords))
	for i, k := range set.keywords {
		nums[i] = t.keywordLocked(k)
	}
	slices.Sort(nums)
	return t.internLocked(set.bits, nums)
}

func (t *flagTable) keywordLocked(f imap.Flag) int {
	key := f.Fold()
	if n, ok := t.byName[key]; ok {
		return n
	}
	n := len(t.keywords)
	t.byName[key] = n
	t.keywords = append(t.keywords, f)
	return n
}

func (t *flagTable) internLocked(bits FlagBits, nums []int) FlagsID {
	var buf [64]byte
	key := append(buf[:0], byte(bits))
	for _, n := range nums {
		key = binary.AppendUvarint(key, uint64(n))
	}
	if id, ok := t.bySet[string(key)]; ok {
		return id
	}
	keywords := make([]imap.Flag, len(nums))
	for i, n := range nums {
		keywords[i] = t.keywords[n]
	}
	id := FlagsID(len(t.sets))
	t.sets = append(t.sets, newFlagSet(bits, keywords))
	t.bySet[string(key)] = id
	return id
}

// view returns what the table holds now.
func (t *flagTable) view() (sets []*FlagSet, keywords []imap.Flag) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clip(t.sets), slices.Clip(t.keywords)
}

// tally counts rows by FlagsID. Like the rows it is kept in blocks, so that a
// change copies little however many combinations there are.
type tally struct {
	blocks []*tallyBlock
	live   int // combinations with at least one row
}

const tallyRows = 128

type tallyBlock [tallyRows]uint32

func (t *tally) count(id FlagsID) uint32 {
	if b := int(id / tallyRows); b < len(t.blocks) {
		return t.blocks[b][id%tallyRows]
	}
	return 0
}

// tallyEdit changes a tally without changing what others see of it.
type tallyEdit struct {
	tally
	owned []bool // by block: whether it is this edit's own
}

func editTally(t tally) tallyEdit {
	return tallyEdit{tally: tally{blocks: slices.Clone(t.blocks), live: t.live}, owned: make([]bool, len(t.blocks))}
}

func (t *tallyEdit) add(id FlagsID, delta int) {
	b := int(id / tallyRows)
	for len(t.blocks) <= b {
		t.owned = append(t.owned, true)
		t.blocks = append(t.blocks, new(tallyBlock))
	}
	if !t.owned[b] {
		copied := *t.blocks[b]
		t.blocks[b] = &copied
		t.owned[b] = true
	}
	n := &t.blocks[b][id%tallyRows]
	before := *n
	*n = uint32(int64(before) + int64(delta))
	switch {
	case before == 0 && *n != 0:
		t.live++
	case before != 0 && *n == 0:
		t.live--
	}
}

package mailstore

import (
	"encoding/binary"
	"slices"

	"github.com/rookery-mail/rookery/mailindex"
)

// This file has how the rows of a mailbox lie on disk. Most are in pages: up
// to mailindex.PageRows rows, column by column, under the UID of the last one.
// A row may have a record of its own (it is called loose then): it is in no
// page yet, or it differs from what its page says; an empty record takes it
// away. So a change of one row writes one small record, however large the
// mailbox. What is loose is put into pages later; see fold.go. A change of the
// flags of many rows is not in them at first, but in a record of its own; see
// storing.go.
//
// A loose row is either in a page or outside of the UIDs of all pages: rows are
// only added behind all others, and whoever writes a page takes all rows of its
// range into it.

// maxDictionary bounds the bytes of flags that a page may have before another
// one is begun, so that rows with thousands of keywords do not make it huge.
const maxDictionary = 32 << 10

// appendPage encodes rows. code returns flags as they stand in a row.
//
// A page is the number of its rows; its dictionary of flags; and its columns:
// UIDs, places of flags in the dictionary, mod-sequences, sizes, dates, save
// dates, messages; and some zero bytes, so that a column may be read in words.
func appendPage(dst []byte, c *mailindex.Columns, code func(mailindex.FlagsID) []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(c.Len()))
	var ids []mailindex.FlagsID // the dictionary
	places := make([]uint32, c.Len())
	place := make(map[mailindex.FlagsID]uint32)
	for i, id := range c.Flags {
		if i > 0 && id == c.Flags[i-1] {
			places[i] = places[i-1]
			continue
		}
		at, ok := place[id]
		if !ok {
			at = uint32(len(ids))
			place[id] = at
			ids = append(ids, id)
		}
		places[i] = at
	}
	dst = binary.AppendUvarint(dst, uint64(len(ids)))
	for _, id := range ids {
		flags := code(id)
		dst = append(binary.AppendUvarint(dst, uint64(len(flags))), flags...)
	}
	dst = appendColumn(dst, c.UIDs)
	dst = appendColumn(dst, places)
	dst = appendColumn(dst, c.ModSeqs)
	dst = appendColumn(dst, c.Sizes)
	dst = appendColumn(dst, c.Dates)
	dst = appendColumn(dst, c.Saved)
	dst = appendColumn(dst, c.Msgs)
	return append(dst, make([]byte, wordBytes)...)
}

const (
	wordBytes  = 8
	columnStep = 0x10 // in a column's head: each value is one more than the last, plus what is stored
)

// appendColumn encodes a column: a head (bytes per value, and columnStep), a
// base, and for each value what it is more than the base. So a column of equal
// or consecutive values takes no room, and any other as many bytes per value as
// its span needs.
func appendColumn[T ~uint32 | ~uint64 | ~int64](dst []byte, col []T) []byte {
	base, span := int64(col[0]), uint64(0)
	stepBase, stepSpan := base, uint64(0)
	high, stepHigh := base, base
	for i, v := range col {
		n, s := int64(v), int64(v)-int64(i)
		base, high = min(base, n), max(high, n)
		stepBase, stepHigh = min(stepBase, s), max(stepHigh, s)
	}
	span, stepSpan = uint64(high-base), uint64(stepHigh-stepBase)
	step := int64(0)
	head := byte(0)
	if stepSpan < span {
		base, span, step, head = stepBase, stepSpan, 1, columnStep
	}
	width := 0
	for span>>(8*width) != 0 && width < wordBytes {
		width++
	}
	dst = binary.AppendVarint(append(dst, head|byte(width)), base)
	if width == 0 {
		return dst
	}
	var word [wordBytes]byte
	for i, v := range col {
		binary.LittleEndian.PutUint64(word[:], uint64(int64(v)-base-step*int64(i)))
		dst = append(dst, word[:width]...)
	}
	return dst
}

// codes numbers flags as they stand in rows, for who need not know what they
// mean.
type codes struct {
	list [][]byte
	ids  map[string]mailindex.FlagsID
}

func (c *codes) intern(code []byte) mailindex.FlagsID {
	if id, ok := c.ids[string(code)]; ok {
		return id
	}
	if c.ids == nil {
		c.ids = make(map[string]mailindex.FlagsID)
	}
	id := mailindex.FlagsID(len(c.list))
	c.list = append(c.list, slices.Clone(code))
	c.ids[string(code)] = id
	return id
}

// number is intern for a rowReader.
func (c *codes) number(code []byte) (mailindex.FlagsID, error) { return c.intern(code), nil }

func (c *codes) code(id mailindex.FlagsID) []byte { return c.list[id] }

// putLoose writes a loose row. code is its flags.
func (t *opTx) putLoose(box boxNum, r *mailindex.Row, code []byte) {
	// One allocation for key and value.
	buf := rowKey(make([]byte, 0, 48+len(code)), keyLoose, box, r.UID)
	n := len(buf)
	buf = appendRow(buf, r, code)
	t.set(buf[:n:n], buf[n:])
}

// bulkRows is from how many rows on a page is written at once.
func (s *Store) bulkRows() int { return max(2, s.opts.PageRows/4) }

// putPages writes rows, which no page has, as pages.
func (t *opTx) putPages(box boxNum, rows *mailindex.Columns, code func(mailindex.FlagsID) []byte) {
	for from := 0; from < rows.Len(); {
		to, dictionary := from, 0
		seen := make(map[mailindex.FlagsID]bool)
		for ; to < min(rows.Len(), from+t.a.store.opts.PageRows); to++ {
			id := rows.Flags[to]
			if to > from && id == rows.Flags[to-1] || seen[id] {
				continue
			}
			seen[id] = true
			if dictionary += len(code(id)); dictionary > maxDictionary && to > from {
				break
			}
		}
		part := rows.Slice(from, to)
		value := appendPage(make([]byte, 0, 64+16*part.Len()), &part, code)
		t.set(rowKey(nil, keyPage, box, part.UIDs[part.Len()-1]), value)
		from = to
	}
}

// repage writes the rows of a unit, which may be others than it had, as pages
// in place of what there was.
func (t *opTx) repage(box boxNum, u *unit, code func(mailindex.FlagsID) []byte) {
	n := u.rows.Len()
	if u.page != 0 && (n == 0 || u.rows.UIDs[n-1] != u.page) {
		t.delete(rowKey(nil, keyPage, box, u.page))
	}
	if len(u.loose) > 64 {
		t.deleteRange(rowKey(nil, keyLoose, box, u.loose[0]), rowKey(nil, keyLoose, box, u.loose[len(u.loose)-1]+1))
	} else {
		for _, uid := range u.loose {
			t.delete(rowKey(nil, keyLoose, box, uid))
		}
	}
	t.putPages(box, &u.rows, code)
}

// takeRows takes rows of a unit away from disk, and returns how many loose
// records that takes.
func (t *opTx) takeRows(box boxNum, u *unit, rows []int, code func(mailindex.FlagsID) []byte) (loose uint64) {
	if u.page != 0 && worthPage(len(rows), u.rows.Len()) {
		u.rows.Remove(rows)
		t.repage(box, u, code)
		return 0
	}
	for _, i := range rows {
		key := rowKey(nil, keyLoose, box, u.rows.UIDs[i])
		if u.page == 0 {
			t.delete(key)
			continue
		}
		t.set(key, nil)
		loose++
	}
	return loose
}

// worthPage reports whether to write pages anew rather than records for some
// of their rows, which are larger by the row and have to be folded later. All
// rows always are, so no page is left whose rows are all gone.
func worthPage(some, all int) bool { return some == all || some*8 >= max(all, 16) }

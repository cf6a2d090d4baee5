package bloblog

import (
	"cmp"
	"slices"

	"github.com/rookery-mail/rookery/mailstore/driver"
)

// A moveTable says where the blobs are that do not lie any more where they were
// first written. It has a sorted list for each segment that they came from:
// 12 bytes a blob.
type moveTable map[uint32][]move

type move struct{ off, segment, at uint32 }

func searchMove(list []move, off uint32) (int, bool) {
	return slices.BinarySearchFunc(list, off, func(m move, off uint32) int { return cmp.Compare(m.off, off) })
}

func (t moveTable) find(ref driver.Ref) (place, bool) {
	from := placeOf(ref)
	list := t[from.segment]
	i, ok := searchMove(list, from.off)
	if !ok {
		return place{}, false
	}
	return place{list[i].segment, list[i].at}, true
}

func (t moveTable) set(ref driver.Ref, to place) {
	from := placeOf(ref)
	list := t[from.segment]
	m := move{from.off, to.segment, to.off}
	i, ok := searchMove(list, from.off)
	if ok {
		list[i] = m
		return
	}
	t[from.segment] = slices.Insert(list, i, m)
}

func (t moveTable) remove(ref driver.Ref) {
	from := placeOf(ref)
	list := t[from.segment]
	if i, ok := searchMove(list, from.off); ok {
		t[from.segment] = slices.Delete(list, i, i+1)
		if len(list) == 1 {
			delete(t, from.segment)
		}
	}
}

// A deadSet has the blobs that were deleted and whose bytes are still there, by
// the segment in which they were first written: 8 bytes a blob.
type deadSet map[uint32][]deadBlob

// A deadBlob is a deleted blob and its length, both in units of alignment.
type deadBlob struct{ off, length uint32 }

func searchDead(list []deadBlob, off uint32) (int, bool) {
	return slices.BinarySearchFunc(list, off, func(g deadBlob, off uint32) int { return cmp.Compare(g.off, off) })
}

func (d deadSet) has(ref driver.Ref) bool {
	at := placeOf(ref)
	_, ok := searchDead(d[at.segment], at.off)
	return ok
}

// add reports whether the blob was not in the set.
func (d deadSet) add(ref driver.Ref, length uint32) bool {
	at := placeOf(ref)
	list := d[at.segment]
	i, ok := searchDead(list, at.off)
	if !ok {
		d[at.segment] = slices.Insert(list, i, deadBlob{at.off, length})
	}
	return !ok
}

func (d deadSet) remove(ref driver.Ref) {
	at := placeOf(ref)
	list := d[at.segment]
	if i, ok := searchDead(list, at.off); ok {
		d[at.segment] = slices.Delete(list, i, i+1)
		if len(list) == 1 {
			delete(d, at.segment)
		}
	}
}

func (d deadSet) len() (n int) {
	for _, list := range d {
		n += len(list)
	}
	return n
}

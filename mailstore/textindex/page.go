package textindex

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// A page is
//
//	form, 1 byte
//	span of the segment
//	the first gram that could be in it: behind the last of the page before
//	number of lists, and length of their directory
//	for each list: gram less the one before, length in documents, length in bytes
//	the lists
//	CRC-32C of all that, 4 bytes
//
// Numbers are varints.

const (
	pageForm  = 1
	pageBytes = 32 << 10 // about; a list is never cut
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// pageWriter makes the pages of one segment.
type pageWriter struct {
	seg   *Segment
	emit  func(Page) error
	head  []byte // directory of the page that is being made
	lists []byte
	count int
	last  Gram
	from  Gram // behind the last of the page before
}

// list adds a list; grams must ascend.
func (w *pageWriter) list(g Gram, docs []uint32) error {
	if len(docs) == 0 {
		return nil
	}
	before := Gram(0)
	if w.count > 0 {
		before = w.last
	}
	start := len(w.lists)
	w.lists = appendList(w.lists, docs, w.seg.Span())
	w.head = binary.AppendUvarint(w.head, uint64(g-before))
	w.head = binary.AppendUvarint(w.head, uint64(len(docs)))
	w.head = binary.AppendUvarint(w.head, uint64(len(w.lists)-start))
	w.count++
	w.last = g
	if len(w.head)+len(w.lists) < pageBytes {
		return nil
	}
	return w.flush()
}

// flush ends a page.
func (w *pageWriter) flush() error {
	if w.count == 0 {
		return nil
	}
	data := make([]byte, 0, len(w.head)+len(w.lists)+32)
	data = append(data, pageForm)
	data = binary.AppendUvarint(data, uint64(w.seg.Span()))
	data = binary.AppendUvarint(data, uint64(w.from))
	data = binary.AppendUvarint(data, uint64(w.count))
	data = binary.AppendUvarint(data, uint64(len(w.head)))
	data = append(append(data, w.head...), w.lists...)
	data = binary.LittleEndian.AppendUint32(data, crc32.Checksum(data, castagnoli))
	w.head, w.lists, w.count, w.from = w.head[:0], w.lists[:0], 0, w.last+1
	w.seg.Pages++
	w.seg.Bytes += int64(len(data))
	return w.emit(Page{w.last, data})
}

// page is a page that has been opened.
type page struct {
	span  int
	left  int    // lists that next has not given yet
	head  []byte // the directory of these
	lists []byte
	from  Gram // the first gram that could be in it
	gram  Gram // of the list that next has given
	begun bool // next has given one
}

// list is a list in a page, as it stands there.
type list struct {
	gram Gram
	n    int
	data []byte
}

// openPage checks a page and reads its beginning.
func openPage(data []byte, span int) (page, error) {
	bad := func(what string) (page, error) { return page{}, fmt.Errorf("%w: a page %s", ErrDamaged, what) }
	if len(data) < 5 {
		return bad("is too short")
	}
	body := data[:len(data)-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(data[len(body):]) {
		return bad("has a wrong checksum")
	}
	if body[0] != pageForm {
		return bad("has a form that is not known")
	}
	rest := body[1:]
	got, ok := uvarint(&rest)
	if !ok || got != uint64(span) {
		return bad("is of another segment")
	}
	from, ok := uvarint(&rest)
	if !ok || from >= uint64(gramEnd) {
		return bad("has a bad directory")
	}
	count, ok := uvarint(&rest)
	size, sized := uvarint(&rest)
	if !ok || !sized || size > uint64(len(rest)) || count > size {
		return bad("has a bad directory")
	}
	return page{span: span, left: int(count), head: rest[:size], lists: rest[size:], from: Gram(from)}, nil
}

// next returns the next list, and false behind the last one.
func (p *page) next() (l list, ok bool, err error) {
	if p.left == 0 {
		return list{}, false, nil
	}
	p.left--
	delta, ok := uvarint(&p.head)
	n, counted := uvarint(&p.head)
	size, sized := uvarint(&p.head)
	if !ok || !counted || !sized || delta == 0 && p.begun || delta >= uint64(gramEnd-p.gram) || n == 0 || n > uint64(p.span) || size > uint64(len(p.lists)) {
		return list{}, false, fmt.Errorf("%w: a page has a bad directory", ErrDamaged)
	}
	p.gram, p.begun = p.gram+Gram(delta), true
	l = list{gram: p.gram, n: int(n), data: p.lists[:size]}
	p.lists = p.lists[size:]
	return l, true, nil
}

// find returns the list of a gram, and false where there is none. Grams must be
// asked for in ascending order.
func (p *page) find(g Gram) (l list, ok bool, err error) {
	for {
		before := *p
		l, ok, err := p.next()
		if err != nil || !ok || l.gram == g {
			return l, ok, err
		}
		if l.gram > g {
			*p = before // for the next gram
			return list{}, false, nil
		}
	}
}

// docs appends the documents of a list.
func (l *list) docs(dst []uint32, span int) ([]uint32, error) {
	return readList(dst, l.data, l.n, span)
}

func uvarint(b *[]byte) (uint64, bool) {
	if s := *b; len(s) > 0 && s[0] < 0x80 {
		*b = s[1:]
		return uint64(s[0]), true
	}
	v, n := binary.Uvarint(*b)
	if n <= 0 {
		return 0, false
	}
	*b = (*b)[n:]
	return v, true
}

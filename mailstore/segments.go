package mailstore

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/textindex"
)

// The text index of an account is a list of segments of package textindex that
// follow each other, from message 1 to the mark of its deriver (textbuild.go).
// Each is immutable. A directory, one record, names those that count; pages of
// others are what an interrupted step has left. So a reader needs nothing but a
// View: directory and pages belong together in it, whatever happens meanwhile.

// segment is an entry of the directory.
type segment struct {
	textindex.Segment
	num uint64 // of its pages' keys; never used again
}

// directory lists the segments of an account by the messages that they cover.
type directory struct {
	next     uint64 // the last number that was given to a segment
	writing  uint64 // the number of a segment of which there may be pages, or 0
	segments []segment
}

func (d *directory) encode() []byte {
	b := appendUints(nil, d.next, d.writing, uint64(len(d.segments)))
	for i := range d.segments {
		s := &d.segments[i]
		b = appendUints(b, s.num, s.First, s.Last, uint64(s.Docs), uint64(s.Pages), uint64(s.Bytes))
	}
	return b
}

func decodeDirectory(data []byte) (dir directory, err error) {
	d := decoder{data: data}
	dir.next, dir.writing = d.uint(), d.uint()
	next := uint64(1)
	for n := d.uint(); n > 0 && !d.bad; n-- {
		s := segment{num: d.uint()}
		s.First, s.Last = d.uint(), d.uint()
		s.Docs, s.Pages, s.Bytes = int(d.uint()), int(d.uint()), int64(d.uint())
		if s.First != next || s.Last < s.First || s.Last-s.First >= textindex.MaxSpan || s.Docs < 0 || s.Docs > textindex.MaxSpan {
			d.bad = true
		}
		next = s.Last + 1
		dir.segments = append(dir.segments, s)
	}
	return dir, d.err("directory of the text index")
}

// readDirectory reads the directory; without one it is empty.
func readDirectory(r interface {
	Get(key []byte) ([]byte, bool, error)
}) (directory, error) {
	data, ok, err := r.Get([]byte{keySegments})
	if err != nil || !ok {
		return directory{}, err
	}
	return decodeDirectory(data)
}

// last returns the last message that is covered.
func (d *directory) last() uint64 {
	if len(d.segments) == 0 {
		return 0
	}
	return d.segments[len(d.segments)-1].Last
}

// find returns the index of the segment that covers msg or, where none does,
// the number of segments.
func (d *directory) find(msg uint64) int {
	i, _ := slices.BinarySearchFunc(d.segments, msg, func(s segment, msg uint64) int {
		if s.Last < msg {
			return -1
		}
		return 1
	})
	return i
}

// replace puts a segment in the place of those from i on, n of them.
func (d *directory) replace(i, n int, s segment) {
	d.segments = slices.Replace(slices.Clone(d.segments), i, i+n, s)
}

// The fan of merges: so many segments of one size become one of the next.
const mergeFan = 8

// fullSpan is the span from which on a segment grows no more.
const fullSpan = textindex.MaxSpan / 4 * 3

// mergeable returns neighbours that should become one segment, n of them from
// index i on; n is 0 where there are none. New segments are at the end, so that
// sizes fall towards it. Those of one size, from a mergeFan-th of level on, wait
// until there are mergeFan of them, or enough for one that is full; what is
// smaller behind them goes with them. So a message is written again three times
// at most.
func (d *directory) mergeable() (i, n int) {
	const lowest = textindex.MaxSpan / mergeFan / mergeFan / mergeFan / mergeFan
	for level := lowest; level <= textindex.MaxSpan; level *= mergeFan {
		i, equal, total := len(d.segments), 0, 0
		for i > 0 {
			span := d.segments[i-1].Span()
			if span > level || span >= fullSpan {
				break
			}
			i--
			total += span
			if span > level/mergeFan || level == lowest {
				equal++
			}
		}
		if equal < mergeFan && total < fullSpan {
			continue
		}
		n, total := 0, 0
		for ; i+n < len(d.segments); n++ {
			if total += d.segments[i+n].Span(); total > textindex.MaxSpan {
				break
			}
		}
		if n > 1 {
			return i, n
		}
	}
	return 0, 0
}

func pageKey(seg uint64, g textindex.Gram) []byte {
	return binary.BigEndian.AppendUint32(numKey(keySegPage, seg), uint32(g))
}

// pageSource reads the pages of a segment in a View.
type pageSource struct {
	r   driver.Reader
	seg uint64
	buf []byte
}

// Page implements textindex.Source.
func (s *pageSource) Page(from textindex.Gram) (last textindex.Gram, data []byte, err error) {
	end := prefixEnd(numKey(keySegPage, s.seg))
	err = scanRange(s.r, pageKey(s.seg, from), end, func(key, value []byte) error {
		last = textindex.Gram(binary.BigEndian.Uint32(key[len(key)-4:]))
		s.buf = append(s.buf[:0], value...)
		data = s.buf
		return errEnough
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return last, data, err
}

// latePages reads the pages of a segment outside of a View, for merges that
// take longer than one should be held. Where the segment is gone meanwhile,
// pages are missing, and the merge fails.
type latePages struct {
	view func(func(driver.Reader) error) error
	seg  uint64
	buf  []byte
}

// Page implements textindex.Source.
func (s *latePages) Page(from textindex.Gram) (last textindex.Gram, data []byte, err error) {
	err = s.view(func(r driver.Reader) error {
		src := pageSource{r: r, seg: s.seg, buf: s.buf}
		last, data, err = src.Page(from)
		s.buf = src.buf
		return err
	})
	return last, data, err
}

// damagedIndex reports whether an error says that the index itself cannot be
// read.
func damagedIndex(err error) bool {
	return imap.KindOf(err) == imap.Corruption || errors.Is(err, textindex.ErrDamaged)
}

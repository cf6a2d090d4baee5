package mailstore

import (
	"bytes"
	"encoding/binary"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/message"
)

// What SEARCH looks for most often in messages stands in columns: the values of
// a header field of some hundred messages one behind the other, so that one
// pass over a few kilobytes answers for all of them. docs/design/041-columns.md
// has the reasons and figures.
//
// A block holds one column of the messages that exist in a range of numbers.
// Blocks are built in the background (columnbuild.go) and read by searches
// (columnsearch.go). What they cannot tell for sure is marked as open, and
// looked up in the message.

// column is one thing that is known of each message.
type column struct {
	id    byte   // in keys, for good
	field string // the name of a header field, folded; "" for sentColumn
}

// The ids of columns are letters of their own; see columnsVersion.
const sentColumnID = 'd'

// columnList returns all columns. What is in this list may change together with
// columnsForm.
func columnList() []column {
	return []column{
		{sentColumnID, ""},
		{'f', "FROM"}, {'t', "TO"}, {'c', "CC"}, {'b', "BCC"}, {'s', "SUBJECT"},
		{'m', "MESSAGE-ID"}, {'i', "IN-REPLY-TO"}, {'r', "REFERENCES"},
		{'l', "LIST-ID"}, {'p', "REPLY-TO"}, {'n', "SENDER"},
	}
}

// columnsForm is the version of the form of blocks, and of the list of columns.
const columnsForm = 1

// A block has up to blockMessages messages, fewer where their text is long. What
// is read may have up to maxBlockMessages.
const (
	blockMessages    = 256
	maxBlockMessages = 1 << 16
	blockBytes       = 512 << 10
)

// columnKey is the key of a block; last is the greatest number of its messages.
func columnKey(id byte, last uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{keyColumn, id}, last)
}

// block is one block while it is read. It shares the memory of the record.
//
// Its record begins with what all columns have: the number of messages, the
// runs of their numbers, and those that are open. A column of text goes on with
// the length of each message's text and the texts themselves; each value in
// them ends in LF, so that a field that is there differs from one that is not.
// The column of dates has the difference to the date before, and the zone.
type block struct {
	n    int       // messages
	runs []msgRun  // their numbers
	open []int     // indexes of those that may match though they seem not to
	text []byte    // of all messages
	ends []uint32  // where the text of each ends; filled in by split
	data []byte    // of what follows in the record: lengths, or dates
	sent []sentDay // of the column of dates
}

// msgRun are consecutive numbers of messages.
type msgRun struct{ first, count uint64 }

// sentDay is the moment and the zone in minutes of a Date field.
type sentDay struct {
	unix int64
	zone int16
	ok   bool
}

// read reads a record. The block's memory is used again.
func (b *block) read(id byte, data []byte) error {
	d := decoder{data: data}
	*b = block{runs: b.runs[:0], open: b.open[:0], ends: b.ends[:0], sent: b.sent[:0]}
	next, total := uint64(0), uint64(0)
	for range d.count() {
		run := msgRun{next + d.uint(), d.uint() + 1}
		b.runs = append(b.runs, run)
		next = run.first + run.count
		total += run.count
		if next < run.first || total > maxBlockMessages {
			d.bad = true
		}
	}
	b.n = int(total)
	at := 0
	for range d.count() {
		at += int(min(d.uint(), maxBlockMessages))
		if at >= b.n {
			d.bad = true
		}
		b.open = append(b.open, at)
	}
	if id == sentColumnID {
		b.readSent(&d)
		return d.err("column of dates")
	}
	size := d.uint()
	if size > uint64(len(d.data)) {
		d.bad = true
	}
	if d.bad {
		return d.err("column")
	}
	b.data, b.text = d.data[:uint64(len(d.data))-size], d.data[uint64(len(d.data))-size:]
	return nil
}

// count reads the number of things that follow, of one byte at least.
func (d *decoder) count() uint64 {
	n := d.uint()
	if n > uint64(len(d.data)) {
		d.data, d.bad = nil, true
		return 0
	}
	return n
}

func (b *block) readSent(d *decoder) {
	unix := int64(0)
	for range b.n {
		unix += d.int()
		zone := d.int()
		b.sent = append(b.sent, sentDay{unix, int16(zone >> 1), zone&1 == 0})
		if d.bad {
			return
		}
	}
}

// first and last return the least and the greatest number of a message.
func (b *block) first() uint64 { return b.runs[0].first }

func (b *block) last() uint64 {
	r := b.runs[len(b.runs)-1]
	return r.first + r.count - 1
}

// split finds out where the text of each message ends.
func (b *block) split() error {
	d := decoder{data: b.data}
	end := uint64(0)
	for range b.n {
		end += d.uint()
		b.ends = append(b.ends, uint32(min(end, 1<<32-1)))
	}
	if end != uint64(len(b.text)) {
		d.bad = true
	}
	return d.err("column")
}

// readAll is read, and split where there is text.
func (b *block) readAll(id byte, data []byte) error {
	err := b.read(id, data)
	if err == nil && id != sentColumnID {
		err = b.split()
	}
	return err
}

// textOf returns the text of a message, after split.
func (b *block) textOf(i int) []byte {
	from := uint32(0)
	if i > 0 {
		from = b.ends[i-1]
	}
	return b.text[from:b.ends[i]]
}

// blockWriter makes the record of a block.
type blockWriter struct {
	id      byte
	n       int
	runs    []msgRun
	open    []int
	lengths []byte
	text    []byte
	dates   []byte
	unix    int64
}

func (w *blockWriter) reset() { *w = blockWriter{id: w.id} }

// begin adds a message; numbers ascend. What belongs to it follows.
func (w *blockWriter) begin(msg uint64, open bool) {
	if k := len(w.runs) - 1; k >= 0 && w.runs[k].first+w.runs[k].count == msg {
		w.runs[k].count++
	} else {
		w.runs = append(w.runs, msgRun{msg, 1})
	}
	if open {
		w.open = append(w.open, w.n)
	}
	w.n++
}

// addText adds the text of the message that has begun.
func (w *blockWriter) addText(text []byte) {
	w.lengths = binary.AppendUvarint(w.lengths, uint64(len(text)))
	w.text = append(w.text, text...)
}

// addSent adds the date of the message that has begun.
func (w *blockWriter) addSent(s sentDay) {
	missing := int64(0)
	if !s.ok {
		s, missing = sentDay{unix: w.unix}, 1
	}
	w.dates = binary.AppendVarint(w.dates, s.unix-w.unix)
	w.dates = binary.AppendVarint(w.dates, int64(s.zone)<<1|missing)
	w.unix = s.unix
}

func (w *blockWriter) record() []byte {
	b := make([]byte, 0, 64+len(w.lengths)+len(w.text)+len(w.dates))
	b = binary.AppendUvarint(b, uint64(len(w.runs)))
	next := uint64(0)
	for _, r := range w.runs {
		b = appendUints(b, r.first-next, r.count-1)
		next = r.first + r.count
	}
	b = binary.AppendUvarint(b, uint64(len(w.open)))
	at := 0
	for _, i := range w.open {
		b = binary.AppendUvarint(b, uint64(i-at))
		at = i
	}
	if w.id == sentColumnID {
		return append(b, w.dates...)
	}
	b = binary.AppendUvarint(b, uint64(len(w.text)))
	return append(append(b, w.lengths...), w.text...)
}

// maxColumnText bounds what a column keeps of one message. It is enough for
// hundreds of addresses; what is longer is kept in part, and is open.
const maxColumnText = 16 << 10

// appendField appends the values of a field out of the text of a header, LF
// behind each, and reports whether there was more than columns keep.
func appendField(dst, header []byte, field string) (text []byte, cut bool) {
	start := len(dst)
	for len(header) > 0 {
		line := header
		if i := bytes.IndexByte(header, '\n'); i >= 0 {
			line, header = header[:i], header[i+1:]
		} else {
			header = nil
		}
		n := len(field)
		if len(line) < n+2 || string(line[:n]) != field || line[n] != ':' || line[n+1] != ' ' {
			continue
		}
		dst = append(append(dst, line[n+2:]...), '\n')
		if len(dst)-start > maxColumnText {
			return append(dst[:start+maxColumnText], '\n'), true
		}
	}
	return dst, false
}

// sentOf returns the date of a digest.
func sentOf(d *message.Digest) sentDay { return sentDay{d.SentUnix, d.SentZone, d.HasSent} }

// day is the day of the date in its own zone.
func (s sentDay) day() imap.Date { return imap.MakeTime(s.unix, int(s.zone)).Date() }

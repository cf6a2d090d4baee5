package imapmodel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
)

// The record of a mailbox: a format byte, the values of the snapshot that are
// not about one message, the keywords that there have been, the combinations of
// flags, the rows in order of
// UID, the history, and a checksum (CRC-32C) of all before it. Numbers are
// varints, strings have their length in front.
const boxFormat = 1

// encode writes the record of snap. Its rows are items of the box or in added.
func (bx *box) encode(snap *mailindex.Snapshot, added []*item) ([]byte, error) {
	fresh := make(map[imap.UID]*item, len(added))
	for _, it := range added {
		fresh[it.uid] = it
	}
	bx.mu.Lock()
	defer bx.mu.Unlock()
	meta := snap.Meta()
	b := []byte{boxFormat}
	for _, v := range []uint64{uint64(meta.UIDValidity), uint64(meta.UIDNext), uint64(meta.HighestModSeq), uint64(meta.FirstRecent)} {
		b = binary.AppendUvarint(b, v)
	}
	b = appendFlags(b, snap.Keywords())
	b = binary.AppendUvarint(b, uint64(snap.FlagSets()))
	for id := range snap.FlagSets() {
		var flags []imap.Flag
		if snap.FlagCount(mailindex.FlagsID(id)) > 0 {
			flags = snap.Flags(mailindex.FlagsID(id)).List()
		}
		b = appendFlags(b, flags)
	}
	b = binary.AppendUvarint(b, uint64(snap.Len()))
	last := imap.UID(0)
	for _, row := range snap.Rows() {
		it := bx.byUID[row.UID]
		if it == nil {
			it = fresh[row.UID]
		}
		if it == nil {
			return nil, fmt.Errorf("imapmodel: UID %d has no message", row.UID)
		}
		b = binary.AppendUvarint(b, uint64(row.UID-last))
		b = binary.AppendUvarint(b, uint64(row.Flags))
		b = binary.AppendUvarint(b, uint64(row.ModSeq))
		b = binary.AppendUvarint(b, uint64(row.Size))
		b = binary.AppendVarint(b, int64(row.Date))
		b = binary.AppendVarint(b, row.SaveDate)
		b = binary.AppendUvarint(b, uint64(it.given))
		for _, s := range []string{it.key, it.version, string(it.ids.email), string(it.ids.thread)} {
			b = appendString(b, s)
		}
		last = row.UID
	}
	history, err := bx.history.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	b = appendString(b, string(history))
	return binary.BigEndian.AppendUint32(b, checksum(b)), nil
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendFlags(b []byte, flags []imap.Flag) []byte {
	b = binary.AppendUvarint(b, uint64(len(flags)))
	for _, f := range flags {
		b = appendString(b, string(f))
	}
	return b
}

// decode fills a new box with what encode has written.
func (bx *box) decode(data []byte) error {
	if len(data) < 5 || binary.BigEndian.Uint32(data[len(data)-4:]) != checksum(data[:len(data)-4]) {
		return errors.New("the record is damaged (its checksum is wrong)")
	}
	if data[0] != boxFormat {
		return fmt.Errorf("the record has format %d, which this version cannot read", data[0])
	}
	r := recordReader{rest: data[1 : len(data)-4]}
	meta := mailindex.Meta{
		UIDValidity: imap.UIDValidity(r.uint()), UIDNext: imap.UID(r.uint()),
		HighestModSeq: imap.ModSeq(r.uint()), FirstRecent: imap.UID(r.uint()),
	}
	ed := mailindex.New(meta, r.flags()).Edit()
	sets := make([]mailindex.FlagsID, r.count())
	for i := range sets {
		sets[i] = ed.Intern(r.flags())
	}
	last := imap.UID(0)
	for range r.count() {
		last += imap.UID(r.uint())
		set := r.uint()
		if set >= uint64(len(sets)) {
			r.fail()
			break
		}
		row := mailindex.Row{UID: last, Flags: sets[set], ModSeq: imap.ModSeq(r.uint()), Size: uint32(r.uint()), Msg: uint64(last)}
		row.Date, row.SaveDate = imap.Time(r.int()), r.int()
		it := &item{uid: last, given: imap.UID(r.uint()), key: r.string(), version: r.string()}
		it.ids = objectIDs{imap.ObjectID(r.string()), imap.ObjectID(r.string())}
		if r.err != nil {
			break
		}
		ed.Append(row)
		bx.byUID[it.uid], bx.byKey[it.key] = it, it
	}
	bx.history = &mailindex.History{}
	if r.err == nil {
		r.err = bx.history.UnmarshalBinary([]byte(r.string()))
	}
	if r.err != nil {
		return r.err
	}
	*ed.Meta() = meta
	bx.snap.Store(ed.Commit())
	return nil
}

// recordReader reads a record; the first error sticks.
type recordReader struct {
	rest []byte
	err  error
}

func (r *recordReader) fail() {
	if r.err == nil {
		r.err = errors.New("the record is damaged")
	}
	r.rest = nil
}

func (r *recordReader) uint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *recordReader) int() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// count reads how many of something follow, each of one byte at least.
func (r *recordReader) count() int {
	n := r.uint()
	if n > uint64(len(r.rest)) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *recordReader) string() string {
	n := r.count()
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}

func (r *recordReader) flags() []imap.Flag {
	flags := make([]imap.Flag, r.count())
	for i := range flags {
		flags[i] = imap.Flag(r.string())
	}
	return flags
}

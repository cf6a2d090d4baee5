package mailstore

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// This file has everything that is known about the form on disk: keys,
// records, and their codecs. Numbers in keys are big-endian, so that keys
// sort as the numbers do; records are varints.
//
// Account 0, the store's own:
//
//	F              format version
//	C              the store was closed in order (absent while it is open)
//	N              next account number
//	B              greatest Ref that may be named without raising it (refbound.go)
//	n name         account number
//	x number       account that is being removed
//	u name         password hash of a user
//
// Every other account:
//
//	A              account record: counters, generation, name
//	b box          mailbox: name, UIDVALIDITY, attributes
//	c box          counters of a mailbox
//	k box          keywords of a mailbox by number
//	s name         subscription
//	r box uid      page of rows; uid is that of its last row (pages.go)
//	q box uid      loose row: in no page, or in place of what its page says;
//	               empty where the page's row is gone
//	h box modseq   UIDs expunged at modseq
//	g box modseq   grave: UIDs whose rows are no longer in the mailbox but
//	               still hold their messages; one beyond the mod-sequence of a
//	               mailbox is that of an expunge that was not finished, and void
//	f box modseq   a STORE of many messages that is not in their rows yet
//	               (storing.go)
//	m msg          message: blob, sizes, thread
//	d msg          digest, without the fields of the header
//	a msg          fields of the header that mail programs list mailboxes by
//	t msg          search text (textrecord.go), made in the background (textkeep.go)
//	e msg          number of rows that hold the message, where it is not 1
//	p msg          messages from msg on that are being written
//	i hash         thread of a Message-ID
//	y hash         import key
//	l column msg   block of a column; msg is its last message (columns.go)
//	w deriver      what a deriver has done: its version, its mark (derive.go)
//	v              directory of the text index: its segments (segments.go)
//	z segment gram page of a segment of the text index
const (
	keyFormat   = 'F'
	keyClean    = 'C'
	keyNextAcct = 'N'
	keyRefBound = 'B'
	keyName     = 'n'
	keyRemoving = 'x'
	keyUser     = 'u'

	keyAccount  = 'A'
	keyBox      = 'b'
	keyCounters = 'c'
	keyKeywords = 'k'
	keySub      = 's'
	keyPage     = 'r'
	keyLoose    = 'q'
	keyHistory  = 'h'
	keyGrave    = 'g'
	keyStoring  = 'f'
	keyMessage  = 'm'
	keyDigest   = 'd'
	keyFields   = 'a'
	keyText     = 't'
	keyRefs     = 'e'
	keyPending  = 'p'
	keyThread   = 'i'
	keyImport   = 'y'
	keyColumn   = 'l'
	keyDerived  = 'w'
	keySegments = 'v'
	keySegPage  = 'z'
)

// DerivedRange returns, for a key whose record can be made anew from the
// messages, the first key behind all records of its kind, and nil for any other
// key. It is the one list of what is derived: such records are not in the saved
// states of the index's journal, and a repair makes them again or leaves that to
// the work in the background which makes them where they are missing.
func DerivedRange(a driver.Account, key []byte) (end []byte) {
	if a == directoryAccount || len(key) == 0 {
		return nil
	}
	switch key[0] {
	case keyDigest, keyFields, keyText, keyColumn, keyDerived, keySegments, keySegPage:
		return []byte{key[0] + 1}
	}
	return nil
}

// messageKinds are the records that each message has. The last three are derived
// from it.
const messageKinds = string(keyMessage) + string(keyDigest) + string(keyFields) + string(keyText)

// formatVersion is the version of this layout; oldestFormat is the oldest one
// that can still be read. Format 1 was never released. Format 3 may have
// compressed messages (package bloblog), and compresses search texts (those of
// format 2 are made anew when they are wanted). In format 4 the newest messages may
// have no text yet. In format 5 what was committed last may, after a crash, be in the files
// of the messages (package pebblekv: Rider).
const (
	formatVersion = 5
	oldestFormat  = 2
)

// boxNum numbers the mailboxes of an account; numbers are never reused.
type boxNum uint32

func boxKey(kind byte, box boxNum) []byte {
	return binary.BigEndian.AppendUint32([]byte{kind}, uint32(box))
}

func rowKey(dst []byte, kind byte, box boxNum, uid imap.UID) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, kind), uint32(box))
	return binary.BigEndian.AppendUint32(dst, uint32(uid))
}

func modseqKey(kind byte, box boxNum, m imap.ModSeq) []byte {
	return binary.BigEndian.AppendUint64(boxKey(kind, box), uint64(m))
}

func numKey(kind byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, n)
}

func nameKey(kind byte, name string) []byte { return append([]byte{kind}, name...) }

// hashKey makes a key of bounded length from something that a stranger chose.
func hashKey(kind byte, s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return append([]byte{kind}, sum[:16]...)
}

// prefixEnd returns the first key behind all that begin with prefix.
func prefixEnd(prefix []byte) []byte {
	end := slices.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		end[i]++
		if end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// decoder reads varints; the first error sticks.
type decoder struct {
	data []byte
	bad  bool
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.data)
	if n <= 0 {
		d.data, d.bad = nil, true
		return 0
	}
	d.data = d.data[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.data)
	if n <= 0 {
		d.data, d.bad = nil, true
		return 0
	}
	d.data = d.data[n:]
	return v
}

func (d *decoder) string() string {
	n := d.uint()
	if n > uint64(len(d.data)) {
		d.data, d.bad = nil, true
		return ""
	}
	s := string(d.data[:n])
	d.data = d.data[n:]
	return s
}

func (d *decoder) strings() []string {
	n := d.uint()
	var list []string
	for ; n > 0 && !d.bad; n-- {
		list = append(list, d.string())
	}
	return list
}

var errDamaged = errors.New("the record is damaged")

func (d *decoder) err(what string) error {
	if d.bad {
		return imap.E("mailstore: read "+what, imap.Corruption, errDamaged)
	}
	return nil
}

func appendString[S string | []byte](dst []byte, s S) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendUints(dst []byte, list ...uint64) []byte {
	for _, n := range list {
		dst = binary.AppendUvarint(dst, n)
	}
	return dst
}

// accountRec has the counters of an account.
type accountRec struct {
	generation  uint64 // grows with each commit: the truth about what is new
	uidValidity uint64 // the greatest that has been used
	nextBox     uint64
	nextMsg     uint64
	// user is who the account belongs to, for a repair that has lost the list of
	// accounts, which is what counts. It is "" until the first commit of a release
	// that writes it.
	user string
}

func (r *accountRec) encode() []byte {
	return appendString(appendUints(make([]byte, 0, 32+len(r.user)), r.generation, r.uidValidity, r.nextBox, r.nextMsg), r.user)
}

func decodeAccount(data []byte) (accountRec, error) {
	d := decoder{data: data}
	r := accountRec{generation: d.uint(), uidValidity: d.uint(), nextBox: d.uint(), nextMsg: d.uint()}
	if len(d.data) > 0 {
		r.user = d.string()
	}
	return r, d.err("account record")
}

// node is a mailbox in the tree.
type node struct {
	name        string
	num         boxNum
	uidValidity imap.UIDValidity
	noSelect    bool // only a parent: it has no rows
	uses        []imap.MailboxAttr
}

func (n *node) encode() []byte {
	flags := uint64(0)
	if n.noSelect {
		flags = 1
	}
	b := appendUints(nil, flags, uint64(n.uidValidity))
	b = appendString(b, n.name)
	b = binary.AppendUvarint(b, uint64(len(n.uses)))
	for _, u := range n.uses {
		b = appendString(b, string(u))
	}
	return b
}

func decodeNode(num boxNum, data []byte) (*node, error) {
	d := decoder{data: data}
	n := &node{num: num, noSelect: d.uint()&1 != 0, uidValidity: imap.UIDValidity(d.uint()), name: d.string()}
	for _, u := range d.strings() {
		n.uses = append(n.uses, imap.MailboxAttr(u))
	}
	return n, d.err("mailbox record")
}

// counters are what changes in a mailbox with nearly every commit.
type counters struct {
	uidNext       imap.UID
	highest       imap.ModSeq
	firstRecent   imap.UID
	recent        uint64 // rows from firstRecent on
	floor         imap.ModSeq
	historyRanges uint64
	messages      uint64
	unseen        uint64
	deleted       uint64
	size, delSize int64
	loose         uint64 // loose records, or more: those that were written since rows were last folded
}

func (c *counters) encode() []byte {
	return appendUints(make([]byte, 0, 48), uint64(c.uidNext), uint64(c.highest), uint64(c.firstRecent), c.recent,
		uint64(c.floor), c.historyRanges, c.messages, c.unseen, c.deleted, uint64(c.size), uint64(c.delSize), c.loose)
}

func decodeCounters(data []byte) (counters, error) {
	d := decoder{data: data}
	c := counters{
		imap.UID(d.uint()), imap.ModSeq(d.uint()), imap.UID(d.uint()), d.uint(),
		imap.ModSeq(d.uint()), d.uint(), d.uint(), d.uint(), d.uint(), int64(d.uint()), int64(d.uint()), d.uint(),
	}
	return c, d.err("mailbox counters")
}

// count adds a row to the counters, or with sign -1 takes it away.
func (c *counters) count(uid imap.UID, bits mailindex.FlagBits, size uint32, sign int) {
	u := uint64(sign)
	c.messages += u
	c.size += int64(sign) * int64(size)
	if bits&mailindex.BitSeen == 0 {
		c.unseen += u
	}
	if bits&mailindex.BitDeleted != 0 {
		c.deleted += u
		c.delSize += int64(sign) * int64(size)
	}
	if uid >= c.firstRecent {
		c.recent += u
	}
}

// appendRow encodes a row; flags is what appendFlags gives.
func appendRow(dst []byte, r *mailindex.Row, flags []byte) []byte {
	dst = appendUints(dst, r.Msg, uint64(r.Size), uint64(r.ModSeq), uint64(r.SaveDate))
	dst = binary.AppendVarint(dst, int64(r.Date))
	return append(dst, flags...)
}

// decodeRow decodes a row but for its flags, which it returns as they are.
func decodeRow(uid imap.UID, data []byte) (r mailindex.Row, flags []byte, err error) {
	d := decoder{data: data}
	r.UID, r.Msg, r.Size, r.ModSeq = uid, d.uint(), uint32(d.uint()), imap.ModSeq(d.uint())
	r.SaveDate = int64(d.uint())
	r.Date = imap.Time(d.int())
	if len(d.data) == 0 {
		d.bad = true
	}
	return r, d.data, d.err("row")
}

func uidOfRowKey(key []byte) imap.UID {
	return imap.UID(binary.BigEndian.Uint32(key[len(key)-4:]))
}

func numOfKey(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-8:]) }

// keywords are the names of a mailbox's keywords by number. The value is
// immutable: with returns another one.
type keywords struct {
	names  []imap.Flag
	number map[string]uint64
}

func newKeywords(names []imap.Flag) *keywords {
	k := &keywords{names: names, number: make(map[string]uint64, len(names))}
	for i, n := range names {
		k.number[n.Fold()] = uint64(i)
	}
	return k
}

// with returns k and the keywords of set that it lacks.
func (k *keywords) with(set *mailindex.FlagSet) *keywords {
	names := k.names
	for _, f := range set.Keywords() {
		if _, ok := k.number[f.Fold()]; !ok {
			names = append(slices.Clip(names), f)
		}
	}
	if len(names) == len(k.names) {
		return k
	}
	return newKeywords(names)
}

func (k *keywords) encode() []byte {
	b := appendUints(nil, uint64(len(k.names)))
	for _, n := range k.names {
		b = appendString(b, string(n))
	}
	return b
}

func decodeKeywords(data []byte) (*keywords, error) {
	d := decoder{data: data}
	var names []imap.Flag
	for _, s := range d.strings() {
		names = append(names, imap.Flag(s))
	}
	return newKeywords(names), d.err("keywords")
}

// appendFlags encodes flags as they stand in a row; k must know the keywords.
func (k *keywords) appendFlags(dst []byte, set *mailindex.FlagSet) []byte {
	dst = append(dst, byte(set.Bits()))
	for _, f := range set.Keywords() {
		dst = binary.AppendUvarint(dst, k.number[f.Fold()])
	}
	return dst
}

// decodeFlags returns the flags of a row.
func (k *keywords) decodeFlags(data []byte) ([]imap.Flag, error) {
	if len(data) == 0 {
		return nil, imap.E("mailstore: read flags", imap.Corruption, errDamaged)
	}
	flags := mailindex.FlagBits(data[0]).List()
	d := decoder{data: data[1:]}
	for len(d.data) > 0 {
		n := d.uint()
		if n >= uint64(len(k.names)) {
			d.bad = true
			break
		}
		flags = append(flags, k.names[n])
	}
	return flags, d.err("flags")
}

// messageRec is what is known of a message without its digest.
type messageRec struct {
	ref       driver.Ref
	rawSize   int64 // of the blob
	size      int64 // as served
	headerLen int64 // of the header as served, with its blank line
	thread    uint64
	hasNUL    bool
}

func (m *messageRec) encode() []byte {
	flags := uint64(0)
	if m.hasNUL {
		flags = 1
	}
	return appendUints(make([]byte, 0, 48), flags, uint64(m.ref), uint64(m.rawSize), uint64(m.size), uint64(m.headerLen), m.thread)
}

func decodeMessage(data []byte) (messageRec, error) {
	d := decoder{data: data}
	m := messageRec{hasNUL: d.uint()&1 != 0, ref: driver.Ref(d.uint()), rawSize: int64(d.uint()),
		size: int64(d.uint()), headerLen: int64(d.uint()), thread: d.uint()}
	return m, d.err("message record")
}

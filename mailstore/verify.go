package mailstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// VerifyOptions say how a Verify goes about it. The zero value is good.
type VerifyOptions struct {
	// Progress is told how many bytes of messages have been read in all.
	Progress func(bytes int64)
	// Found is called for each defect as it is found. nil collects them in
	// VerifyResult.Defects instead.
	Found func(Defect)
}

// VerifyResult says what a Verify has looked at.
type VerifyResult struct {
	Accounts, Mailboxes int
	Messages            int   // records; one that is in two mailboxes counts once
	Bytes               int64 // of messages read
	Defects             []Defect
}

// Verify does what Check does, and reads every message to compare it with its
// checksums. It changes nothing and may run beside anything; what goes away
// meanwhile is no defect. A part of the index that cannot be read is a defect,
// and the check goes on with the rest. The error is for what keeps the check
// from being made at all.
func (s *Store) Verify(ctx context.Context, opts VerifyOptions) (*VerifyResult, error) {
	res := &VerifyResult{}
	if opts.Found == nil {
		opts.Found = func(d Defect) { res.Defects = append(res.Defects, d) }
	}
	list, err := s.Accounts(ctx)
	if imap.KindOf(err) == imap.Corruption {
		opts.Found(Defect{Text: fmt.Sprintf("the list of accounts cannot be read: %v", err)})
		return res, nil
	}
	if err != nil {
		return nil, err
	}
	numbers := make(map[uint64]string)
	for _, info := range list {
		if other, ok := numbers[info.Number]; ok {
			opts.Found(Defect{Account: info.Name, Text: "has the same number as " + other})
			continue
		}
		numbers[info.Number] = info.Name
		c := &checker{store: s, num: driver.Account(info.Number), user: info.Name}
		c.contents = func(ctx context.Context) error { return c.readAll(ctx, res, opts.Progress) }
		if err := c.run(ctx); err != nil {
			return nil, imap.E("mailstore: check account "+info.Name, imap.Other, err)
		}
		for _, d := range c.defects {
			opts.Found(d)
		}
		res.Accounts++
		if c.tree != nil {
			res.Mailboxes += len(c.tree.byNum)
		}
	}
	return res, nil
}

// damaged notes err as a defect if that is what it is, and returns it if not.
func (c *checker) damaged(n *node, what string, err error) error {
	if !isDamage(err) {
		return err
	}
	c.blind = true
	c.found(n, 0, "%s cannot be read: %v", what, err)
	return nil
}

// isDamage tells what is wrong with the data from what keeps the check from
// being made.
func isDamage(err error) bool {
	switch imap.KindOf(err) {
	case imap.Corruption:
		return true
	case imap.Other:
		return err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
	}
	return errors.Is(err, syscall.EIO) // a sector that the disk has lost
}

// recordNames are for people.
var recordNames = map[byte]string{keyDigest: "digest", keyFields: "record of header fields", keyText: "search text"}

// oneByOne finds the records of messages that are in mailboxes, when they
// cannot be read in one go, and tells which are damaged.
func (c *checker) oneByOne(r driver.Reader) error {
	last, known := uint64(0), len(c.messages)
	for _, p := range c.sortedPlaces() {
		if p.msg == last {
			continue
		}
		last = p.msg
		if _, ok := slices.BinarySearchFunc(c.messages[:known], p.msg, compareMessage); ok {
			continue
		}
		data, ok, err := r.Get(numKey(keyMessage, p.msg))
		var rec messageRec
		if err == nil && ok {
			rec, err = decodeMessage(data)
		}
		switch {
		case isDamage(err):
			c.foundMessage(p.msg, "has a record that cannot be read: %v", err)
		case err != nil:
			return err
		case !ok:
			c.foundMessage(p.msg, "is in a row, but has no record")
		default:
			c.messages = append(c.messages, checked(p.msg, rec))
		}
	}
	slices.SortFunc(c.messages, func(a, b checkedMessage) int { return cmp.Compare(a.msg, b.msg) })
	return nil
}

// checkedMessage is what a check keeps of a message's record: there may be
// millions.
type checkedMessage struct {
	msg     uint64
	ref     driver.Ref
	rawSize int64
	size    uint32 // as rows have it
}

func checked(msg uint64, rec messageRec) checkedMessage {
	return checkedMessage{msg, rec.ref, rec.rawSize, uint32(min(rec.size, 1<<32-1))}
}

func compareMessage(m checkedMessage, msg uint64) int { return cmp.Compare(m.msg, msg) }

// knows reports whether a message has a record.
func (c *checker) knows(msg uint64) bool {
	_, ok := slices.BinarySearchFunc(c.messages, msg, compareMessage)
	return ok
}

// tally counts by message. Numbers lie close together, so it counts in pages.
type tally map[uint64]*[tallyPage]uint32

const tallyPage = 1024

func (t tally) add(msg uint64) {
	page := t[msg/tallyPage]
	if page == nil {
		page = new([tallyPage]uint32)
		t[msg/tallyPage] = page
	}
	page[msg%tallyPage]++
}

func (t tally) of(msg uint64) uint64 {
	if page := t[msg/tallyPage]; page != nil {
		return uint64(page[msg%tallyPage])
	}
	return 0
}

// all calls yield for each message that was counted, in no order.
func (t tally) all(yield func(msg uint64) bool) {
	for n, page := range t {
		for i, count := range page {
			if count > 0 && !yield(n*tallyPage+uint64(i)) {
				return
			}
		}
	}
}

// messagePlace is a place in a mailbox that a message has.
type messagePlace struct {
	msg  uint64
	node *node
	uid  imap.UID
	size uint32
}

// locate remembers where messages are, and checks the order of UIDs.
func (c *checker) locate(n *node, snap *mailindex.Snapshot) {
	last := imap.UID(0)
	for _, row := range snap.Rows() {
		if row.UID <= last {
			c.found(n, row.UID, "comes behind the UID %d", last)
		}
		last = row.UID
		c.sorted = false
		c.places = append(c.places, messagePlace{row.Msg, n, row.UID, row.Size})
	}
	if next := snap.UIDNext(); last >= next {
		c.found(n, last, "is beyond UIDNEXT %d", next)
	}
}

func (c *checker) sortedPlaces() []messagePlace {
	if !c.sorted {
		slices.SortFunc(c.places, comparePlaces)
		c.sorted = true
	}
	return c.places
}

// placesOf returns the places of a message.
func (c *checker) placesOf(msg uint64) []messagePlace {
	compare := func(p messagePlace, msg uint64) int { return cmp.Compare(p.msg, msg) }
	c.sortedPlaces()
	i, _ := slices.BinarySearchFunc(c.places, msg, compare)
	j := i
	for j < len(c.places) && c.places[j].msg == msg {
		j++
	}
	return c.places[i:j]
}

func comparePlaces(a, b messagePlace) int {
	return cmp.Or(cmp.Compare(a.msg, b.msg), cmp.Compare(a.node.num, b.node.num), cmp.Compare(a.uid, b.uid))
}

// foundMessage notes a defect of a message, once for each place that it has.
func (c *checker) foundMessage(msg uint64, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	places := c.placesOf(msg)
	for _, p := range places {
		c.found(p.node, p.uid, "message %d %s", msg, text)
	}
	if len(places) == 0 {
		c.found(nil, 0, "message %d, which is in no mailbox, %s", msg, text)
	}
}

// foundContent is foundMessage for a message whose content is damaged or gone.
func (c *checker) foundContent(m checkedMessage, format string, args ...any) {
	known := len(c.defects)
	c.foundMessage(m.msg, format, args...)
	for i := range c.defects[known:] {
		c.defects[known+i].Ref = m.ref
	}
}

// rules checks the tree of mailboxes and the sizes of messages in their rows.
func (c *checker) rules(r driver.Reader) error {
	uses := make(map[imap.MailboxAttr]string)
	names := make(map[string]bool)
	for _, n := range c.tree.byNum {
		if names[n.name] {
			c.found(n, 0, "is the name of two mailboxes")
		}
		names[n.name] = true
		if err := checkMailboxName("", n.name); err != nil && n.name != imap.Inbox {
			c.found(n, 0, "has a name that it cannot have: %v", err)
		}
		for i := range n.name {
			if n.name[i] == Separator && c.tree.byName[n.name[:i]] == nil {
				c.found(n, 0, "has no parent %s", n.name[:i])
			}
		}
		for _, use := range n.uses {
			if other, ok := uses[use.Canonical()]; ok {
				c.found(n, 0, "has the special use %s, and so has %s", use, other)
			}
			uses[use.Canonical()] = n.name
		}
	}
	states := make(map[boxNum]*boxState)
	if err := readStates(r, c.tree, states); err != nil {
		return err
	}
	for num, st := range states {
		n := c.tree.byNum[num]
		if n == nil {
			continue // boxes has told
		}
		if st.c.uidNext == 0 || st.c.firstRecent == 0 || st.c.firstRecent > st.c.uidNext {
			c.found(n, 0, "has UIDNEXT %d and first recent UID %d", st.c.uidNext, st.c.firstRecent)
		}
		if st.c.highest == 0 || st.c.highest > imap.MaxModSeq || st.c.floor > st.c.highest {
			c.found(n, 0, "has mod-sequence %d and history from %d", st.c.highest, st.c.floor)
		}
		if len(st.kw.number) != len(st.kw.names) {
			c.found(n, 0, "has a keyword twice: %v", st.kw.names)
		}
	}
	return nil
}

// history checks what is remembered of expunges (RFC 7162): nothing that is in
// the mailbox, nothing that has not happened, and as much as is counted.
func (c *checker) history(r driver.Reader, n *node, want *counters, snap *mailindex.Snapshot) error {
	ranges := uint64(0)
	var sets []imap.UIDSet
	err := scanPrefix(r, boxKey(keyHistory, n.num), func(key, value []byte) error {
		modseq := imap.ModSeq(numOfKey(key))
		set, _, err := mailindex.ReadUIDSet(value)
		if err != nil {
			return err
		}
		sets = append(sets, set)
		ranges += uint64(len(set.Ranges()))
		if modseq <= want.floor || modseq > want.highest {
			c.found(n, 0, "remembers an expunge at mod-sequence %d, which is not between %d and %d", modseq, want.floor, want.highest)
		}
		return nil
	})
	expunged := mailindex.UnionAll(sets)
	if list := expunged.Ranges(); len(list) > 0 {
		if last := list[len(list)-1].Stop; last >= want.uidNext {
			c.found(n, last, "is remembered as expunged and is beyond UIDNEXT %d", want.uidNext)
		}
		for _, row := range snap.Rows() {
			if expunged.Contains(row.UID) {
				c.found(n, row.UID, "is remembered as expunged, but is there")
			}
		}
	}
	if err == nil && ranges != want.historyRanges {
		c.found(n, 0, "remembers %d ranges of expunged UIDs, and has counted %d", ranges, want.historyRanges)
	}
	return err
}

// readAll reads every message, in the order in which they were stored.
func (c *checker) readAll(ctx context.Context, res *VerifyResult, progress func(int64)) error {
	slices.SortFunc(c.messages, func(a, b checkedMessage) int { return cmp.Compare(a.ref, b.ref) })
	buf := make([]byte, 256<<10)
	for _, m := range c.messages {
		if err := ctx.Err(); err != nil {
			return err
		}
		msg := m.msg
		n, err := c.readBlob(ctx, m, buf)
		res.Messages++
		res.Bytes += n
		if progress != nil {
			progress(res.Bytes)
		}
		if err == nil {
			for _, p := range c.placesOf(msg) {
				if p.size != m.size {
					c.found(p.node, p.uid, "has size %d, its message %d", p.size, m.size)
				}
			}
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch imap.KindOf(err) {
		case imap.NotFound:
			if gone, gerr := c.taken(ctx, msg); gerr != nil || gone {
				if gerr != nil {
					return gerr
				}
				continue
			}
			c.foundContent(m, "is lost: its content is nowhere in the store")
		case imap.Closed:
			return err
		default:
			c.foundContent(m, "cannot be read: %v", err)
		}
	}
	return nil
}

// readBlob reads the content of a message.
func (c *checker) readBlob(ctx context.Context, m checkedMessage, buf []byte) (n int64, err error) {
	blob, err := c.store.blobs.Open(ctx, c.num, m.ref)
	if err != nil {
		return 0, err
	}
	defer blob.Close()
	if blob.Size() != m.rawSize {
		return 0, imap.E("mailstore: check", imap.Corruption, fmt.Errorf("it has %d bytes, and %d are expected", blob.Size(), m.rawSize))
	}
	return io.CopyBuffer(io.Discard, struct{ io.Reader }{io.NewSectionReader(blob, 0, blob.Size())}, buf)
}

// taken reports whether a message has been taken away since the check began, as
// it should when it is in no mailbox any more.
func (c *checker) taken(ctx context.Context, msg uint64) (gone bool, err error) {
	err = c.store.kv.View(ctx, c.num, func(r driver.Reader) error {
		_, still, err := r.Get(numKey(keyMessage, msg))
		gone = !still
		return err
	})
	return gone, err
}

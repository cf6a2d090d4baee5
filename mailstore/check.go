package mailstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// Defect is something that a check has found wrong.
type Defect struct {
	Account string
	Mailbox string // "" where it is not about one
	UID     imap.UID
	Ref     driver.Ref // of the message whose content is damaged or gone, else 0
	Text    string
}

// String returns the defect as one line.
func (d Defect) String() string {
	s := d.Account
	if d.Mailbox != "" {
		s += " " + d.Mailbox
	}
	if d.UID != 0 {
		s += " UID " + d.UID.String()
	}
	return s + ": " + d.Text
}

// Check verifies the cross-references of all accounts: rows, counters, graves,
// messages, reference counts, blobs. It reads a consistent view of each
// account and may run beside anything. It does not read the messages
// themselves.
func (s *Store) Check(ctx context.Context) ([]Defect, error) {
	list, err := s.Accounts(ctx)
	if err != nil {
		return nil, err
	}
	var defects []Defect
	for _, info := range list {
		c := &checker{store: s, num: driver.Account(info.Number), user: info.Name}
		if err := c.run(ctx); err != nil {
			return nil, imap.E("mailstore: check account "+info.Name, imap.Other, err)
		}
		defects = append(defects, c.defects...)
	}
	return defects, nil
}

type checker struct {
	store   *Store
	num     driver.Account
	user    string
	defects []Defect

	rec       accountRec
	tree      *tree
	holders   tally            // rows on disk by message
	messages  []checkedMessage // by number
	pending   map[uint64]bool
	contents  func(ctx context.Context) error // in place of blobs
	places    []messagePlace                  // where messages are; see verify.go
	sorted    bool                            // places are, by message
	underived bool                            // what is derived need not be there
	blind     bool                            // a part of the index cannot be read: what is missing proves nothing
}

func (c *checker) found(n *node, uid imap.UID, format string, args ...any) {
	d := Defect{Account: c.user, UID: uid, Text: fmt.Sprintf(format, args...)}
	if n != nil {
		d.Mailbox = n.name
	}
	c.defects = append(c.defects, d)
}

func (c *checker) run(ctx context.Context) error {
	err := c.store.kv.View(ctx, c.num, func(r driver.Reader) error {
		c.defects, c.places, c.blind, c.tree = nil, nil, false, nil
		c.holders, c.messages, c.pending = make(tally), nil, make(map[uint64]bool)
		return c.index(r)
	})
	if err != nil {
		return err
	}
	if c.contents != nil {
		return c.contents(ctx)
	}
	return c.blobs(ctx)
}

// index checks all that one view of the account has. Damage does not end the
// check of what is not damaged.
func (c *checker) index(r driver.Reader) error {
	data, ok, err := r.Get([]byte{keyAccount})
	if err == nil && !ok {
		return nil // an account that nobody has used yet
	}
	if err == nil {
		c.rec, err = decodeAccount(data)
	}
	if err != nil {
		return c.damaged(nil, "the account record", err)
	}
	if c.tree, err = readTree(r); err != nil {
		return c.damaged(nil, "the list of mailboxes", err)
	}
	for _, step := range []struct {
		what string
		run  func(driver.Reader) error
	}{
		{"the mailboxes", c.boxes}, {"the tree of mailboxes", c.rules}, {"the rows of messages", c.rows}, {"the records of messages", c.records},
		{"the columns that SEARCH reads", c.columns}, {"the text index", c.textIndex},
	} {
		if err := c.damaged(nil, step.what, step.run(r)); err != nil {
			return err
		}
	}
	return nil
}

// boxes checks each mailbox: its index as it would be loaded, and its counters.
func (c *checker) boxes(r driver.Reader) error {
	states := make(map[boxNum]*boxState)
	if err := readStates(r, c.tree, states); err != nil {
		return err
	}
	validities := make(map[imap.UIDValidity]string)
	for num, n := range c.tree.byNum {
		if uint64(num) > c.rec.nextBox {
			c.found(n, 0, "has the number %d, which has not been given out", num)
		}
		if n.noSelect {
			continue
		}
		if other, ok := validities[n.uidValidity]; ok {
			c.found(n, 0, "has the same UIDVALIDITY as %s", other)
		}
		validities[n.uidValidity] = n.name
		if uint64(n.uidValidity) > c.rec.uidValidity {
			c.found(n, 0, "has a UIDVALIDITY that has not been given out")
		}
		st := states[num]
		if st == nil {
			c.found(n, 0, "has no counters")
			continue
		}
		snap, err := readRows(r, num, n.uidValidity, st)
		if err != nil {
			if err := c.damaged(n, "the index of the mailbox", err); err != nil {
				return err
			}
			continue
		}
		c.counters(n, &st.c, snap)
		c.locate(n, snap)
		if err := c.damaged(n, "the history of expunges", c.history(r, n, &st.c, snap)); err != nil {
			return err
		}
	}
	for num := range states {
		if c.tree.byNum[num] == nil {
			c.found(nil, 0, "counters of mailbox %d, which does not exist", num)
		}
	}
	return nil
}

func (c *checker) counters(n *node, want *counters, snap *mailindex.Snapshot) {
	got := counters{
		uidNext: want.uidNext, highest: want.highest, firstRecent: want.firstRecent, recent: uint64(snap.Recent()),
		floor: want.floor, historyRanges: want.historyRanges, messages: uint64(snap.Len()), unseen: uint64(snap.Unseen()),
		deleted: uint64(snap.Deleted()), size: snap.Size(), delSize: snap.DeletedSize(), loose: want.loose,
	}
	if got != *want {
		c.found(n, 0, "counters are %+v, the rows make %+v", *want, got)
	}
	for _, row := range snap.Rows() {
		if row.ModSeq > want.highest || row.ModSeq == 0 {
			c.found(n, row.UID, "mod-sequence %d is beyond the mailbox's %d", row.ModSeq, want.highest)
		}
	}
}

// rows counts who holds each message. Rows of mailboxes that are gone count
// too, as long as a grave names them.
func (c *checker) rows(r driver.Reader) error {
	graves := make(map[boxNum]imap.UIDSet)
	err := scanPrefix(r, []byte{keyGrave}, func(key, value []byte) error {
		set, _, err := mailindex.ReadUIDSet(value)
		num := boxOfKey(key)
		graves[num] = graves[num].Union(set)
		return err
	})
	if err != nil {
		return err
	}
	nums, err := rowBoxes(r)
	if err != nil {
		return err
	}
	for _, num := range nums {
		if err := c.rowsOf(r, num, graves[num]); err != nil {
			return err
		}
	}
	return nil
}

// rowBoxes returns the mailboxes that have rows on disk.
func rowBoxes(r driver.Reader) (nums []boxNum, err error) {
	for _, kind := range []byte{keyPage, keyLoose} {
		for from := []byte{kind}; from != nil; {
			next := []byte(nil)
			err := scanRange(r, from, prefixEnd([]byte{kind}), func(key, _ []byte) error {
				nums = append(nums, boxOfKey(key))
				next = prefixEnd(boxKey(kind, boxOfKey(key)))
				return errEnough
			})
			if err != nil && !errors.Is(err, errEnough) {
				return nil, err
			}
			from = next
		}
	}
	slices.Sort(nums)
	return slices.Compact(nums), nil
}

// rowsOf checks the rows of one mailbox.
func (c *checker) rowsOf(r driver.Reader, num boxNum, buried imap.UIDSet) error {
	n := c.tree.byNum[num]
	var counts counters
	if data, ok, err := r.Get(boxKey(keyCounters, num)); err != nil {
		return err
	} else if ok {
		if counts, err = decodeCounters(data); err != nil {
			return err
		}
	}
	loose, before := uint64(0), imap.UID(0)
	var codes codes
	reader := rowReader{r: r, box: num, intern: codes.number}
	err := reader.units(1, 1<<32-1, func(u *unit) error {
		for _, uid := range u.loose {
			if !buried.Contains(uid) {
				loose++
			}
		}
		for i, uid := range u.rows.UIDs {
			c.holders.add(u.rows.Msgs[i])
			switch {
			case n == nil && !buried.Contains(uid):
				c.found(nil, uid, "is a row of mailbox %d, which does not exist", num)
			case n != nil && uid >= counts.uidNext && !buried.Contains(uid):
				c.found(n, uid, "has a UID beyond UIDNEXT %d", counts.uidNext)
			}
			before = uid
		}
		return nil
	})
	if err != nil {
		return c.damaged(n, fmt.Sprintf("what follows UID %d in mailbox %d", before, num), err)
	}
	if n != nil && loose > counts.loose {
		c.found(n, 0, "has %d loose rows and counts %d", loose, counts.loose)
	}
	return nil
}

// records checks messages against the rows that hold them.
func (c *checker) records(r driver.Reader) error {
	err := scanPrefix(r, []byte{keyPending}, func(key, value []byte) error {
		d := decoder{data: value}
		for i := range d.uint() {
			c.pending[numOfKey(key)+i] = true
		}
		return d.err("pending record")
	})
	if err != nil {
		return err
	}
	refs := make(map[uint64]uint64)
	err = scanPrefix(r, []byte{keyRefs}, func(key, value []byte) error {
		d := decoder{data: value}
		refs[numOfKey(key)] = d.uint()
		return d.err("reference count")
	})
	if err != nil {
		return err
	}
	err = scanPrefix(r, []byte{keyMessage}, func(key, value []byte) error {
		rec, err := decodeMessage(value)
		if err == nil {
			c.messages = append(c.messages, checked(numOfKey(key), rec))
		}
		return err
	})
	if err := c.damaged(nil, "the records of messages", err); err != nil {
		return err
	}
	if err != nil {
		if err := c.oneByOne(r); err != nil {
			return err
		}
	}
	texts, err := textMark(r)
	if err != nil {
		return err
	}
	for _, m := range c.messages {
		msg := m.msg
		held, counted := c.holders.of(msg), uint64(1)
		if n, ok := refs[msg]; ok {
			counted = n
		}
		if held != counted && !c.pending[msg] && !c.blind {
			c.foundMessage(msg, "is in %d rows and counted in %d", held, counted)
		}
		if msg > c.rec.nextMsg {
			c.foundMessage(msg, "has a number that has not been given out")
		}
		if c.underived {
			continue
		}
		for _, kind := range []byte{keyDigest, keyFields, keyText} {
			_, ok, err := r.Get(numKey(kind, msg))
			switch {
			case isDamage(err):
				c.foundMessage(msg, "has a %s that cannot be read: %v", recordNames[kind], err)
			case err != nil:
				return err
			case !ok && kind == keyText && msg > texts: // it is made in the background
			case !ok && kind != keyFields: // which older stores have not
				c.foundMessage(msg, "lacks its %s", recordNames[kind])
			}
		}
	}
	for msg := range c.holders.all {
		if !c.blind && !c.knows(msg) {
			c.foundMessage(msg, "is in a row, but has no record")
		}
	}
	c.holders = nil // from here on only memory
	for msg := range refs {
		if !c.blind && !c.knows(msg) {
			c.found(nil, 0, "message %d is counted, but has no record", msg)
		}
	}
	return nil
}

// blobs checks that each message that is still there has its blob.
func (c *checker) blobs(ctx context.Context) error {
	sizes := make(map[driver.Ref]int64)
	err := c.store.blobs.List(ctx, c.num, func(ref driver.Ref, info driver.BlobInfo) error {
		sizes[ref] = info.Size
		return nil
	})
	if err != nil {
		return err
	}
	return c.store.kv.View(ctx, c.num, func(r driver.Reader) error {
		for _, m := range c.messages {
			msg := m.msg
			size, ok := sizes[m.ref]
			if ok && size == m.rawSize {
				continue
			}
			// It may have been taken away meanwhile, as it should.
			if _, still, err := r.Get(numKey(keyMessage, msg)); err != nil {
				return err
			} else if !still {
				continue
			}
			if !ok {
				c.foundMessage(msg, "has no blob")
			} else {
				c.foundMessage(msg, "has %d bytes, its blob %d", m.rawSize, size)
			}
		}
		return nil
	})
}

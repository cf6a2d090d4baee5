package mailstore

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// Separator is the hierarchy separator of mailbox names.
const Separator = '/'

const sep = string(Separator)

// Bounds of mailbox names.
const (
	maxNameBytes = 500
	maxNameDepth = 50
)

// tree holds all mailboxes and subscriptions of an account. It is immutable.
type tree struct {
	byName map[string]*node
	byNum  map[boxNum]*node
	subs   map[string]struct{}
}

func (t *tree) clone() *tree {
	return &tree{maps.Clone(t.byName), maps.Clone(t.byNum), maps.Clone(t.subs)}
}

func (t *tree) put(n *node) {
	if old := t.byNum[n.num]; old != nil {
		delete(t.byName, old.name)
	}
	t.byName[n.name], t.byNum[n.num] = n, n
}

func (t *tree) remove(n *node) {
	delete(t.byName, n.name)
	delete(t.byNum, n.num)
}

// below returns the mailboxes below name, sorted.
func (t *tree) below(name string) []*node {
	var list []*node
	for other, n := range t.byName {
		if strings.HasPrefix(other, name+sep) {
			list = append(list, n)
		}
	}
	slices.SortFunc(list, compareNodes)
	return list
}

// compareNodes puts a parent before its children.
func compareNodes(a, b *node) int { return compareNames(a.name, b.name) }

// compareNames compares by bytes, with the separator below all others.
func compareNames(a, b string) int {
	for i := range min(len(a), len(b)) {
		if x, y := a[i], b[i]; x != y {
			switch {
			case x == Separator:
				return -1
			case y == Separator:
				return 1
			}
			return cmp.Compare(x, y)
		}
	}
	return cmp.Compare(len(a), len(b))
}

func readTree(r driver.Reader) (*tree, error) {
	t := &tree{make(map[string]*node), make(map[boxNum]*node), make(map[string]struct{})}
	err := scanPrefix(r, []byte{keyBox}, func(key, value []byte) error {
		n, err := decodeNode(boxOfKey(key), value)
		if err == nil {
			t.put(n)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	err = scanPrefix(r, []byte{keySub}, func(key, _ []byte) error {
		t.subs[string(key[1:])] = struct{}{}
		return nil
	})
	return t, err
}

// checkMailboxName refuses names that no mailbox of this store can have.
func checkMailboxName(op, name string) error {
	normal, err := imap.NormalizeMailbox(name, Separator)
	if err != nil {
		return imap.E(op, imap.Other, err)
	}
	switch {
	case normal != name:
		return &imap.Error{Op: op, Kind: imap.Cannot, Text: "the mailbox name is not in its normal form"}
	case len(name) > maxNameBytes:
		return &imap.Error{Op: op, Kind: imap.Limit, Text: fmt.Sprintf("mailbox names have up to %d bytes", maxNameBytes)}
	case strings.Count(name, sep) >= maxNameDepth:
		return &imap.Error{Op: op, Kind: imap.Limit, Text: fmt.Sprintf("mailbox names have up to %d levels", maxNameDepth)}
	}
	return nil
}

// createBox makes a mailbox with its missing parents.
func (t *opTx) createBox(name string, uses []imap.MailboxAttr) (*node, error) {
	if err := t.createParents(name); err != nil {
		return nil, err
	}
	t.rec.nextBox++
	return t.createNumbered(name, uses, boxNum(t.rec.nextBox))
}

// createNumbered makes a mailbox with a number that has been reserved.
func (t *opTx) createNumbered(name string, uses []imap.MailboxAttr, num boxNum) (*node, error) {
	old := t.tree.byName[name]
	if old != nil && !old.noSelect {
		return nil, imap.Exists
	}
	if err := t.checkUses(uses); err != nil {
		return nil, err
	}
	tree := t.tree.clone()
	if old != nil {
		// A parent that could not be selected becomes a mailbox of its own.
		tree.remove(old)
		t.delete(boxKey(keyBox, old.num))
	}
	if limit := t.a.store.opts.MaxMailboxes; len(tree.byNum) >= limit {
		return nil, &imap.Error{Kind: imap.Limit, Text: fmt.Sprintf("an account has up to %d mailboxes", limit)}
	}
	n := &node{name: name, num: num, uses: uses, uidValidity: t.rec.newUIDValidity(t.a.store.now())}
	tree.put(n)
	t.tree = tree
	t.set(boxKey(keyBox, n.num), n.encode())
	st := &boxState{c: counters{uidNext: 1, highest: 1, firstRecent: 1}, kw: newKeywords(nil)}
	t.setCounters(n.num, st)
	return n, nil
}

// latestClock is what a clock may say at most (in the year 2105). One that says
// more is wrong, and would use up all values of UIDVALIDITY at once.
const latestClock = 1<<32 - 1<<24

// newUIDValidity returns a value greater than any that the account has used,
// whatever the clock says now or has said before.
func (r *accountRec) newUIDValidity(now time.Time) imap.UIDValidity {
	clock := now.Unix()
	if clock < 1 || clock > latestClock {
		clock = 1
	}
	r.uidValidity = max(r.uidValidity+1, uint64(clock))
	return imap.UIDValidity(min(r.uidValidity, 1<<32-1))
}

func (t *opTx) createParents(name string) error {
	for i := range len(name) {
		if name[i] == Separator && t.tree.byName[name[:i]] == nil {
			if _, err := t.createBox(name[:i], nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkUses refuses special uses that another mailbox has, or that need a
// mailbox which is not there for messages of its own (RFC 6154 section 3).
func (t *opTx) checkUses(uses []imap.MailboxAttr) error {
	for _, use := range uses {
		use = use.Canonical()
		if !use.IsSpecialUse() || use == imap.AttrAll || use == imap.AttrFlagged {
			return &imap.Error{Kind: imap.UseAttr, Text: fmt.Sprintf("no mailbox can be made with the use %s", use)}
		}
		for _, n := range t.tree.byName {
			if slices.Contains(n.uses, use) {
				return &imap.Error{Kind: imap.UseAttr, Text: fmt.Sprintf("the mailbox %s has the use %s already", n.name, use)}
			}
		}
	}
	return nil
}

// countersBytes is about what the record of counters takes, at most.
const countersBytes = 120

// setCounters stores a new state of a mailbox.
func (t *opTx) setCounters(num boxNum, st *boxState) {
	t.change(num, st)
	t.counted = append(t.counted, num)
	t.size += countersBytes
}

// Create makes a mailbox, and missing parents with it, and returns its object
// identifier. uses are its special uses, at most one mailbox has each. Kinds
// Exists, UseAttr, Limit.
func (a *Account) Create(ctx context.Context, name string, uses []imap.MailboxAttr) (imap.ObjectID, error) {
	opName := "mailstore: create " + name
	if err := checkMailboxName(opName, name); err != nil {
		return "", err
	}
	canonical := make([]imap.MailboxAttr, 0, len(uses))
	for _, u := range uses {
		canonical = append(canonical, u.Canonical())
	}
	slices.Sort(canonical)
	canonical = slices.Compact(canonical)
	var n *node
	err := a.submit(ctx, &op{weight: 2000, run: func(t *opTx) (err error) {
		n, err = t.createBox(name, canonical)
		return err
	}})
	if err != nil {
		return "", imap.E(opName, imap.Other, err)
	}
	return mailboxID(n.num), nil
}

// Delete removes a mailbox and its messages. Where it has children its name
// stays as a parent that cannot be selected. Kinds NotFound, HasChildren (for
// such a parent), Cannot (for INBOX).
func (a *Account) Delete(ctx context.Context, name string) error {
	opName := "mailstore: delete " + name
	if name == imap.Inbox {
		return &imap.Error{Op: opName, Kind: imap.Cannot, Text: "INBOX cannot be deleted"}
	}
	err := a.submit(ctx, &op{weight: 1000, run: func(t *opTx) error { return t.deleteBox(name) }})
	if err != nil {
		return imap.E(opName, imap.Other, err)
	}
	a.reap()
	return nil
}

func (t *opTx) deleteBox(name string) error {
	n := t.tree.byName[name]
	if n == nil {
		return imap.NotFound
	}
	hasChildren := len(t.tree.below(name)) > 0
	if n.noSelect && hasChildren {
		return imap.HasChildren
	}
	tree := t.tree.clone()
	tree.remove(n)
	t.delete(boxKey(keyBox, n.num))
	if hasChildren {
		parent := &node{name: name, num: boxNum(t.rec.nextBox + 1), noSelect: true}
		t.rec.nextBox++
		tree.put(parent)
		t.set(boxKey(keyBox, parent.num), parent.encode())
	}
	t.tree = tree
	if n.noSelect {
		return nil
	}
	t.delete(boxKey(keyCounters, n.num))
	t.delete(boxKey(keyKeywords, n.num))
	// Rows and messages go when nobody reads them any more.
	t.dig(n.num, imap.MaxModSeq, imap.UIDSetOfRange(1, 1<<32-1))
	t.change(n.num, nil)
	return nil
}

// Rename gives a mailbox and all below it another name, making missing
// parents. Renaming INBOX moves its messages to a new mailbox and leaves INBOX
// and its children (RFC 9051 section 6.3.6). Mailboxes keep their UIDs,
// UIDVALIDITY and object identifiers. Kinds NotFound, Exists, Cannot.
func (a *Account) Rename(ctx context.Context, from, to string) error {
	opName := "mailstore: rename " + from
	if err := checkMailboxName(opName, to); err != nil {
		return err
	}
	if from == imap.Inbox {
		return a.renameInbox(ctx, opName, to)
	}
	err := a.submit(ctx, &op{weight: 100_000, run: func(t *opTx) error { return t.renameBox(from, to) }})
	if err != nil {
		return imap.E(opName, imap.Other, err)
	}
	return nil
}

func (t *opTx) renameBox(from, to string) error {
	n := t.tree.byName[from]
	switch {
	case n == nil:
		return imap.NotFound
	case t.tree.byName[to] != nil:
		return imap.Exists
	case strings.HasPrefix(to, from+sep):
		return &imap.Error{Kind: imap.Cannot, Text: "a mailbox cannot be moved below itself"}
	}
	moving := append([]*node{n}, t.tree.below(from)...)
	if err := t.createParents(to); err != nil {
		return err
	}
	tree := t.tree.clone()
	for _, old := range moving {
		renamed := *old
		renamed.name = to + strings.TrimPrefix(old.name, from)
		if err := checkMailboxName("", renamed.name); err != nil {
			return err
		}
		if tree.byName[renamed.name] != nil {
			return imap.Exists
		}
		tree.put(&renamed)
		t.set(boxKey(keyBox, renamed.num), renamed.encode())
	}
	t.tree = tree
	return nil
}

// renameInbox makes a mailbox and moves all messages of INBOX there.
func (a *Account) renameInbox(ctx context.Context, opName, to string) error {
	move := &transfer{a: a.account, move: true, all: true, dest: to, create: true}
	move.src = a.tree.Load().byName[imap.Inbox].num
	if err := move.submit(ctx); err != nil {
		return imap.E(opName, imap.Other, err)
	}
	return nil
}

// Subscribe adds a name to the subscriptions or takes it away. There need not
// be a mailbox of that name.
func (a *Account) Subscribe(ctx context.Context, name string, on bool) error {
	opName := "mailstore: subscribe " + name
	if on {
		if err := checkMailboxName(opName, name); err != nil {
			return err
		}
	}
	err := a.submit(ctx, &op{weight: 1000, run: func(t *opTx) error {
		if _, ok := t.tree.subs[name]; ok == on {
			return nil
		}
		tree := t.tree.clone()
		if on {
			if len(tree.subs) >= t.a.store.opts.MaxMailboxes {
				return &imap.Error{Kind: imap.Limit, Text: "too many subscriptions"}
			}
			tree.subs[name] = struct{}{}
			t.set(nameKey(keySub, name), nil)
		} else {
			delete(tree.subs, name)
			t.delete(nameKey(keySub, name))
		}
		t.tree = tree
		return nil
	}})
	if err != nil {
		return imap.E(opName, imap.Other, err)
	}
	return nil
}

// MailboxInfo describes a mailbox, or a subscription without one.
type MailboxInfo struct {
	Name       string
	NoSelect   bool // exists only as a parent
	Missing    bool // is subscribed to, but does not exist
	Subscribed bool
	SpecialUse []imap.MailboxAttr
	ID         imap.ObjectID // empty where it cannot be selected
}

// Mailboxes returns all mailboxes and subscriptions by name, a parent before its children.
func (a *Account) Mailboxes() []MailboxInfo {
	t := a.tree.Load()
	list := make([]MailboxInfo, 0, len(t.byName))
	for _, n := range t.byName {
		_, subscribed := t.subs[n.name]
		info := MailboxInfo{Name: n.name, NoSelect: n.noSelect, Subscribed: subscribed, SpecialUse: slices.Clone(n.uses)}
		if !n.noSelect {
			info.ID = mailboxID(n.num)
		}
		list = append(list, info)
	}
	for name := range t.subs {
		if t.byName[name] == nil {
			list = append(list, MailboxInfo{Name: name, Missing: true, Subscribed: true})
		}
	}
	slices.SortFunc(list, func(x, y MailboxInfo) int { return compareNames(x.Name, y.Name) })
	return list
}

// unixNow is the save date of what comes in now.
func unixNow(now time.Time) int64 { return max(now.Unix(), 1) }

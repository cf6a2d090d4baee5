package mailstore

import (
	"errors"
	"fmt"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
)

// A keyword keeps its number as long as any row has it, also one that is
// expunged and not taken away yet. Up to the limit numbers are never given to
// another one, since finding out which are in use takes a look at the mailbox.
// From there on a new keyword gets the number of one that no row has any more,
// and what counts is what messages have before a change and what it adds: that
// does not depend on when expunged rows are taken away, nor on how many
// transactions a change takes.

// buriedKeywords is how many times the limit the numbers may go to where expunged
// rows still hold them.
const buriedKeywords = 4

func (t *opTx) checkKeywords(n int) error {
	if limit := t.a.store.opts.MaxKeywords; n > limit {
		return &imap.Error{Kind: imap.Limit, Text: fmt.Sprintf("a mailbox has up to %d keywords", limit)}
	}
	return nil
}

// keywordUse is what keywords of a mailbox count, in a change at the limit.
type keywordUse struct {
	live   map[string]struct{} // that rows had before, and that this change gives to rows
	buried []bool              // numbers that expunged rows have; nil before it is asked for
}

// add counts the keywords of a combination, and reports whether it has new ones.
func (u *keywordUse) add(set *mailindex.FlagSet) (grown bool) {
	n := len(u.live)
	for _, f := range set.Keywords() {
		u.live[f.Fold()] = struct{}{}
	}
	return len(u.live) > n
}

// fitKeywords returns k, which is e.kw with more keywords, as far as the limit
// allows, with numbers that nobody uses. sets are what rows are about to get.
func (e *boxEdit) fitKeywords(k *keywords, sets []*mailindex.FlagSet) (*keywords, error) {
	limit := e.t.a.store.opts.MaxKeywords
	if e.use == nil && len(k.names) <= limit || e.node == nil { // without node, it has been decided before
		return k, nil
	}
	if e.use == nil {
		// Rows as they are before count in any case: some of them are changed on
		// disk later, and sessions may copy what has just been expunged.
		use := &keywordUse{live: make(map[string]struct{})}
		if err := e.keywordsBefore(func(set *mailindex.FlagSet) { use.add(set) }); err != nil {
			return nil, err
		}
		for id := range e.codes {
			use.add(e.ed.Flags(id))
		}
		e.use = use
	}
	grown := false
	for _, set := range sets {
		grown = e.use.add(set) || grown
	}
	if grown {
		if err := e.t.checkKeywords(len(e.use.live)); err != nil {
			return nil, err
		}
	}
	return e.numberKeywords(k)
}

// numberKeywords gives the keywords that k has more than e.kw numbers that
// nobody uses.
func (e *boxEdit) numberKeywords(k *keywords) (*keywords, error) {
	known := len(e.kw.names)
	if known == len(k.names) {
		return k, nil
	}
	if e.use.buried == nil {
		e.use.buried = make([]bool, known)
		if err := e.keywordsBuried(e.use.buried); err != nil {
			return nil, err
		}
	}
	taken := func(n int) bool {
		_, live := e.use.live[k.names[n].Fold()]
		return live || n < len(e.use.buried) && e.use.buried[n]
	}
	names, free := slices.Clone(k.names[:known]), 0
	for _, name := range k.names[known:] {
		for free < known && taken(free) {
			free++
		}
		if free < known {
			names[free] = name
			free++
		} else {
			names = append(names, name)
		}
	}
	if most := buriedKeywords * e.t.a.store.opts.MaxKeywords; len(names) > most {
		return nil, e.t.checkKeywords(len(names))
	}
	return newKeywords(names), nil
}

// keywordsBefore calls note with what rows of the mailbox have.
func (e *boxEdit) keywordsBefore(note func(*mailindex.FlagSet)) error {
	base := e.base
	if base == nil {
		var err error
		if base, err = readRows(e.t.b.tx, e.num, e.node.uidValidity, &boxState{c: e.c, kw: e.oldKW}); err != nil {
			return err
		}
	}
	for id := range base.FlagSets() {
		if base.FlagCount(mailindex.FlagsID(id)) > 0 {
			note(base.Flags(mailindex.FlagsID(id)))
		}
	}
	return nil
}

// keywordsBuried notes the numbers in rows that are in graves.
func (e *boxEdit) keywordsBuried(live []bool) error {
	gone, err := buried(e.t.b.tx, e.num, &boxState{c: e.c})
	if err != nil || gone.IsEmpty() {
		return err
	}
	var codes codes
	reader := rowReader{r: e.t.b.tx, box: e.num, intern: codes.number}
	err = reader.visit(gone, func(*unit, []int) error { return nil })
	for _, code := range codes.list {
		if len(code) == 0 {
			return imap.E("mailstore: read flags", imap.Corruption, errDamaged)
		}
		d := decoder{data: code[1:]}
		for len(d.data) > 0 {
			if n := d.uint(); n < uint64(len(live)) {
				live[n] = true
			}
		}
		err = errors.Join(err, d.err("flags"))
	}
	return err
}

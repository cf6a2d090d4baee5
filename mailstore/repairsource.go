package mailstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"sort"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// accountRepair is the repair of one account.
type accountRepair struct {
	*repair
	num  driver.Account
	user string

	// doubt says that changes may have been acknowledged of which nothing is
	// known, and why; every UID that was given out may have been given out again.
	doubt  string
	proven bool       // nothing is missing in the journal that is of this account
	holes  []keyRange // of the old index, where it is the source and they cannot be read

	orphans map[driver.Ref]string // messages without a place, and why
	// removed are blobs that were named once and are not any more: what they
	// hold was expunged.
	removed map[driver.Ref]struct{}
	mended  bool // the records were written anew
	resized bool // sizes in records were wrong
	loss    bool // records of messages are missing
}

// keyRange is a range of keys, to excluded; nil is the end.
type keyRange struct{ from, to []byte }

func (k keyRange) contains(key []byte) bool {
	return bytes.Compare(key, k.from) >= 0 && (k.to == nil || bytes.Compare(key, k.to) < 0)
}

// gather brings what is known of the account into the new index, as it was
// written: the journal's, which is there, or the old index's, or that with the
// journal's in its holes.
func (a *accountRepair) gather(ctx context.Context) error {
	if !a.whole {
		if err := a.choose(ctx); err != nil {
			return err
		}
	}
	return a.findRemoved(ctx)
}

// findRemoved finds out what was expunged: messages that the journal knows, and of
// which there is no record any more.
func (a *accountRepair) findRemoved(ctx context.Context) error {
	a.removed = make(map[driver.Ref]struct{})
	if acct := a.opts.Journal.accounts[a.num]; acct != nil {
		maps.Copy(a.removed, acct.named)
	}
	return a.kv.View(ctx, a.num, func(r driver.Reader) error {
		return scanPrefix(r, []byte{keyMessage}, func(_, value []byte) error {
			if rec, err := decodeMessage(value); err == nil {
				delete(a.removed, rec.ref)
				a.top = max(a.top, rec.ref)
			}
			return nil
		})
	})
}

// choose brings into the new index what is believed, where the journal has not all.
func (a *accountRepair) choose(ctx context.Context) error {
	now, _, err := generation(ctx, a.kv, a.num)
	if err != nil {
		return err
	}
	old, known, err := generation(ctx, a.opts.Old, a.num)
	if err != nil {
		return err
	}
	if a.opts.JournalFound && a.opts.Journal.whole(a.num) && (known && old <= now || !known && !a.short) {
		a.proven = true
		return nil
	}
	if a.opts.Old == nil {
		a.doubt = "commits are missing in the journal of the index, and the index cannot be read"
		return nil
	}
	if known && old < now || a.opts.OldShort && a.opts.JournalFound {
		a.doubt = "the index has been set back, and the journal does not have all that came later"
		return nil
	}
	var found []write
	a.holes, err = scanAround(ctx, a.opts.Old, a.num, func(key, value []byte) {
		found = append(found, write{key: bytes.Clone(key), value: bytes.Clone(value)})
	})
	if err != nil {
		return err
	}
	if len(a.holes) > 0 {
		err := a.kv.View(ctx, a.num, func(r driver.Reader) error {
			for _, h := range a.holes {
				if err := r.Scan(h.from, h.to, func(key, value []byte) bool {
					if DerivedRange(a.num, key) == nil {
						found = append(found, write{key: bytes.Clone(key), value: bytes.Clone(value)})
					}
					return true
				}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := a.clear(ctx, []keyRange{{from: []byte{0}}}); err != nil {
		return err
	}
	return a.write(ctx, found)
}

// clear deletes ranges of keys of the account.
func (a *accountRepair) clear(ctx context.Context, ranges []keyRange) error {
	return a.kv.Update(ctx, a.num, func(tx driver.Txn) error {
		for _, k := range ranges {
			if err := tx.DeleteRange(k.from, k.to); err != nil {
				return err
			}
		}
		return nil
	})
}

// write writes records, in as many transactions as it takes: nobody sees the
// index before it is whole.
func (a *accountRepair) write(ctx context.Context, list []write) error {
	for len(list) > 0 {
		n, size := 0, 0
		for n < len(list) && (n == 0 || size+len(list[n].key)+len(list[n].value) < driver.MaxTxnBytes/2) {
			size += len(list[n].key) + len(list[n].value)
			n++
		}
		part := list[:n]
		err := a.kv.Update(ctx, a.num, func(tx driver.Txn) error {
			for _, w := range part {
				if err := tx.Set(w.key, w.value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// scanAround calls fn for all keys of an account that can be read and are not
// derived, and returns the ranges that cannot be read.
func scanAround(ctx context.Context, kv driver.KV, a driver.Account, fn func(key, value []byte)) (holes []keyRange, err error) {
	for from := []byte{0}; from != nil; {
		to := nextDerived(a, from)
		part, err := scanHoles(ctx, kv, a, from, to, fn)
		if err != nil {
			return nil, err
		}
		holes = append(holes, part...)
		if from = to; to != nil {
			from = DerivedRange(a, to)
			for from != nil && DerivedRange(a, from) != nil {
				from = DerivedRange(a, from)
			}
		}
	}
	return holes, nil
}

// nextDerived returns the first kind of derived keys behind from, nil for none.
func nextDerived(a driver.Account, from []byte) []byte {
	for kind := int(from[0]); kind < 256; kind++ {
		if key := []byte{byte(kind)}; DerivedRange(a, key) != nil {
			return key
		}
	}
	return nil
}

// scanHoles is scanAround for a range without derived keys.
func scanHoles(ctx context.Context, kv driver.KV, a driver.Account, from, to []byte, fn func(key, value []byte)) (holes []keyRange, err error) {
	for {
		last := slices.Clone(from)
		err := scanOnce(ctx, kv, a, from, to, func(key, value []byte) bool {
			fn(key, value)
			last = append(append(last[:0], key...), 0)
			return true
		})
		if err == nil {
			return holes, nil
		}
		if !isUnreadable(err) || ctx.Err() != nil {
			return nil, errors.Join(err, ctx.Err())
		}
		next, err := behindHole(ctx, kv, a, last, to)
		if err != nil {
			return nil, err
		}
		holes = append(holes, keyRange{last, next})
		if next == nil || to != nil && bytes.Compare(next, to) >= 0 {
			return holes, nil
		}
		from = next
	}
}

func scanOnce(ctx context.Context, kv driver.KV, a driver.Account, from, to []byte, fn func(key, value []byte) bool) error {
	return kv.View(ctx, a, func(r driver.Reader) error { return r.Scan(from, to, fn) })
}

// isUnreadable tells damage, also of a file that is gone, from an end of the
// store.
func isUnreadable(err error) bool {
	return isDamage(err) || imap.KindOf(err) == imap.Unavailable
}

// Places in the space of keys, for a search by halves: the first nine bytes.
const placeBytes = 9

func placeKey(kind byte, n uint64) []byte { return numKey(kind, n) }

// behindHole returns the first place behind from, and before to, at which the
// index can be read again; to where there is none.
func behindHole(ctx context.Context, kv driver.KV, a driver.Account, from, to []byte) ([]byte, error) {
	readable := func(key []byte) bool {
		if to != nil && bytes.Compare(key, to) >= 0 {
			return true
		}
		return scanOnce(ctx, kv, a, key, to, func(_, _ []byte) bool { return false }) == nil
	}
	padded := append(slices.Clone(from), make([]byte, placeBytes)...)
	kind, low := int(padded[0]), binary.BigEndian.Uint64(padded[1:placeBytes])
	for ; kind < 256; kind, low = kind+1, 0 {
		if to != nil && kind >= int(to[0]) {
			return to, ctx.Err()
		}
		// Steps that grow, and then halves.
		step := 0
		for step < 64 && low+1<<step > low && !readable(placeKey(byte(kind), low+1<<step)) {
			step++
		}
		if step == 64 || low+1<<step <= low {
			if kind < 255 && readable([]byte{byte(kind + 1)}) {
				return []byte{byte(kind + 1)}, ctx.Err()
			}
			continue
		}
		n := sort.Search(1<<min(step, 62), func(i int) bool { return readable(placeKey(byte(kind), low+1+uint64(i))) })
		return placeKey(byte(kind), low+1+uint64(n)), ctx.Err()
	}
	return to, ctx.Err()
}

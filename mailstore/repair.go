package mailstore

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// This file and the others that begin with repair make a whole index of what is
// left of one. The steps, for each account:
//
//	repairsource.go  what the journal says, or what can be read of the old index,
//	                 or both: keys and values as they were written
//	repairread.go    the mailboxes of that, as far as they can be understood
//	repairwrite.go   where they contradict each other: the records written anew
//	repairmail.go    every message read; what is derived of it made again; what is
//	                 lost named; what has no place put into Recovered
//
// docs/design/030-repair.md says why.

// RepairOptions say what a Repair has to work with.
type RepairOptions struct {
	// Old is the index as it is found; nil where it cannot be opened.
	Old driver.KV
	// OldShort says that Old lacks commits which it had once: it opens without them,
	// as if they had never been.
	OldShort bool
	// JournalFound says that the new index has been filled from a journal,
	// JournalWhole that nothing is missing in that, Torn that its end may be.
	JournalFound, JournalWhole, Torn bool
	// Journal was told of all that; nil knows nothing.
	Journal *JournalWitness
	// Accounts are those that messages belong to.
	Accounts []driver.Account
	// Deleted reports whether a blob is known to have been deleted, which comes behind
	// the commit that no longer names it. nil knows of none.
	Deleted func(driver.Ref) bool
	// Store are the options of the store.
	Store Options
	// Note is told of everything that is not as it was before. It is required.
	Note func(RepairNote)
	// Progress is told how many bytes of messages have been read in all.
	Progress func(bytes int64)
}

// RepairKind says what became of something.
type RepairKind string

// What a repair tells of.
const (
	RepairLost      RepairKind = "lost"      // it is not there any more
	RepairRecovered RepairKind = "recovered" // a message is in Recovered now
	RepairRenewed   RepairKind = "renewed"   // a mailbox has a new UIDVALIDITY
	RepairMended    RepairKind = "mended"    // records contradicted each other; nothing is lost by it
)

// RepairNote is something that is not as it was before.
type RepairNote struct {
	Kind RepairKind
	Defect
}

// RepairResult says what a repair has made.
type RepairResult struct {
	Accounts  int
	Messages  int   // read and whole
	Bytes     int64 // of them
	Lost      int   // messages, mailboxes and the like
	Recovered int   // messages in Recovered
	Renewed   int   // mailboxes with a new UIDVALIDITY
	Mended    int   // contradictions
}

// RecoveredMailbox is where messages go whose place cannot be proven.
const RecoveredMailbox = "Recovered"

// Repair makes the index in kv whole, which is new and has what a journal said,
// or nothing. It reads blobs and the old index, and changes neither. Afterwards
// Verify finds nothing in it. Nobody else uses kv meanwhile.
func Repair(ctx context.Context, kv driver.KV, blobs driver.Blobs, opts RepairOptions) (*RepairResult, error) {
	opts.Store.AsItIs = true
	if opts.Journal == nil {
		opts.Journal = &JournalWitness{}
	}
	r := &repair{kv: kv, blobs: blobs, opts: opts, res: &RepairResult{}}
	if err := r.run(ctx); err != nil {
		return nil, imap.E("mailstore: repair", imap.Other, err)
	}
	return r.res, nil
}

// repair is one run of Repair.
type repair struct {
	kv    driver.KV
	blobs driver.Blobs
	opts  RepairOptions
	res   *RepairResult
	// whole says that the new index had everything that was ever committed.
	whole bool
	// short says that the old index knows of commits that the journal lacks.
	short bool
	// directory says that the list of accounts is proven.
	directory bool
	store     *Store     // over the new index
	top       driver.Ref // the greatest that any record names
}

func (r *repair) note(kind RepairKind, account, mailbox string, uid imap.UID, format string, args ...any) {
	switch kind {
	case RepairLost:
		r.res.Lost++
	case RepairRecovered:
		r.res.Recovered++
	case RepairRenewed:
		r.res.Renewed++
	case RepairMended:
		r.res.Mended++
	}
	r.opts.Note(RepairNote{kind, Defect{Account: account, Mailbox: mailbox, UID: uid, Text: fmt.Sprintf(format, args...)}})
}

func (r *repair) run(ctx context.Context) error {
	if err := r.judge(ctx); err != nil {
		return err
	}
	names, err := r.names(ctx)
	if err != nil {
		return err
	}
	for _, num := range slices.Sorted(maps.Keys(names)) {
		a := &accountRepair{repair: r, num: num, user: names[num]}
		if err := a.gather(ctx); err != nil {
			return fmt.Errorf("account %s: %w", a.user, err)
		}
		if err := a.mend(ctx); err != nil {
			return fmt.Errorf("account %s: %w", a.user, err)
		}
		if err := a.openStore(ctx); err != nil {
			return err
		}
		if err := a.messages(ctx); err != nil {
			return fmt.Errorf("account %s: %w", a.user, err)
		}
		r.res.Accounts++
	}
	if err := r.keepBound(ctx); err != nil || r.store == nil {
		return err
	}
	// Not closed in order: the next start sweeps what nobody names.
	r.store.unswept.Store(true)
	return r.store.Close(ctx)
}

// keepBound carries over the bound of Refs: see refbound.go. What is lost was named.
func (r *repair) keepBound(ctx context.Context) error {
	bound := driver.Ref(0)
	if r.top > 0 {
		bound = max(r.top, r.top+refStep)
	}
	if r.opts.Old != nil {
		err := r.opts.Old.View(ctx, directoryAccount, func(old driver.Reader) error {
			known, err := readRefBound(old)
			bound = max(bound, known)
			return err
		})
		if err != nil && !isUnreadable(err) || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
	}
	return r.kv.Update(ctx, directoryAccount, func(tx driver.Txn) error {
		known, err := readRefBound(tx)
		if err != nil && !isDamage(err) || known >= bound {
			return err
		}
		return tx.Set([]byte{keyRefBound}, binary.AppendUvarint(nil, uint64(bound)))
	})
}

// openStore opens the store over the new index when its first account is whole.
func (r *repair) openStore(ctx context.Context) (err error) {
	if r.store == nil {
		if r.store, err = Open(ctx, r.kv, r.blobs, r.opts.Store); err == nil {
			r.store.repairing = true
		}
	}
	return err
}

// generation returns how many commits an index knows of an account; ok is false
// where nobody can tell.
func generation(ctx context.Context, kv driver.KV, a driver.Account) (n uint64, ok bool, err error) {
	rec, found, err := readAccountRec(ctx, kv, a)
	if err != nil || !found {
		return 0, false, err
	}
	return rec.generation, true, nil
}

// readAccountRec reads an account's own record, which is all zero where it has none
// yet. found is false where it cannot be read.
func readAccountRec(ctx context.Context, kv driver.KV, a driver.Account) (rec accountRec, found bool, err error) {
	if kv == nil {
		return rec, false, nil
	}
	err = kv.View(ctx, a, func(r driver.Reader) error {
		data, ok, err := r.Get([]byte{keyAccount})
		if err == nil && ok {
			rec, err = decodeAccount(data)
		}
		return err
	})
	if isDamage(err) || imap.KindOf(err) == imap.Unavailable {
		return accountRec{}, false, ctx.Err()
	}
	return rec, err == nil, err
}

// judge decides whether the journal is the truth: the old index may know that its
// end is missing.
func (r *repair) judge(ctx context.Context) error {
	r.whole = r.opts.JournalFound && r.opts.JournalWhole
	if !r.whole || r.opts.Old == nil {
		return nil
	}
	known, _, err := readAccountList(ctx, r.opts.Old)
	if err != nil {
		return err
	}
	for name, num := range known.names {
		old, _, err := generation(ctx, r.opts.Old, num)
		if err != nil {
			return err
		}
		now, _, err := generation(ctx, r.kv, num)
		if err != nil {
			return err
		}
		if old > now {
			r.whole, r.short = false, true
			r.note(RepairMended, name, "", 0, "the journal of the index lacks its last %d changes, so it is not relied upon", old-now)
			return nil
		}
	}
	return nil
}

// accountList is what account 0 has.
type accountList struct {
	names    map[string]driver.Account
	users    map[string][]byte
	removing map[driver.Account]bool
	next     uint64
}

// add adds what an older list has, which counts.
func (d *accountList) add(old *accountList) {
	maps.Copy(d.names, old.names)
	maps.Copy(d.users, old.users)
	maps.Copy(d.removing, old.removing)
	d.next = max(d.next, old.next)
}

// complete adds what an older list has and the journal has never had: what the journal
// has had and has no more was removed.
func (d *accountList) complete(old *accountList, journal *JournalWitness) {
	missing := &accountList{names: maps.Clone(old.names), users: maps.Clone(old.users), removing: maps.Clone(old.removing), next: old.next}
	maps.DeleteFunc(missing.names, func(name string, _ driver.Account) bool { return journal.directory[string(nameKey(keyName, name))] })
	maps.DeleteFunc(missing.users, func(name string, _ []byte) bool { return journal.directory[string(nameKey(keyUser, name))] })
	maps.DeleteFunc(missing.removing, func(num driver.Account, _ bool) bool {
		return journal.directory[string(numKey(keyRemoving, uint64(num)))]
	})
	d.add(missing)
}

// readAccountList reads the list of accounts and users as far as it can be read.
func readAccountList(ctx context.Context, kv driver.KV) (d *accountList, whole bool, err error) {
	d = &accountList{names: make(map[string]driver.Account), users: make(map[string][]byte), removing: make(map[driver.Account]bool), next: 1}
	if kv == nil {
		return d, false, nil
	}
	holes, err := scanAround(ctx, kv, directoryAccount, func(key, value []byte) {
		dec := decoder{data: value}
		switch key[0] {
		case keyNextAcct:
			d.next = max(d.next, dec.uint())
		case keyName:
			if num := driver.Account(dec.uint()); !dec.bad && num != 0 {
				d.names[string(key[1:])] = num
				d.next = max(d.next, uint64(num)+1)
			}
		case keyUser:
			d.users[string(key[1:])] = slices.Clone(value)
		case keyRemoving:
			if len(key) == 9 {
				d.removing[driver.Account(numOfKey(key))] = true
			}
		}
	})
	return d, err == nil && len(holes) == 0, err
}

// names completes the list of accounts and users, and returns the accounts.
func (r *repair) names(ctx context.Context) (map[driver.Account]string, error) {
	dir, _, err := readAccountList(ctx, r.kv)
	if err != nil {
		return nil, err
	}
	r.directory = r.whole
	if !r.whole && r.opts.Old != nil {
		old, complete, err := readAccountList(ctx, r.opts.Old)
		if err != nil {
			return nil, err
		}
		if r.opts.OldShort && r.opts.JournalFound {
			dir.complete(old, r.opts.Journal)
		} else {
			if complete {
				dir.names, dir.users, dir.removing, r.directory = old.names, old.users, old.removing, true
			}
			dir.add(old)
		}
	}
	names := make(map[driver.Account]string)
	for _, name := range slices.Sorted(maps.Keys(dir.names)) {
		num := dir.names[name]
		if other, ok := names[num]; ok || dir.removing[num] {
			r.note(RepairMended, name, "", 0, "its account is that of %q, or is being removed: the name is dropped", other)
			delete(dir.names, name)
			continue
		}
		names[num] = name
	}
	if r.directory {
		if r.directory, err = r.namesAll(ctx, dir, names); err != nil {
			return nil, err
		}
	}
	if !r.directory {
		if err := r.nameUnknown(ctx, dir, names); err != nil {
			return nil, err
		}
	}
	return names, r.writeAccountList(ctx, dir)
}

// namesAll reports whether the list of accounts has each account that has a record of
// its own: one that was removed has none.
func (r *repair) namesAll(ctx context.Context, dir *accountList, names map[driver.Account]string) (bool, error) {
	for _, num := range r.opts.Accounts {
		if names[num] != "" || dir.removing[num] || num == directoryAccount {
			continue
		}
		if _, there, err := r.ownName(ctx, num); err != nil || there {
			return false, err
		}
	}
	return true, nil
}

// nameUnknown gives names to accounts that the list of accounts lacks: those that
// their own records have, or new ones.
func (r *repair) nameUnknown(ctx context.Context, dir *accountList, names map[driver.Account]string) error {
	r.note(RepairLost, "", "", 0, "the list of users cannot be proven to be complete: `rookery user list` shows those there are; add the others again")
	for _, num := range r.opts.Accounts {
		if names[num] != "" || dir.removing[num] || num == directoryAccount {
			continue
		}
		own, there, err := r.ownName(ctx, num)
		if err != nil {
			return err
		}
		if !there && r.opts.Journal.accounts[num] != nil {
			continue // the journal says that it was removed
		}
		if _, taken := dir.names[own]; own != "" && !taken {
			names[num], dir.names[own] = own, num
			dir.next = max(dir.next, uint64(num)+1)
			r.note(RepairMended, own, "", 0, "the list of accounts has lost it; its own record has its name")
			continue
		}
		name := fmt.Sprintf("recovered-%d", num)
		for _, taken := dir.names[name]; taken; _, taken = dir.names[name] {
			name += "x"
		}
		names[num], dir.names[name] = name, num
		dir.next = max(dir.next, uint64(num)+1)
		r.note(RepairLost, name, "", 0, "the name of this account is lost: `rookery user add` with this name opens it")
	}
	return nil
}

// ownName returns the name of an account that its own record has, "" where it has
// none, and whether there is such a record at all.
func (r *repair) ownName(ctx context.Context, num driver.Account) (name string, there bool, err error) {
	for _, kv := range []driver.KV{r.kv, r.opts.Old} {
		rec, found, err := readAccountRec(ctx, kv, num)
		if err != nil {
			return "", false, err
		}
		there = there || found && rec != accountRec{}
		if checkName("", rec.user) == nil {
			name = cmp.Or(name, rec.user)
		}
	}
	return name, there, nil
}

// writeAccountList writes account 0 anew.
func (r *repair) writeAccountList(ctx context.Context, dir *accountList) error {
	return r.kv.Update(ctx, directoryAccount, func(tx driver.Txn) error {
		for _, kind := range []byte{keyName, keyUser, keyRemoving, keyNextAcct, keyClean} {
			if err := tx.DeleteRange([]byte{kind}, prefixEnd([]byte{kind})); err != nil {
				return err
			}
		}
		err := tx.Set([]byte{keyNextAcct}, binary.AppendUvarint(nil, dir.next))
		for name, num := range dir.names {
			err = errors.Join(err, tx.Set(nameKey(keyName, name), binary.AppendUvarint(nil, uint64(num))))
		}
		for name, hash := range dir.users {
			err = errors.Join(err, tx.Set(nameKey(keyUser, name), hash))
		}
		for num := range dir.removing {
			err = errors.Join(err, tx.Set(numKey(keyRemoving, uint64(num)), nil))
		}
		return err
	})
}

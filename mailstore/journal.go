package mailstore

import (
	"context"
	"fmt"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// JournalWitness is told what the journal of an index has (package pebblekv), and
// knows afterwards what that proves: each commit of an account writes its
// generation, which counts them. The zero value is ready.
type JournalWitness struct {
	// Messages has it remember which messages were ever named.
	Messages bool

	accounts  map[driver.Account]*witnessed
	directory map[string]bool // keys of account 0 that were ever written
	gaps      int
	format    uint64 // of the store, 0 where that is not known
}

// witnessed is what the journal says of one account.
type witnessed struct {
	generation uint64
	linked     int  // gaps behind which its commits are known to go on
	missing    bool // commits of it are missing
	named      map[driver.Ref]struct{}
}

// Begin takes note that a saved state begins: see pebblekv.JournalReader.
func (w *JournalWitness) Begin() {
	w.gaps = 0
	for _, a := range w.accounts {
		*a = witnessed{named: a.named}
	}
}

// Lost takes note that commits are missing.
func (w *JournalWitness) Lost() { w.gaps++ }

// Note takes in one record.
func (w *JournalWitness) Note(a driver.Account, key, value []byte) {
	if a == directoryAccount && len(key) == 1 && key[0] == keyFormat {
		d := decoder{data: value}
		w.format = d.uint()
	}
	if a == directoryAccount {
		if w.directory == nil {
			w.directory = make(map[string]bool)
		}
		w.directory[string(key)] = true
	}
	if a == directoryAccount || len(key) == 0 {
		return
	}
	switch key[0] {
	case keyAccount:
		if rec, err := decodeAccount(value); err == nil && len(key) == 1 {
			w.account(a).commit(rec.generation, w.gaps)
		}
	case keyMessage:
		if !w.Messages {
			return
		}
		if rec, err := decodeMessage(value); err == nil {
			acct := w.account(a)
			if acct.named == nil {
				acct.named = make(map[driver.Ref]struct{})
			}
			acct.named[rec.ref] = struct{}{}
		}
	}
}

func (w *JournalWitness) account(a driver.Account) *witnessed {
	acct := w.accounts[a]
	if acct == nil {
		if w.accounts == nil {
			w.accounts = make(map[driver.Account]*witnessed)
		}
		acct = &witnessed{}
		w.accounts[a] = acct
	}
	return acct
}

// commit takes in a commit, or what a saved state says, before the first gap.
func (w *witnessed) commit(generation uint64, gaps int) {
	if gaps > 0 && generation != w.generation+1 {
		w.missing = true
	}
	w.generation, w.linked = generation, gaps
}

// whole reports whether no commit of an account is missing in the journal.
func (w *JournalWitness) whole(a driver.Account) bool {
	acct := w.accounts[a]
	return acct != nil && !acct.missing && acct.linked == w.gaps
}

// CheckFormat is an error unless the journal says that the store has a format that
// this program reads.
func (w *JournalWitness) CheckFormat() error {
	if w.format < oldestFormat || w.format > formatVersion {
		return imap.E("mailstore: format of the journal", imap.ContactAdmin, fmt.Errorf("the journal says format %d, and this program reads formats from %d to %d", w.format, oldestFormat, formatVersion))
	}
	return nil
}

// Compare returns what a store has lost: changes that the journal has and the index
// has not, though it may look whole without them. Nobody else uses the store.
func (w *JournalWitness) Compare(ctx context.Context, s *Store) ([]Defect, error) {
	list, err := s.Accounts(ctx)
	if err != nil {
		return nil, err
	}
	var defects []Defect
	for _, info := range list {
		a := driver.Account(info.Number)
		have, known, err := generation(ctx, s.kv, a)
		if err != nil {
			return nil, err
		}
		if want := w.account(a).generation; known && want > have {
			defects = append(defects, Defect{Account: info.Name, Text: fmt.Sprintf("the index has lost the last %d changes, which its journal has", want-have)})
		}
	}
	return defects, nil
}

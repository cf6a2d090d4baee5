package mailstore

import (
	"context"
	"fmt"

	"github.com/rookery-mail/rookery/mailstore/driver"
)

// JournalCheck compares a store with its journal (package pebblekv): changes that
// the journal has and the index has not are lost, though the index may look whole
// without them. Note is given the journal's records in their order.
type JournalCheck struct {
	generations map[driver.Account]uint64
}

// Note takes in one record of the journal.
func (c *JournalCheck) Note(a driver.Account, key, value []byte) {
	if a == directoryAccount || len(key) != 1 || key[0] != keyAccount {
		return
	}
	rec, err := decodeAccount(value)
	if err != nil {
		return
	}
	if c.generations == nil {
		c.generations = make(map[driver.Account]uint64)
	}
	c.generations[a] = max(c.generations[a], rec.generation)
}

// Compare returns what the store has lost. Nobody else uses the store.
func (c *JournalCheck) Compare(ctx context.Context, s *Store) ([]Defect, error) {
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
		if want := c.generations[a]; known && want > have {
			defects = append(defects, Defect{Account: info.Name, Text: fmt.Sprintf("the index has lost the last %d changes, which its journal has", want-have)})
		}
	}
	return defects, nil
}

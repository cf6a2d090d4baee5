package pebblekv

import (
	"bytes"

	"github.com/cockroachdb/pebble/v2"

	"github.com/rookery-mail/rookery/mailstore/driver"
)

// view reads one account as it is at one moment, through one iterator: that
// costs less than a snapshot, whose end looks for compactions under the
// database's lock, and look-ups share what they have opened.
type view struct {
	account driver.Account
	it      *pebble.Iterator
	busy    bool // a Scan has it
	bounded bool // it has the bounds of a Scan
	key     []byte
}

func newView(db *pebble.DB, a driver.Account) (*view, error) {
	it, err := db.NewIter(nil)
	if err != nil {
		return nil, readError(err)
	}
	return &view{account: a, it: it}, nil
}

func (v *view) close() error { return readError(v.it.Close()) }

// nested returns a view of the same moment, for use while a Scan has v.
func (v *view) nested() (*view, error) {
	it, err := v.it.Clone(pebble.CloneOptions{IterOptions: &pebble.IterOptions{}})
	if err != nil {
		return nil, readError(err)
	}
	return &view{account: v.account, it: it}, nil
}

// Get implements driver.Reader.
func (v *view) Get(key []byte) (value []byte, ok bool, err error) {
	if v.busy {
		w, err := v.nested()
		if err != nil {
			return nil, false, err
		}
		defer w.it.Close()
		return w.Get(key)
	}
	v.key = append(appendPrefix(v.key[:0], v.account), key...)
	if v.bounded {
		v.it.SetBounds(nil, nil)
		v.bounded = false
	}
	if !v.it.SeekPrefixGE(v.key) || !bytes.Equal(v.it.Key(), v.key) {
		return nil, false, readError(v.it.Error())
	}
	value, err = v.it.ValueAndErr()
	if err != nil {
		return nil, false, readError(err)
	}
	return append([]byte{}, value...), true, nil // never nil: an empty value is a value
}

// Scan implements driver.Reader.
func (v *view) Scan(from, to []byte, fn func(key, value []byte) bool) error {
	if v.busy {
		w, err := v.nested()
		if err != nil {
			return err
		}
		defer w.it.Close()
		return w.Scan(from, to, fn)
	}
	v.busy, v.bounded = true, true
	defer func() { v.busy = false }()
	v.it.SetBounds(fullKey(v.account, from), upperBound(v.account, to))
	for ok := v.it.First(); ok; ok = v.it.Next() {
		value, err := v.it.ValueAndErr()
		if err != nil {
			return readError(err)
		}
		if !fn(v.it.Key()[prefixLen:], value) {
			break
		}
	}
	return readError(v.it.Error())
}

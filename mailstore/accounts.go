package mailstore

import (
	"context"
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// AccountInfo names an account.
type AccountInfo struct {
	Name   string
	Number uint64 // never reused
}

func checkName(op, name string) error {
	if name == "" || len(name) > 255 || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return &imap.Error{Op: op, Kind: imap.Cannot, Text: "a name has 1 to 255 bytes of UTF-8 without control characters"}
	}
	return nil
}

// Account returns the account of a user, making it where it is missing.
// Values for the same user share everything. The caller need not close it.
func (s *Store) Account(ctx context.Context, user string) (*Account, error) {
	op := "mailstore: open account " + user
	if err := checkName(op, user); err != nil {
		return nil, err
	}
	num, err := s.number(ctx, user)
	if imap.KindOf(err) == imap.NotFound {
		if num, err = s.createAccount(ctx, user); err == nil {
			err = s.opts.Settle(ctx)
		}
	}
	if err != nil {
		return nil, imap.E(op, imap.Other, err)
	}
	a, err := s.load(ctx, num, user)
	if err != nil {
		return nil, imap.E(op, imap.Other, err)
	}
	return &Account{account: a}, nil
}

// Lookup is Account, but fails with kind NotFound where there is none.
func (s *Store) Lookup(ctx context.Context, user string) (*Account, error) {
	num, err := s.number(ctx, user)
	if err != nil {
		return nil, imap.E("mailstore: open account "+user, imap.Other, err)
	}
	a, err := s.load(ctx, num, user)
	if err != nil {
		return nil, imap.E("mailstore: open account "+user, imap.Other, err)
	}
	return &Account{account: a}, nil
}

func (s *Store) number(ctx context.Context, user string) (num driver.Account, err error) {
	key := nameKey(keyName, user)
	value, known, epoch := s.recall.get(key)
	if known {
		return driver.Account(value), nil
	}
	err = s.kv.View(ctx, directoryAccount, func(r driver.Reader) error {
		num, err = readNumber(r, key)
		return err
	})
	if err == nil {
		s.recall.put(key, uint64(num), epoch)
	}
	return num, err
}

func readNumber(r driver.Reader, key []byte) (driver.Account, error) {
	data, ok, err := r.Get(key)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, imap.NotFound
	}
	d := decoder{data: data}
	return driver.Account(d.uint()), d.err("account number")
}

func (s *Store) createAccount(ctx context.Context, user string) (num driver.Account, err error) {
	key := nameKey(keyName, user)
	err = s.kv.Update(ctx, directoryAccount, func(tx driver.Txn) error {
		if num, err = readNumber(tx, key); imap.KindOf(err) != imap.NotFound {
			return err
		}
		num, err = readNumber(tx, []byte{keyNextAcct})
		if imap.KindOf(err) == imap.NotFound {
			num, err = 1, nil
		}
		if err != nil {
			return err
		}
		if err := tx.Set([]byte{keyNextAcct}, binary.AppendUvarint(nil, uint64(num)+1)); err != nil {
			return err
		}
		return tx.Set(key, binary.AppendUvarint(nil, uint64(num)))
	})
	return num, err
}

// Accounts lists all accounts by name.
func (s *Store) Accounts(ctx context.Context) ([]AccountInfo, error) {
	var list []AccountInfo
	err := s.kv.View(ctx, directoryAccount, func(r driver.Reader) error {
		list = nil
		prefix := []byte{keyName}
		return r.Scan(prefix, prefixEnd(prefix), func(key, value []byte) bool {
			d := decoder{data: value}
			list = append(list, AccountInfo{Name: string(key[1:]), Number: d.uint()})
			return true
		})
	})
	if err != nil {
		return nil, imap.E("mailstore: list accounts", imap.Other, err)
	}
	return list, nil
}

// RemoveAccount removes an account with all of its mail, for good. Open values
// of it fail from then on.
func (s *Store) RemoveAccount(ctx context.Context, user string) error {
	op := "mailstore: remove account " + user
	err := s.kv.Update(ctx, directoryAccount, func(tx driver.Txn) error {
		num, err := readNumber(tx, nameKey(keyName, user))
		if err != nil {
			return err
		}
		if err := tx.Set(numKey(keyRemoving, uint64(num)), nil); err != nil {
			return err
		}
		return tx.Delete(nameKey(keyName, user))
	})
	s.recall.forget() // also where it is not known whether that was done
	if err == nil {
		err = s.finishRemovals(ctx)
	}
	if err != nil {
		return imap.E(op, imap.Other, err)
	}
	return nil
}

// RenameAccount gives an account another name. Kinds NotFound and Exists.
func (s *Store) RenameAccount(ctx context.Context, from, to string) error {
	op := "mailstore: rename account " + from
	if err := checkName(op, to); err != nil {
		return err
	}
	var num driver.Account
	err := s.kv.Update(ctx, directoryAccount, func(tx driver.Txn) (err error) {
		if num, err = readNumber(tx, nameKey(keyName, from)); err != nil {
			return err
		}
		if _, err := readNumber(tx, nameKey(keyName, to)); imap.KindOf(err) != imap.NotFound {
			if err == nil {
				err = imap.Exists
			}
			return err
		}
		if err := tx.Delete(nameKey(keyName, from)); err != nil {
			return err
		}
		return tx.Set(nameKey(keyName, to), binary.AppendUvarint(nil, uint64(num)))
	})
	s.recall.forget()
	if err == nil {
		err = s.noteName(ctx, num, to)
	}
	if err != nil {
		return imap.E(op, imap.Other, err)
	}
	return nil
}

// noteName writes the name of an account into its own record. Where that is not
// done because of a crash, a repair that has lost the list of accounts gives the
// account its former name.
func (s *Store) noteName(ctx context.Context, num driver.Account, name string) error {
	if used, _, err := generation(ctx, s.kv, num); err != nil || used == 0 {
		return err
	}
	a, err := s.load(ctx, num, name)
	if err != nil {
		return err
	}
	return a.submit(ctx, &op{weight: 100, run: func(t *opTx) error {
		t.rec.user = name
		t.set([]byte{keyAccount}, t.rec.encode())
		return nil
	}})
}

// finishRemovals deletes what accounts leave that have been removed.
func (s *Store) finishRemovals(ctx context.Context) error {
	var removing []driver.Account
	err := s.kv.View(ctx, directoryAccount, func(r driver.Reader) error {
		removing = nil
		prefix := []byte{keyRemoving}
		return r.Scan(prefix, prefixEnd(prefix), func(key, _ []byte) bool {
			removing = append(removing, driver.Account(numOfKey(key)))
			return true
		})
	})
	if err != nil {
		return err
	}
	for _, num := range removing {
		s.mu.Lock()
		a := s.accounts[num].get()
		delete(s.accounts, num)
		s.mu.Unlock()
		if a != nil {
			a.shutdown()
			a.letGo(true)
		}
		err := s.kv.Update(ctx, num, func(tx driver.Txn) error { return tx.DeleteRange([]byte{0}, nil) })
		if err != nil {
			return err
		}
		if err := s.blobs.Sweep(ctx, num, func(driver.Ref) bool { return false }); err != nil {
			return err
		}
		err = s.kv.Update(ctx, directoryAccount, func(tx driver.Txn) error {
			return tx.Delete(numKey(keyRemoving, uint64(num)))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Users is the list of users that have been made with a password, kept in the
// store. It does not know what a password hash means.
type Users struct{ s *Store }

// Users returns the list of users.
func (s *Store) Users() *Users { return &Users{s} }

// Set adds a user or changes its hash.
func (u *Users) Set(ctx context.Context, name, hash string) error {
	op := "mailstore: set user " + name
	if err := checkName(op, name); err != nil {
		return err
	}
	err := u.s.kv.Update(ctx, directoryAccount, func(tx driver.Txn) error {
		return tx.Set(nameKey(keyUser, name), []byte(hash))
	})
	u.s.recall.forget()
	if err != nil {
		return imap.E(op, imap.Other, err)
	}
	return nil
}

// Get returns the hash of a user; kind NotFound where there is none.
func (u *Users) Get(ctx context.Context, name string) (hash string, err error) {
	// Only that there is none is remembered: of an address the user may be found under
	// a later one of several names.
	key := nameKey(keyUser, name)
	_, missing, epoch := u.s.recall.get(key)
	if missing {
		return "", imap.E("mailstore: user "+name, imap.Other, imap.NotFound)
	}
	err = u.s.kv.View(ctx, directoryAccount, func(r driver.Reader) error {
		data, ok, err := r.Get(key)
		missing = err == nil && !ok
		if missing {
			err = imap.NotFound
		}
		hash = string(data)
		return err
	})
	if missing {
		u.s.recall.put(key, 0, epoch)
	}
	if err != nil {
		return "", imap.E("mailstore: user "+name, imap.Other, err)
	}
	return hash, nil
}

// List returns the names of all users, sorted.
func (u *Users) List(ctx context.Context) ([]string, error) {
	var names []string
	err := u.s.kv.View(ctx, directoryAccount, func(r driver.Reader) error {
		names = nil
		prefix := []byte{keyUser}
		return r.Scan(prefix, prefixEnd(prefix), func(key, _ []byte) bool {
			names = append(names, string(key[1:]))
			return true
		})
	})
	if err != nil {
		return nil, imap.E("mailstore: list users", imap.Other, err)
	}
	return names, nil
}

// Delete removes a user; the account of that name stays. Kind NotFound where
// there is none.
func (u *Users) Delete(ctx context.Context, name string) error {
	err := u.s.kv.Update(ctx, directoryAccount, func(tx driver.Txn) error {
		_, ok, err := tx.Get(nameKey(keyUser, name))
		if err == nil && !ok {
			err = imap.NotFound
		}
		if err != nil {
			return err
		}
		return tx.Delete(nameKey(keyUser, name))
	})
	if err != nil {
		return imap.E("mailstore: delete user "+name, imap.Other, err)
	}
	return nil
}

package pebblekv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// prefixLen is the length of the account in front of each key.
const prefixLen = 8

func appendPrefix(p []byte, a driver.Account) []byte {
	return binary.BigEndian.AppendUint64(p, uint64(a))
}

func fullKey(a driver.Account, key []byte) []byte {
	return append(appendPrefix(make([]byte, 0, prefixLen+len(key)), a), key...)
}

// upperBound is the first key behind to; nil is the end of everything.
func upperBound(a driver.Account, to []byte) []byte {
	switch {
	case to != nil:
		return fullKey(a, to)
	case a == math.MaxUint64:
		return nil
	default:
		return appendPrefix(nil, a+1)
	}
}

// reader reads one account of a pebble.DB or of a snapshot.
type reader struct {
	from    pebble.Reader
	account driver.Account
}

func (r reader) Get(key []byte) ([]byte, bool, error) {
	v, closer, err := r.from.Get(fullKey(r.account, key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, readError(err)
	}
	v = append([]byte{}, v...) // never nil: an empty value is a value
	return v, true, closer.Close()
}

func (r reader) Scan(from, to []byte, fn func(key, value []byte) bool) error {
	it, err := r.iter(from, to)
	if err != nil {
		return err
	}
	next := stepper{it: it}
	for ok := it.First(); ok; ok = next.step() {
		v, err := it.ValueAndErr()
		if err != nil {
			return readError(errors.Join(err, it.Close()))
		}
		if !fn(it.Key()[prefixLen:], v) {
			break
		}
	}
	return readError(it.Close())
}

// A stepper goes from key to key. Where the memtable has many versions of each,
// as of pages that are written again and again, it seeks: Pebble would step over
// every one of them.
type stepper struct {
	it      *pebble.Iterator
	left    int // steps until it is looked at again what they cost
	seeking bool
	before  int // steps over versions until then
	key     []byte
}

const (
	stepsBetween = 16  // looks at what stepping costs
	seeksBetween = 256 // tries of stepping
	manyVersions = 8   // to a key; a seek costs as much
)

func (s *stepper) step() bool {
	if s.left--; s.left < 0 {
		s.look()
	}
	if !s.seeking {
		return s.it.Next()
	}
	s.key = append(append(s.key[:0], s.it.Key()...), 0)
	return s.it.SeekGE(s.key)
}

func (s *stepper) look() {
	stats := s.it.Stats()
	steps := stats.ForwardStepCount[pebble.InternalIterCall]
	s.seeking = !s.seeking && steps-s.before > stepsBetween*manyVersions
	s.before, s.left = steps, stepsBetween-1
	if s.seeking {
		s.left = seeksBetween
	}
}

func (r reader) iter(from, to []byte) (*pebble.Iterator, error) {
	it, err := r.from.NewIter(&pebble.IterOptions{
		LowerBound: fullKey(r.account, from),
		UpperBound: upperBound(r.account, to),
	})
	return it, readError(err)
}

func readError(err error) error {
	if err == nil {
		return nil
	}
	if pebble.IsCorruptionError(err) {
		return imap.E("index read", imap.Corruption, err)
	}
	return imap.E("index read", imap.Unavailable, err)
}

// A txn writes into a plain batch and keeps what it wrote, for its own reads: in a
// list at first, since most never read behind their writes. Pebble's indexed batch does the same with a skip list that
// costs more than the writes themselves; most transactions here write a few
// keys and read before they write.
type txn struct {
	reader  // of the committed state: nobody else changes this account now
	acct    *account
	batch   *pebble.Batch
	fresh   []keyWrite // what is not in own yet
	own     map[string]write
	ranges  []keyRange // deleted; a later write is in own
	sorted  []string   // the keys of own in order, when not stale
	stale   bool
	written int

	first  []byte // the key that was looked up first
	gets   int
	lookup *pebble.Iterator // finds single keys, from the second on
}

type write struct {
	value   []byte
	deleted bool
}

type keyWrite struct {
	key []byte
	write
}

type keyRange struct{ from, to []byte }

func (r keyRange) contains(key []byte) bool {
	return bytes.Compare(key, r.from) >= 0 && (r.to == nil || bytes.Compare(key, r.to) < 0)
}

func (tx *txn) Get(key []byte) ([]byte, bool, error) {
	tx.settle()
	if w, ok := tx.own[string(key)]; ok {
		return w.value, !w.deleted, nil
	}
	if tx.hidden(key) {
		return nil, false, nil
	}
	if tx.gets++; tx.gets > 1 {
		return tx.find(key)
	}
	// Most transactions look up one key, the account's, and write it: then the one
	// before has left its value. If not, the memtable has it.
	tx.first = bytes.Clone(key)
	if tx.acct.first != nil && bytes.Equal(key, tx.acct.first) {
		return tx.acct.firstValue, true, nil
	}
	return tx.reader.Get(key)
}

// noteFirst leaves to the next transaction what the key has that was looked up
// first. The batch has been applied.
func (tx *txn) noteFirst() {
	w := tx.own[string(tx.first)]
	for _, fresh := range slices.Backward(tx.fresh) {
		if bytes.Equal(fresh.key, tx.first) {
			w = fresh.write
			break
		}
	}
	if tx.acct.first = nil; w.value != nil && !w.deleted {
		tx.acct.first, tx.acct.firstValue = tx.first, bytes.Clone(w.value)
	}
}

// find looks up a key that may well not be there: unlike Get of the database
// it asks the filters of all levels, the last one's too, where most keys are.
func (tx *txn) find(key []byte) (value []byte, ok bool, err error) {
	if tx.lookup == nil {
		if tx.lookup, err = tx.from.NewIter(&pebble.IterOptions{UseL6Filters: true}); err != nil {
			return nil, false, readError(err)
		}
	}
	full := fullKey(tx.account, key)
	if !tx.lookup.SeekPrefixGE(full) || !bytes.Equal(tx.lookup.Key(), full) {
		return nil, false, readError(tx.lookup.Error())
	}
	v, err := tx.lookup.ValueAndErr()
	if err != nil {
		return nil, false, readError(err)
	}
	return append([]byte{}, v...), true, nil // never nil: an empty value is a value
}

// done frees what reading took.
func (tx *txn) done() error {
	if tx.lookup == nil {
		return nil
	}
	return readError(tx.lookup.Close())
}

func (tx *txn) hidden(key []byte) bool {
	return slices.ContainsFunc(tx.ranges, func(r keyRange) bool { return r.contains(key) })
}

var errTooLarge = errors.New("the transaction writes more than driver.MaxTxnBytes; split it")

func (tx *txn) count(n int) error {
	if tx.written += n; tx.written > driver.MaxTxnBytes {
		return imap.E("index write", imap.Limit, errTooLarge)
	}
	return nil
}

func (tx *txn) Set(key, value []byte) error {
	if err := tx.count(len(key) + len(value)); err != nil {
		return err
	}
	op := tx.batch.SetDeferred(prefixLen+len(key), len(value))
	tx.putKey(op.Key, key)
	copy(op.Value, value)
	if err := op.Finish(); err != nil {
		return err
	}
	// The batch may move its buffer when it grows; what op points to stays.
	tx.note(op.Key[prefixLen:], write{value: op.Value})
	return nil
}

func (tx *txn) Delete(key []byte) error {
	if err := tx.count(len(key)); err != nil {
		return err
	}
	op := tx.batch.DeleteDeferred(prefixLen + len(key))
	tx.putKey(op.Key, key)
	if err := op.Finish(); err != nil {
		return err
	}
	tx.note(op.Key[prefixLen:], write{deleted: true})
	return nil
}

func (tx *txn) putKey(dst, key []byte) {
	binary.BigEndian.PutUint64(dst, uint64(tx.account))
	copy(dst[prefixLen:], key)
}

func (tx *txn) note(key []byte, w write) {
	if tx.fresh == nil {
		tx.fresh = make([]keyWrite, 0, fewWrites)
	}
	tx.fresh = append(tx.fresh, keyWrite{key, w})
}

// fewWrites is what most transactions write at most.
const fewWrites = 12

// settle makes own of what was written.
func (tx *txn) settle() {
	if len(tx.fresh) == 0 {
		return
	}
	if tx.own == nil {
		tx.own = make(map[string]write, len(tx.fresh))
	}
	for _, w := range tx.fresh {
		tx.own[string(w.key)] = w.write
	}
	tx.fresh, tx.stale = tx.fresh[:0], true
}

// fewKeys is the number of keys up to which DeleteRange deletes each: a range
// tombstone slows down every later read that passes it.
const fewKeys = 64

func (tx *txn) DeleteRange(from, to []byte) error {
	if to != nil && bytes.Compare(from, to) >= 0 {
		return nil
	}
	if err := tx.count(len(from) + len(to)); err != nil {
		return err
	}
	var keys [][]byte
	err := tx.Scan(from, to, func(key, _ []byte) bool {
		keys = append(keys, bytes.Clone(key))
		return len(keys) <= fewKeys
	})
	if err != nil {
		return err
	}
	if len(keys) <= fewKeys {
		for _, key := range keys {
			if err := tx.Delete(key); err != nil {
				return err
			}
		}
		return nil
	}
	end := upperBound(tx.account, to)
	if end == nil {
		end = bytes.Repeat([]byte{0xff}, prefixLen+maxKeyLen)
	}
	if err := tx.batch.DeleteRange(fullKey(tx.account, from), end, nil); err != nil {
		return err
	}
	r := keyRange{from: bytes.Clone(from), to: bytes.Clone(to)}
	for key := range tx.own {
		if r.contains([]byte(key)) {
			delete(tx.own, key)
		}
	}
	tx.ranges = append(tx.ranges, r)
	tx.stale = true
	return nil
}

// maxKeyLen is longer than any key; it ends the range of the last account.
const maxKeyLen = 4096

func (tx *txn) Scan(from, to []byte, fn func(key, value []byte) bool) error {
	tx.settle()
	if len(tx.own) == 0 && len(tx.ranges) == 0 {
		return tx.reader.Scan(from, to, fn)
	}
	keys := tx.keysIn(from, to)
	more := true
	// emit passes on the transaction's own keys below limit.
	emit := func(limit []byte) bool {
		for more && len(keys) > 0 && (limit == nil || keys[0] < string(limit)) {
			if w := tx.own[keys[0]]; !w.deleted {
				more = fn([]byte(keys[0]), w.value)
			}
			keys = keys[1:]
		}
		return more
	}
	err := tx.reader.Scan(from, to, func(key, value []byte) bool {
		if !emit(key) {
			return false
		}
		if _, ok := tx.own[string(key)]; ok || tx.hidden(key) {
			return true // emit has it, or nobody
		}
		more = fn(key, value)
		return more
	})
	if err == nil {
		emit(nil)
	}
	return err
}

// keysIn returns the transaction's own keys in [from, to), in order.
func (tx *txn) keysIn(from, to []byte) []string {
	if tx.stale {
		tx.sorted = tx.sorted[:0:0] // a scan around this one may still use the old one
		for key := range tx.own {
			tx.sorted = append(tx.sorted, key)
		}
		slices.Sort(tx.sorted)
		tx.stale = false
	}
	lo, _ := slices.BinarySearch(tx.sorted, string(from))
	keys := tx.sorted[lo:]
	if to != nil {
		hi, _ := slices.BinarySearch(keys, string(to))
		keys = keys[:hi]
	}
	return keys
}

package mailstore

import (
	"slices"
)

// longRun is from how many messages in a row on their records are deleted as a
// range: a thousand records that say that another is gone cost as much as those.
const longRun = 128

// release counts one row less for each of the messages, and removes those that
// no other row holds. A message may be named more than once.
func (r *reaping) release(msgs []uint64) error {
	msgs = slices.Sorted(slices.Values(msgs))
	if err := r.readHolders(msgs); err != nil {
		return err
	}
	dead := msgs[:0]
	for _, msg := range msgs {
		n := r.holders[msg]
		if n <= 1 {
			dead = append(dead, msg)
			continue
		}
		r.holders[msg] = n - 1
		r.t.set(numKey(keyRefs, msg), appendUints(nil, n-1))
	}
	known, err := r.readRefs(dead)
	if err != nil {
		return err
	}
	for len(known) > 0 {
		n := 1
		for n < len(known) && known[n] == known[0]+uint64(n) {
			n++
		}
		r.remove(known[:n])
		known = known[n:]
	}
	return nil
}

// remove deletes the records of messages with consecutive numbers.
func (r *reaping) remove(run []uint64) {
	for _, kind := range []byte(messageKinds) {
		if len(run) >= longRun {
			r.t.deleteRange(numKey(kind, run[0]), numKey(kind, run[len(run)-1]+1))
			continue
		}
		for _, msg := range run {
			r.t.delete(numKey(kind, msg))
		}
	}
	for _, msg := range run {
		if _, ok := r.holders[msg]; ok {
			r.t.delete(numKey(keyRefs, msg))
		}
	}
}

// readHolders makes r.holders know how many rows hold the messages, where it is
// not one. What it knows already is newer than what is stored.
func (r *reaping) readHolders(msgs []uint64) error {
	if r.holders == nil {
		r.holders = make(map[uint64]uint64)
	}
	return r.read(keyRefs, msgs, func(msg uint64, value []byte) error {
		if _, ok := r.holders[msg]; ok {
			return nil
		}
		d := decoder{data: value}
		r.holders[msg] = d.uint()
		return d.err("reference count")
	})
}

// readRefs takes the blobs of messages into r.refs, and returns those messages
// that there are.
func (r *reaping) readRefs(msgs []uint64) (known []uint64, err error) {
	err = r.read(keyMessage, msgs, func(msg uint64, value []byte) error {
		rec, err := decodeMessage(value)
		if err != nil {
			return err
		}
		known, r.refs = append(known, msg), append(r.refs, rec.ref)
		return nil
	})
	return known, err
}

// read calls fn for each record of a kind that the messages have; msgs are in
// order. One scan is cheaper than many look-ups.
func (r *reaping) read(kind byte, msgs []uint64, fn func(msg uint64, value []byte) error) error {
	if len(msgs) == 0 {
		return nil
	}
	first, last := msgs[0], msgs[len(msgs)-1]
	if len(msgs) >= 16 && last-first < 4*uint64(len(msgs)) {
		return scanRange(r.t.b.tx, numKey(kind, first), numKey(kind, last+1), func(key, value []byte) error {
			msg := numOfKey(key)
			if _, ok := slices.BinarySearch(msgs, msg); !ok {
				return nil
			}
			return fn(msg, value)
		})
	}
	for i, msg := range msgs {
		if i > 0 && msg == msgs[i-1] {
			continue
		}
		value, ok, err := r.t.b.tx.Get(numKey(kind, msg))
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := fn(msg, value); err != nil {
			return err
		}
	}
	return nil
}

package memkv

import (
	"bytes"
	"math/rand/v2"
)

// A tree is a treap that is never changed: every edit returns a new root and
// shares what it did not touch. A snapshot is therefore a pointer, a rollback
// is forgetting one, and readers need no lock.
type tree struct {
	key, value  []byte
	priority    uint64
	left, right *tree
}

func (t *tree) get(key []byte) ([]byte, bool) {
	for t != nil {
		switch c := bytes.Compare(key, t.key); {
		case c < 0:
			t = t.left
		case c > 0:
			t = t.right
		default:
			return t.value, true
		}
	}
	return nil, false
}

// split parts t into the keys below key and the rest.
func (t *tree) split(key []byte) (below, rest *tree) {
	if t == nil {
		return nil, nil
	}
	n := *t
	if bytes.Compare(t.key, key) < 0 {
		n.right, rest = t.right.split(key)
		return &n, rest
	}
	below, n.left = t.left.split(key)
	return below, &n
}

// join puts two trees together; every key of a is below every key of b.
func join(a, b *tree) *tree {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.priority > b.priority:
		n := *a
		n.right = join(a.right, b)
		return &n
	default:
		n := *b
		n.left = join(a, b.left)
		return &n
	}
}

// set keeps key and value; the caller has copied them.
func (t *tree) set(key, value []byte) *tree {
	below, rest := t.split(key)
	_, above := rest.split(after(key))
	one := &tree{key: key, value: value, priority: rand.Uint64()}
	return join(join(below, one), above)
}

func (t *tree) deleteRange(from, to []byte) *tree {
	below, rest := t.split(from)
	if to == nil {
		return below
	}
	_, above := rest.split(to)
	return join(below, above)
}

// scan reports whether the caller wants more.
func (t *tree) scan(from, to []byte, fn func(key, value []byte) bool) bool {
	if t == nil {
		return true
	}
	atLeast := bytes.Compare(t.key, from) >= 0
	if atLeast && !t.left.scan(from, to, fn) {
		return false
	}
	if to != nil && bytes.Compare(t.key, to) >= 0 {
		return true
	}
	if atLeast && !fn(t.key, t.value) {
		return false
	}
	return t.right.scan(from, to, fn)
}

// after returns the least key that is greater than key.
func after(key []byte) []byte {
	return append(bytes.Clone(key), 0)
}

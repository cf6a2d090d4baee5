package imapmodel

import (
	"container/list"
	"sync"
)

// lru is a cache that forgets what was used longest ago when its values cost
// more than its budget. It is safe for concurrent use.
type lru[K comparable, V any] struct {
	budget int64

	mu    sync.Mutex
	cost  int64
	order list.List // of *lruItem, most recently used first
	items map[K]*list.Element
}

type lruItem[K comparable, V any] struct {
	key   K
	value V
	cost  int64
}

func newLRU[K comparable, V any](budget int64) *lru[K, V] {
	return &lru[K, V]{budget: budget, items: map[K]*list.Element{}}
}

func (c *lru[K, V]) get(key K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.items[key]
	if !ok {
		return v, false
	}
	c.order.MoveToFront(el)
	return el.Value.(*lruItem[K, V]).value, true
}

// put keeps a value, unless it alone would take more than half of the budget.
func (c *lru[K, V]) put(key K, value V, cost int64) {
	if cost > c.budget/2 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.items[key]; ok {
		c.drop(el)
	}
	c.items[key] = c.order.PushFront(&lruItem[K, V]{key, value, cost})
	c.cost += cost
	for c.cost > c.budget {
		c.drop(c.order.Back())
	}
}

// drop removes an element; mu is held.
func (c *lru[K, V]) drop(el *list.Element) {
	item := c.order.Remove(el).(*lruItem[K, V])
	delete(c.items, item.key)
	c.cost -= item.cost
}

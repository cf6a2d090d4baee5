package mailstore

import (
	"cmp"
	"context"
	"errors"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/message"
)

// columnBuilder is the deriver that makes blocks of columns.
type columnBuilder struct {
	columns []column
	rows    int // messages in a block
}

func newColumnBuilder(rows int) *columnBuilder { return &columnBuilder{columnList(), rows} }

func (*columnBuilder) what() string       { return "the columns that SEARCH reads" }
func (*columnBuilder) id() byte           { return keyColumn }
func (*columnBuilder) version() uint64    { return columnsForm<<16 | uint64(message.Version) }
func (*columnBuilder) prefixes() [][]byte { return [][]byte{{keyColumn}} }

// step is how many new messages make a step: few, as a search looks into each
// that is in no block, but not so few that the last block, which every step
// writes anew, is written too often.
func (c *columnBuilder) step() int { return max(1, c.rows/8) }

func (c *columnBuilder) due(waiting uint64) bool { return waiting >= uint64(c.step()) }

// derive makes the next block, or adds to the last one where that has room.
func (c *columnBuilder) derive(ctx context.Context, a *account, mark, last uint64) (*derivation, error) {
	w := c.newWriters()
	begun, err := w.resume(ctx, a, mark, c.rows-c.step())
	if err != nil {
		return nil, err
	}
	msgs, upTo, err := a.messagesAbove(ctx, mark, last, c.rows-begun)
	if err != nil || len(msgs) < c.step() && last-mark < 100*uint64(c.rows) {
		return nil, err
	}
	if len(msgs) == 0 {
		return &derivation{upTo: upTo, run: func(*opTx) error { return nil }}, nil
	}
	upTo = msgs[len(msgs)-1]
	size := 0
	err = a.eachMessage(ctx, msgs, NeedDigest|NeedText, func(msg uint64, m *Message) error {
		if m.Err != nil && imap.KindOf(m.Err) != imap.NotFound && !isDamage(m.Err) {
			return m.Err // it may be better later
		}
		size += w.add(msg, m)
		if size >= blockBytes && msg < upTo {
			upTo = msg
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	return &derivation{upTo: upTo, weight: 2 * size, run: func(t *opTx) error {
		if begun > 0 {
			for _, col := range c.columns {
				t.delete(columnKey(col.id, mark))
			}
		}
		return w.put(t)
	}}, nil
}

// resume begins with what is in the last block, where that has at most so many
// messages, and returns how many it has.
func (w *blockWriters) resume(ctx context.Context, a *account, mark uint64, most int) (n int, err error) {
	err = a.store.kv.View(ctx, a.num, func(r driver.Reader) error {
		n = 0
		var b block
		for i := range w.all {
			data, ok, err := r.Get(columnKey(w.all[i].id, mark))
			if err == nil && ok {
				err = derivedDamage(b.readAll(w.all[i].id, data))
			}
			if err != nil || !ok || b.n > most || len(data) > blockBytes/2 {
				w.reset()
				n = 0
				return err
			}
			w.all[i].reset()
			w.all[i].addFrom(&b, nil)
			n = b.n
		}
		return nil
	})
	return n, err
}

// blockWriters write a block of each column.
type blockWriters struct {
	columns []column
	all     []blockWriter
	space   []byte
}

func (c *columnBuilder) newWriters() *blockWriters {
	w := &blockWriters{columns: c.columns, all: make([]blockWriter, len(c.columns))}
	for i := range w.all {
		w.all[i].id = c.columns[i].id
	}
	return w
}

func (w *blockWriters) reset() {
	for i := range w.all {
		w.all[i].reset()
	}
}

// add adds a message and returns about how many bytes that takes.
func (w *blockWriters) add(msg uint64, m *Message) (size int) {
	known := m.Err == nil && m.Digest != nil && m.Text != nil
	for i := range w.all {
		b := &w.all[i]
		switch {
		case w.columns[i].id == sentColumnID:
			b.begin(msg, !known)
			sent := sentDay{}
			if known {
				sent = sentOf(m.Digest)
			}
			b.addSent(sent)
		case !known:
			b.begin(msg, true)
			b.addText(nil)
		default:
			var cut bool
			w.space, cut = appendField(w.space[:0], m.Text.Header, w.columns[i].field)
			b.begin(msg, cut || headerCut(m))
			b.addText(w.space)
			size += len(w.space)
		}
		size += 2
	}
	return size
}

// headerCut reports whether the search text may lack some of the header. It is
// filled from the header on, so where there is something behind the header, it
// was the body that has been cut off.
func headerCut(m *Message) bool {
	return m.Text.Truncated && (m.Digest.Truncated || len(m.Text.Body) == 0)
}

// put writes the blocks.
func (w *blockWriters) put(t *opTx) error {
	for i := range w.all {
		b := &w.all[i]
		run := b.runs[len(b.runs)-1]
		t.set(columnKey(b.id, run.first+run.count-1), b.record())
	}
	return nil
}

// tidy makes one block out of neighbours that have room for each other by now,
// without the messages that are gone.
func (c *columnBuilder) tidy(ctx context.Context, a *account, next, mark uint64) (d *derivation, then uint64, err error) {
	var old []uint64 // the blocks to replace, by their last message
	live := make(map[uint64]bool)
	err = a.store.kv.View(ctx, a.num, func(r driver.Reader) error {
		old, then = nil, 0
		clear(live)
		var b block
		return scanRange(r, columnKey(sentColumnID, next), columnKey(sentColumnID, mark+1), func(key, value []byte) error {
			if err := b.read(sentColumnID, value); err != nil || b.n == 0 {
				return derivedDamage(cmp.Or(err, errDamaged))
			}
			some, err := livingOf(r, &b)
			if err != nil {
				return err
			}
			if len(old) == maxMerged || len(old) > 0 && len(live)+len(some) > c.rows {
				then = b.first()
				return errEnough
			}
			old = append(old, numOfKey(key))
			for _, msg := range some {
				live[msg] = true
			}
			return nil
		})
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	if err != nil || len(old) == 0 || len(old) == 1 && len(live) > 0 {
		return nil, then, err
	}
	records := make([][]byte, len(c.columns))
	for i := range c.columns {
		if records[i], err = a.mergeBlocks(ctx, c.columns[i].id, old, live); err != nil {
			return nil, 0, err
		}
	}
	last := uint64(0)
	for msg := range live {
		last = max(last, msg)
	}
	return &derivation{weight: blockBytes, run: func(t *opTx) error {
		for i := range c.columns {
			for _, n := range old {
				t.delete(columnKey(c.columns[i].id, n))
			}
			if len(live) > 0 {
				t.set(columnKey(c.columns[i].id, last), records[i])
			}
		}
		return nil
	}}, then, nil
}

// maxMerged bounds the blocks that one step merges.
const maxMerged = 32

// livingOf returns the messages of a block that are still there.
func livingOf(r driver.Reader, b *block) (msgs []uint64, err error) {
	for _, run := range b.runs {
		err := scanRange(r, numKey(keyMessage, run.first), numKey(keyMessage, run.first+run.count), func(key, _ []byte) error {
			msgs = append(msgs, numOfKey(key))
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return msgs, nil
}

// mergeBlocks makes one record out of several, of the messages that live.
func (a *account) mergeBlocks(ctx context.Context, id byte, old []uint64, live map[uint64]bool) ([]byte, error) {
	w := blockWriter{id: id}
	err := a.store.kv.View(ctx, a.num, func(r driver.Reader) error {
		w = blockWriter{id: id}
		var b block
		for _, last := range old {
			data, ok, err := r.Get(columnKey(id, last))
			if err == nil && !ok {
				err = derivedDamage(errDamaged)
			}
			if err == nil {
				err = derivedDamage(b.readAll(id, data))
			}
			if err != nil {
				return err
			}
			w.addFrom(&b, live)
		}
		return nil
	})
	return w.record(), err
}

// addFrom adds the messages of another block: those that live, or all.
func (w *blockWriter) addFrom(b *block, live map[uint64]bool) {
	i, open := 0, b.open
	for _, run := range b.runs {
		for msg := run.first; msg < run.first+run.count; msg++ {
			isOpen := len(open) > 0 && open[0] == i
			if isOpen {
				open = open[1:]
			}
			if live == nil || live[msg] {
				w.begin(msg, isOpen)
				if w.id == sentColumnID {
					w.addSent(b.sent[i])
				} else {
					w.addText(b.textOf(i))
				}
			}
			i++
		}
	}
}

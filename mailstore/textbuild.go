package mailstore

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/textindex"
	"github.com/rookery-mail/rookery/message"
)

// textDeriver builds the text index: a segment of some hundred messages at a
// time, and of several segments one. A segment that is too large for one
// transaction is written in several; until the directory names it, it is not
// there.
type textDeriver struct {
	batch    uint64    // how many messages have to wait for a segment
	builders sync.Pool // of *textindex.Builder
}

func newTextDeriver(batch int) *textDeriver { return &textDeriver{batch: uint64(batch)} }

// textVersion is that of the index's own form.
const textVersion = 1

func (*textDeriver) what() string       { return "segments of the text index" }
func (*textDeriver) id() byte           { return 't' }
func (*textDeriver) version() uint64    { return textVersion<<16 | uint64(message.Version) }
func (*textDeriver) prefixes() [][]byte { return [][]byte{{keySegments}, {keySegPage}} }

// due waits for some hundred messages: until then a search looks into each, which
// takes some milliseconds.
func (x *textDeriver) due(waiting uint64) bool { return waiting >= x.batch }

// derive merges segments, where there are enough of one size, or else indexes
// the next messages.
func (x *textDeriver) derive(ctx context.Context, a *account, mark, last uint64) (*derivation, error) {
	dir, err := a.textDirectory(ctx)
	if err != nil {
		return nil, err
	}
	if dir.last() != mark {
		return nil, derivedDamage(errDamaged)
	}
	if i, n := dir.mergeable(); n > 0 {
		return a.mergeSegments(ctx, mark, dir, i, n)
	}
	b, ok := x.builders.Get().(*textindex.Builder)
	if !ok {
		b = new(textindex.Builder)
	}
	defer x.builders.Put(b)
	b.Begin(mark + 1)
	upTo, err := a.indexTexts(ctx, b, mark, min(last, mark+100*x.batch, mark+textindex.MaxSpan))
	if err != nil {
		return nil, err
	}
	w := &segmentWriter{a: a, ctx: ctx, dir: dir}
	seg, err := b.Finish(upTo, w.page)
	if err != nil {
		return nil, err
	}
	return w.finish(seg, len(dir.segments), 0), nil
}

// indexTexts adds messages above mark to a segment until it is full or all are
// in it, and returns up to which number it covers them.
func (a *account) indexTexts(ctx context.Context, b *textindex.Builder, mark, last uint64) (upTo uint64, err error) {
	upTo = mark
	for upTo < last {
		msgs, until, err := a.messagesAbove(ctx, upTo, last, fetchRows)
		if err != nil {
			return 0, err
		}
		err = a.eachMessage(ctx, msgs, NeedText, func(num uint64, msg *Message) error {
			if !b.Room(num) {
				return errEnough
			}
			upTo = num
			switch t := msg.Text; {
			case imap.KindOf(msg.Err) == imap.NotFound: // it is gone
			case msg.Err != nil || t == nil || t.Truncated:
				b.AddOpen(num)
			default:
				b.Add(num, t.Header, t.MIME, t.Body)
			}
			return nil
		})
		if errors.Is(err, errEnough) {
			return upTo, nil
		}
		if err != nil {
			return 0, err
		}
		upTo = until
	}
	return upTo, nil
}

// tidy rewrites the segment of message next, where a quarter of its messages
// are gone.
func (x *textDeriver) tidy(ctx context.Context, a *account, next, mark uint64) (*derivation, uint64, error) {
	dir, err := a.textDirectory(ctx)
	if err != nil {
		return nil, 0, err
	}
	for i := dir.find(max(next, 1)); i < len(dir.segments); i++ {
		seg := &dir.segments[i]
		then := seg.Last + 1
		if then > mark {
			then = 0
		}
		live, err := a.liveMessages(ctx, seg.First, seg.Last)
		if err != nil {
			return nil, 0, err
		}
		if live.count*4 > seg.Docs*3 {
			continue
		}
		d, err := a.mergeSegments(ctx, mark, dir, i, 1)
		return d, then, err
	}
	return nil, 0, nil
}

// mergeSegments makes one segment of n, from index i of the directory on,
// without what is gone.
func (a *account) mergeSegments(ctx context.Context, mark uint64, dir directory, i, n int) (*derivation, error) {
	inputs := make([]textindex.Input, n)
	for j := range inputs {
		s := dir.segments[i+j]
		view := func(fn func(driver.Reader) error) error { return a.store.kv.View(ctx, a.num, fn) }
		inputs[j] = textindex.Input{Segment: s.Segment, Source: &latePages{view: view, seg: s.num}}
	}
	live, err := a.liveMessages(ctx, inputs[0].First, inputs[n-1].Last)
	if err != nil {
		return nil, err
	}
	w := &segmentWriter{a: a, ctx: ctx, dir: dir, began: time.Now()}
	seg, err := textindex.Merge(inputs, live.has, w.page)
	if damagedIndex(err) {
		return nil, derivedDamage(err)
	}
	if err != nil {
		return nil, err
	}
	d := w.finish(seg, i, n)
	d.upTo = mark
	return d, nil
}

// liveSet tells which messages of a range exist.
type liveSet struct {
	first uint64
	bits  []uint64
	count int
}

func (l *liveSet) has(msg uint64) bool {
	i := msg - l.first
	return l.bits[i/64]&(1<<(i%64)) != 0
}

func (a *account) liveMessages(ctx context.Context, first, last uint64) (l *liveSet, err error) {
	err = a.store.kv.View(ctx, a.num, func(r driver.Reader) error {
		l = &liveSet{first: first, bits: make([]uint64, (last-first)/64+1)}
		return scanRange(r, numKey(keyMessage, first), numKey(keyMessage, last+1), func(key, _ []byte) error {
			i := numOfKey(key) - first
			l.bits[i/64] |= 1 << (i % 64)
			l.count++
			return nil
		})
	})
	return l, err
}

func (a *account) textDirectory(ctx context.Context) (dir directory, err error) {
	err = a.store.kv.View(ctx, a.num, func(r driver.Reader) (err error) {
		dir, err = readDirectory(r)
		return err
	})
	if damagedIndex(err) {
		err = derivedDamage(err)
	}
	return dir, err
}

// segmentWriter writes the pages of a new segment: those of a small one
// together with the directory, others before it.
type segmentWriter struct {
	a     *account
	ctx   context.Context
	dir   directory // as it is on disk
	num   uint64    // where pages are on disk already: the segment's
	pages []textindex.Page
	size  int
	began time.Time // of what was done since the last pause
}

// errMoved says that another process changes the text index.
var errMoved = errors.New("mailstore: the text index has been changed meanwhile")

// change writes pages and a new directory in the place of the one that the
// writer knows.
func (w *segmentWriter) change(t *opTx, num uint64, pages []textindex.Page, dir *directory) error {
	now, ok, err := t.get([]byte{keySegments})
	if err != nil {
		return err
	}
	if ok && !slices.Equal(now, w.dir.encode()) || !ok && w.dir.next > 0 {
		return errMoved
	}
	for _, p := range pages {
		t.set(pageKey(num, p.Last), p.Data)
	}
	t.set([]byte{keySegments}, dir.encode())
	return nil
}

func (w *segmentWriter) page(p textindex.Page) error {
	w.pages = append(w.pages, p)
	// Others wait for a transaction, so it is a small one.
	if w.size += len(p.Data); w.size < w.a.store.opts.TxnBytes/8 {
		return nil
	}
	dir := w.dir
	if w.num == 0 {
		dir.next++
		w.num, dir.writing = dir.next, dir.next
	}
	err := w.a.submit(w.ctx, &op{weight: w.size, run: func(t *opTx) error {
		if old := w.dir.writing; old != 0 && old != w.num {
			// What an interrupted step has left.
			prefix := numKey(keySegPage, old)
			t.deleteRange(prefix, prefixEnd(prefix))
		}
		return w.change(t, w.num, w.pages, &dir)
	}})
	if err != nil {
		return err
	}
	w.dir, w.pages, w.size = dir, nil, 0
	return w.pause()
}

// pause lets others work, as long as has been worked here.
func (w *segmentWriter) pause() error {
	select {
	case <-time.After(w.a.breath(time.Since(w.began))):
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
	w.began = time.Now()
	return nil
}

// finish returns the step that puts the segment in the place of n others.
func (w *segmentWriter) finish(seg textindex.Segment, i, n int) *derivation {
	dir := w.dir
	num, written := w.num, dir.writing
	if num == 0 {
		dir.next++
		num = dir.next
	}
	dir.writing = 0
	useless := make([]uint64, 0, n+1)
	for _, s := range dir.segments[i : i+n] {
		useless = append(useless, s.num)
	}
	if written != 0 && written != num { // by a step that was interrupted
		useless = append(useless, written)
	}
	dir.replace(i, n, segment{seg, num})
	return &derivation{upTo: seg.Last, weight: w.size, run: func(t *opTx) error {
		for _, num := range useless {
			prefix := numKey(keySegPage, num)
			t.deleteRange(prefix, prefixEnd(prefix))
		}
		return w.change(t, num, w.pages, &dir)
	}}
}

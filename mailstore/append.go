package mailstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// AppendItem is one message of an Append.
type AppendItem struct {
	Upload *Upload
	Flags  []imap.Flag // \Recent is ignored; doubles do not matter
	Date   imap.Time   // internal date; the zero value means now
	// ImportKey, where set, names the message in the place that it is imported
	// from. A message with a key that has been appended before is left out,
	// even when the user has deleted it since.
	ImportKey string
}

// AppendResult says where the messages went.
type AppendResult struct {
	UIDValidity imap.UIDValidity
	UIDs        []imap.UID // in the order of the items; 0 for one that was left out
}

// maxAppendItems bounds one Append.
const maxAppendItems = 10_000

// Append adds messages to a mailbox, all or none, and returns when they are
// durable. It consumes the uploads, whatever it returns. Kind NotFound where
// the mailbox is missing.
func (a *Account) Append(ctx context.Context, mailbox string, items []AppendItem) (*AppendResult, error) {
	opName := "mailstore: append to " + mailbox
	uploads := make([]*Upload, len(items))
	for i := range items {
		uploads[i] = items[i].Upload
	}
	defer a.discard(uploads)
	if len(items) > maxAppendItems {
		return nil, &imap.Error{Op: opName, Kind: imap.Limit, Text: fmt.Sprintf("one APPEND takes up to %d messages", maxAppendItems)}
	}
	if n := a.tree.Load().byName[mailbox]; n == nil || n.noSelect {
		return nil, imap.E(opName, imap.NotFound, nil)
	}
	items = slices.Clone(items)
	ap := &appending{a: a.account, mailbox: mailbox, items: items}
	for i := range items {
		if items[i].Date == 0 {
			items[i].Date = imap.TimeOf(a.store.now())
		}
	}
	if err := finishAll(mailbox, items); err != nil {
		return nil, imap.E(opName, imap.Other, err)
	}
	weight := 0
	for _, it := range items {
		weight += it.Upload.weight()
	}
	if err := a.store.blobs.Sync(ctx); err != nil {
		return nil, imap.E(opName, imap.Other, err)
	}
	if err := a.store.boundRefs(ctx, items); err != nil {
		return nil, imap.E(opName, imap.Other, err)
	}
	if weight > a.store.opts.TxnBytes {
		ap.staged = true
		weight = 0
	}
	err := a.submit(ctx, &op{weight: weight, run: ap.run, large: ap.large})
	if err == nil || errors.Is(err, driver.ErrUnknown) {
		for i, it := range items {
			it.Upload.named = err != nil || ap.res.UIDs[i] != 0
		}
	}
	if err != nil {
		return nil, imap.E(opName, imap.Other, err)
	}
	return &ap.res, nil
}

// finishAll finishes the uploads of items, which is most of the work of an Append
// of many: on all processors.
func finishAll(mailbox string, items []AppendItem) error {
	var next atomic.Int64
	errs := make([]error, len(items))
	work := func() {
		for i := next.Add(1) - 1; i < int64(len(items)); i = next.Add(1) - 1 {
			errs[i] = guard(func() error { return items[i].Upload.finish(blobMeta(mailbox, &items[i])) })
		}
	}
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(items)) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	return errors.Join(errs...)
}

func (u *Upload) weight() int { return u.derived.size() + 300 + 24*len(u.ids) }

// blobMeta describes a message beside its bytes, so that it can be shown again
// if the index is lost.
func blobMeta(mailbox string, it *AppendItem) []byte {
	b := appendUints(nil, 1)
	b = appendString(b, mailbox)
	b = binary.AppendVarint(b, int64(it.Date))
	for i, f := range it.Flags {
		if i == 100 || len(b) > 3500 {
			break
		}
		b = appendString(b, string(f))
	}
	return b
}

// appending is an Append on its way.
type appending struct {
	a       *account
	mailbox string
	items   []AppendItem
	res     AppendResult

	staged bool   // takes several transactions
	ready  bool   // the message records are on disk
	first  uint64 // of the messages, with ready
	skip   []bool // with ready
}

// run adds the messages. With ready only the rows are left to do.
func (p *appending) run(t *opTx) error {
	if p.staged && !p.ready {
		return errLarge
	}
	num, err := t.selectable(p.mailbox)
	if err != nil {
		return err
	}
	e, err := t.edit(num, false)
	if err != nil {
		return err
	}
	p.res = AppendResult{UIDValidity: e.node.uidValidity, UIDs: make([]imap.UID, len(p.items))}
	var rows mailindex.Columns
	for i := range p.items {
		it := &p.items[i]
		skip, err := p.skipped(t, i)
		if err != nil {
			return err
		}
		if skip {
			continue
		}
		msg := p.first + uint64(i)
		if !p.ready {
			t.rec.nextMsg++
			msg = t.rec.nextMsg
			if err := t.putMessage(msg, it.Upload); err != nil {
				return err
			}
		}
		row, err := e.appendMessage(msg, it)
		if err != nil {
			return err
		}
		rows.Push(&row)
		p.res.UIDs[i] = row.UID
		if it.ImportKey != "" {
			t.setSeen(hashKey(keyImport, it.ImportKey), nil)
		}
	}
	if p.ready {
		t.delete(numKey(keyPending, p.first))
	}
	if rows.Len() > 0 {
		if err := e.putRows(&rows); err != nil {
			return err
		}
		e.touch()
		e.done()
	}
	return nil
}

// skipped reports whether an item has been imported before.
func (p *appending) skipped(t *opTx, i int) (bool, error) {
	if p.ready {
		return p.skip[i], nil
	}
	if p.items[i].ImportKey == "" {
		return false, nil
	}
	_, seen, err := t.get(hashKey(keyImport, p.items[i].ImportKey))
	return seen, err
}

// putMessage writes the records of a message.
func (t *opTx) putMessage(msg uint64, u *Upload) (err error) {
	rec := u.rec
	if rec.thread, err = t.thread(msg, u.ids); err != nil {
		return err
	}
	t.a.noteRef(rec.ref)
	t.set(numKey(keyMessage, msg), rec.encode())
	t.putDerived(msg, &u.derived)
	return nil
}

// appendMessage shows a row for a message, which putRows is yet to write.
func (e *boxEdit) appendMessage(msg uint64, it *AppendItem) (row mailindex.Row, err error) {
	uid, err := e.nextUID()
	if err != nil {
		return row, err
	}
	row = mailindex.Row{
		UID: uid, Msg: msg, Flags: e.ed.Intern(it.Flags), ModSeq: e.modseq, Date: it.Date,
		Size: uint32(min(it.Upload.rec.size, 1<<32-1)), SaveDate: unixNow(e.t.a.store.now()),
	}
	e.show(&row)
	return row, nil
}

// large writes the records of the messages in several transactions and shows
// the rows in a last one. Until that, a pending record says that the messages
// are rubbish.
func (p *appending) large() error {
	stage := func(run func(t *opTx) error) error {
		o := &op{run: run}
		if err := p.a.transact([]*op{o}, false); err != nil {
			return err
		}
		return o.err
	}
	count := uint64(len(p.items))
	skip := make([]bool, count)
	err := stage(func(t *opTx) error {
		if _, err := t.selectable(p.mailbox); err != nil {
			return err
		}
		keys := make(map[string]bool)
		for i := range p.items {
			var err error
			if skip[i], err = p.skipped(t, i); err != nil {
				return err
			}
			if key := p.items[i].ImportKey; key != "" {
				skip[i] = skip[i] || keys[key]
				keys[key] = true
			}
		}
		p.first = t.rec.nextMsg + 1
		t.rec.nextMsg += count
		t.set(numKey(keyPending, p.first), appendUints(nil, count))
		return nil
	})
	if err != nil {
		return err
	}
	p.skip = skip
	for from := 0; from < len(p.items); {
		to, weight := from, 0
		for to < len(p.items) && (to == from || weight+p.items[to].Upload.weight() <= p.a.store.opts.TxnBytes) {
			weight += p.items[to].Upload.weight()
			to++
		}
		err := stage(func(t *opTx) error {
			for i := from; i < to; i++ {
				if p.skip[i] {
					continue
				}
				if err := t.putMessage(p.first+uint64(i), p.items[i].Upload); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			p.undo()
			return err
		}
		from = to
	}
	p.ready = true
	o := &op{run: p.run}
	if err := p.a.transact([]*op{o}, true); err != nil {
		if !errors.Is(err, driver.ErrUnknown) {
			p.undo()
		}
		return err
	}
	if o.err != nil {
		p.undo()
	}
	return o.err
}

// undo takes away the records of messages that will get no rows. Where it
// fails, the next start of the account does it.
func (p *appending) undo() {
	o := &op{run: func(t *opTx) error { return t.dropPending(p.first, uint64(len(p.items))) }}
	if err := errors.Join(p.a.transact([]*op{o}, false), o.err); err != nil {
		p.a.store.opts.Logger.Warn("the remains of an APPEND wait to be removed", "account", p.a.user, "err", err)
	}
}

// dropPending removes the records of messages that have no rows.
func (t *opTx) dropPending(first, count uint64) error {
	for _, kind := range []byte(messageKinds) {
		t.deleteRange(numKey(kind, first), numKey(kind, first+count))
	}
	t.delete(numKey(keyPending, first))
	return nil
}

// ImportSeen reports for each key whether a message with it has been appended
// to the account before.
func (a *Account) ImportSeen(ctx context.Context, keys []string) ([]bool, error) {
	seen := make([]bool, len(keys))
	err := a.store.kv.View(ctx, a.num, func(r driver.Reader) (err error) {
		for i, key := range keys {
			if _, seen[i], err = r.Get(hashKey(keyImport, key)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, imap.E("mailstore: look up what has been imported", imap.Other, err)
	}
	return seen, nil
}

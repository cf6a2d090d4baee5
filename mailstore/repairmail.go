package mailstore

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/message"
)

// messages reads all messages of the account, whose records agree by now: what
// is derived of them is made again, those that are lost leave their mailboxes,
// and those that have no place come to Recovered.
func (a *accountRepair) messages(ctx context.Context) error {
	acct, err := a.store.load(ctx, a.num, a.user)
	if err != nil {
		return err
	}
	m := &mailRepair{accountRepair: a, acct: acct, lost: make(map[uint64]error), gone: make(map[uint64]bool), named: make(map[driver.Ref]bool)}
	for _, step := range []func(context.Context) error{m.reap, m.readAll, m.resize, m.dropLost, m.reap, m.recover} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// resize writes the rows anew where messages have other sizes than their records
// said.
func (m *mailRepair) resize(ctx context.Context) (err error) {
	if !m.resized {
		return nil
	}
	m.acct.shutdown()
	m.store.mu.Lock()
	delete(m.store.accounts, m.num)
	m.store.mu.Unlock()
	if err := m.mend(ctx); err != nil {
		return err
	}
	m.acct, err = m.store.load(ctx, m.num, m.user)
	return err
}

// reap takes away what was expunged: no session needs it.
func (m *mailRepair) reap(ctx context.Context) error {
	for {
		m.acct.mu.Lock()
		g, ok := m.acct.ripe()
		m.acct.mu.Unlock()
		if !ok {
			return nil
		}
		if err := m.acct.reapStep(ctx, g); err != nil {
			return err
		}
	}
}

// mailRepair is the part of an accountRepair that is about messages.
type mailRepair struct {
	*accountRepair
	acct  *account
	lost  map[uint64]error
	gone  map[uint64]bool     // those of lost that were expunged by a commit that is missing
	named map[driver.Ref]bool // blobs that records name, and that are whole
	batch []derivedAgain
	size  int
}

// derivedAgain is what is written of one message.
type derivedAgain struct {
	msg uint64
	rec messageRec
	derived
}

// readAll reads the messages that there are records of.
func (m *mailRepair) readAll(ctx context.Context) error {
	var list []derivedAgain
	err := m.kv.View(ctx, m.num, func(r driver.Reader) error {
		list = nil
		return scanPrefix(r, []byte{keyMessage}, func(key, value []byte) error {
			rec, err := decodeMessage(value)
			list = append(list, derivedAgain{msg: numOfKey(key), rec: rec})
			return err
		})
	})
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(x, y derivedAgain) int { return cmp.Compare(x.rec.ref, y.rec.ref) })
	for i, d := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		// Where another record names the same blob, one of them is wrong.
		shared := i > 0 && list[i-1].rec.ref == d.rec.ref || i+1 < len(list) && list[i+1].rec.ref == d.rec.ref
		m.loss = m.loss || shared
		if !shared {
			if err := m.trueSize(ctx, &d); err != nil {
				return err
			}
		}
		_, err := m.derive(ctx, &d)
		if err != nil && ctx.Err() == nil && (isDamage(err) || imap.KindOf(err) == imap.NotFound) {
			m.lost[d.msg] = err
			m.gone[d.msg] = m.wasExpunged(d.rec.ref)
			continue
		}
		if err != nil {
			return err
		}
		m.named[d.rec.ref] = true
		m.batch = append(m.batch, d)
		if m.size += d.derived.size() + 200; m.size > m.acct.store.opts.TxnBytes {
			if err := m.flush(ctx); err != nil {
				return err
			}
		}
	}
	return m.flush(ctx)
}

// trueSize corrects the size that a record has of its blob.
func (m *mailRepair) trueSize(ctx context.Context, d *derivedAgain) error {
	blob, err := m.blobs.Open(ctx, m.num, d.rec.ref)
	if err != nil {
		return ctx.Err() // derive tells
	}
	defer blob.Close()
	if size := blob.Size(); size != d.rec.rawSize {
		m.note(RepairMended, m.user, "", 0, "message %d has %d bytes, and its record said %d", d.msg, size, d.rec.rawSize)
		d.rec.rawSize = size
	}
	return nil
}

// derive reads one message whole, and derives what is derived.
func (m *mailRepair) derive(ctx context.Context, d *derivedAgain) (*message.Digest, error) {
	blob, err := m.blobs.Open(ctx, m.num, d.rec.ref)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	if blob.Size() != d.rec.rawSize {
		return nil, imap.E("repair", imap.Corruption, fmt.Errorf("it has %d bytes, and %d are expected", blob.Size(), d.rec.rawSize))
	}
	// All of it has to be read, also what nothing is derived from.
	n, err := io.Copy(io.Discard, io.NewSectionReader(blob, 0, blob.Size()))
	if err != nil {
		return nil, err
	}
	digest, err := m.acct.digest(blob, d.rec.rawSize, &d.derived, deriveRecords|deriveText)
	if err != nil {
		return nil, err
	}
	d.rec.headerLen = digest.Root.BodyStart
	if d.rec.size != digest.Size || d.rec.hasNUL != digest.HasNUL {
		d.rec.size, d.rec.hasNUL = digest.Size, digest.HasNUL
		m.resized = m.resized || d.msg != 0
	}
	m.res.Messages++
	m.res.Bytes += n
	if m.opts.Progress != nil {
		m.opts.Progress(m.res.Bytes)
	}
	return digest, nil
}

// flush writes what was derived.
func (m *mailRepair) flush(ctx context.Context) error {
	list := m.batch
	m.batch, m.size = nil, 0
	if len(list) == 0 {
		return nil
	}
	return m.acct.submit(ctx, &op{weight: m.acct.store.opts.TxnBytes, run: func(t *opTx) error {
		for _, d := range list {
			t.set(numKey(keyMessage, d.msg), d.rec.encode())
			t.putDerived(d.msg, &d.derived)
		}
		return nil
	}})
}

// dropLost names the messages that are lost, and takes them out of their
// mailboxes, as an expunge does: clients are told.
func (m *mailRepair) dropLost(ctx context.Context) error {
	if len(m.lost) == 0 {
		return nil
	}
	tree := m.acct.tree.Load()
	for _, name := range slices.Sorted(maps.Keys(tree.byName)) {
		n := tree.byName[name]
		if n.noSelect {
			continue
		}
		var gone []mailindex.Row
		err := m.acct.submit(ctx, &op{weight: 1 << 20, run: func(t *opTx) error {
			e, err := t.edit(n.num, true)
			if err != nil {
				return err
			}
			var positions []int
			gone = nil
			for i, row := range e.base.Rows() {
				if _, lost := m.lost[row.Msg]; lost {
					positions = append(positions, i)
					gone = append(gone, row)
				}
			}
			if len(positions) == 0 {
				return nil
			}
			if err := e.expunge(positions); err != nil {
				return err
			}
			e.touch()
			e.done()
			return nil
		}})
		if err != nil {
			return err
		}
		for _, row := range gone {
			if m.gone[row.Msg] {
				m.note(RepairMended, m.user, name, row.UID, "its message was expunged, and the change that says so is missing (%d bytes, %s)", row.Size, row.Date)
				continue
			}
			m.note(RepairLost, m.user, name, row.UID, "its message is lost (%d bytes, %s): %s", row.Size, row.Date, firstLine(m.lost[row.Msg]))
		}
	}
	return nil
}

// wasExpunged reports whether a message that is not there was expunged, though a
// record names it: where changes are missing. Where none are, the record is wrong.
func (m *mailRepair) wasExpunged(ref driver.Ref) bool {
	return m.opts.Deleted != nil && (m.doubt != "" || len(m.holes) > 0) && m.opts.Deleted(ref)
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// recover puts into Recovered the messages that have no place, and where
// something may be missing in the index, those that nobody names: they may have
// been acknowledged.
func (m *mailRepair) recover(ctx context.Context) error {
	unnamed, behind := "", driver.Ref(0)
	switch {
	case m.doubt != "":
		unnamed = "nobody knows where it was"
	case len(m.holes) > 0 || m.loss:
		unnamed = "records of messages are lost"
	case m.opts.Torn && (m.whole || m.proven):
		// What came before the last that is known of was expunged since.
		unnamed, behind = "it came last, and may have been acknowledged", m.last()
	}
	if unnamed == "" && len(m.orphans) == 0 {
		return nil
	}
	type stray struct {
		ref  driver.Ref
		why  string
		meta []byte
		size int64
	}
	var list []stray
	err := m.blobs.List(ctx, m.num, func(ref driver.Ref, info driver.BlobInfo) error {
		why := m.orphans[ref]
		if ref > behind {
			why = cmp.Or(why, unnamed)
		}
		if _, removed := m.removed[ref]; why != "" && !m.named[ref] && !removed {
			list = append(list, stray{ref, why, slices.Clone(info.Meta), info.Size})
		}
		delete(m.orphans, ref)
		return nil
	})
	if err != nil {
		return err
	}
	for ref, why := range m.orphans {
		m.note(RepairLost, m.user, "", 0, "a message is lost, and nobody knows where it was (%s; blob %#x)", why, uint64(ref))
	}
	slices.SortFunc(list, func(x, y stray) int { return cmp.Compare(x.ref, y.ref) })
	for _, s := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := m.adopt(ctx, s.ref, s.size, s.meta, s.why); err != nil {
			return err
		}
	}
	return nil
}

// last returns the last blob that a record names.
func (m *mailRepair) last() (last driver.Ref) {
	for ref := range m.named {
		last = max(last, ref)
	}
	return last
}

// adopt appends one blob to Recovered.
func (m *mailRepair) adopt(ctx context.Context, ref driver.Ref, size int64, meta []byte, why string) error {
	was, item := parseBlobMeta(meta)
	d := derivedAgain{rec: messageRec{ref: ref, rawSize: size}}
	digest, err := m.derive(ctx, &d)
	if err != nil {
		if ctx.Err() == nil && (isDamage(err) || imap.KindOf(err) == imap.NotFound) {
			m.note(RepairLost, m.user, was, 0, "a message that came to this mailbox cannot be read (%s): %s", why, firstLine(err))
			return nil
		}
		return err
	}
	a := &Account{m.acct}
	if n := m.acct.tree.Load().byName[RecoveredMailbox]; n == nil || n.noSelect {
		if _, err := a.Create(ctx, RecoveredMailbox, nil); err != nil {
			return err
		}
		if err := a.Subscribe(ctx, RecoveredMailbox, true); err != nil {
			return err
		}
	}
	d.rec.size, d.rec.hasNUL = digest.Size, digest.HasNUL
	item.Upload = &Upload{a: m.acct, size: size, ref: ref, rec: d.rec, derived: d.derived, ids: threadIDs(digest), done: true}
	res, err := a.Append(ctx, RecoveredMailbox, []AppendItem{item})
	if err != nil {
		return err
	}
	m.note(RepairRecovered, m.user, RecoveredMailbox, res.UIDs[0], "it came to %s; %s", cmp.Or(was, "a mailbox that is not known"), why)
	return nil
}

// parseBlobMeta is the reverse of blobMeta, as far as it goes. The name of the
// mailbox becomes a keyword, too.
func parseBlobMeta(meta []byte) (mailbox string, it AppendItem) {
	d := decoder{data: meta}
	if d.uint() != 1 {
		return "", it
	}
	mailbox = d.string()
	it.Date = imap.Time(d.int())
	for len(d.data) > 0 && !d.bad {
		if f := d.string(); !d.bad {
			it.Flags = append(it.Flags, imap.Flag(f))
		}
	}
	if d.bad {
		it.Flags = nil
	}
	if mailbox != "" {
		it.Flags = append(it.Flags, imap.Flag("was-"+strings.Map(func(r rune) rune {
			if r < 0x80 && (r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r == '.' || r == '_') {
				return r
			}
			return '-'
		}, mailbox)))
	}
	return mailbox, it
}

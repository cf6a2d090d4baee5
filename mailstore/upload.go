package mailstore

import (
	"context"
	"encoding/binary"
	"io"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/message"
)

// Upload receives the bytes of one message. It is used by one goroutine at a
// time, and ends with Append or Discard.
type Upload struct {
	a    *account
	w    driver.Writer
	size int64
	err  error

	// After finish:
	ref     driver.Ref
	rec     messageRec
	derived derived
	ids     []string // of this message and those before it in its thread
	named   bool     // a committed record holds ref, or may do so
	done    bool
}

// Upload begins a message of size bytes, -1 where that is not known.
func (a *Account) Upload(ctx context.Context, size int64) (*Upload, error) {
	w, err := a.store.blobs.Create(ctx, a.num, size)
	if err != nil {
		return nil, imap.E("mailstore: upload", imap.Other, err)
	}
	return &Upload{a: a.account, w: w}, nil
}

// Write adds bytes to the message.
func (u *Upload) Write(p []byte) (int, error) {
	n, err := u.w.Write(p)
	u.size += int64(n)
	if err != nil {
		u.err = imap.E("mailstore: upload", imap.Other, err)
		return n, u.err
	}
	return n, nil
}

// ReadFrom adds what r has, until its end. The error is r's or, as Write's, the
// store's.
func (u *Upload) ReadFrom(r io.Reader) (n int64, err error) {
	room, ok := u.a.store.rooms.Get().(*[uploadRoom]byte)
	if !ok {
		room = new([uploadRoom]byte)
	}
	defer u.a.store.rooms.Put(room)
	for {
		got, err := r.Read(room[:])
		if got > 0 {
			if _, err := u.Write(room[:got]); err != nil {
				return n, err
			}
			n += int64(got)
		}
		switch {
		case err == io.EOF:
			return n, nil
		case err != nil:
			return n, err
		}
	}
}

// uploadRoom is how much of an upload is read at once.
const uploadRoom = 32 << 10

// Discard forgets the upload. It may be called after Append, and twice.
func (u *Upload) Discard() { u.a.discard([]*Upload{u}) }

// discard forgets uploads.
func (a *account) discard(list []*Upload) {
	var refs []driver.Ref
	for _, u := range list {
		if !u.done && u.ref != 0 && !u.named {
			refs = append(refs, u.ref)
		}
	}
	if len(refs) > 0 {
		// While they are pinned, so that no crash brings them back. What is lost
		// here a sweep finds again.
		if err := a.store.blobs.Delete(a.store.ctx, a.num, refs); err != nil {
			a.store.unswept.Store(true)
		}
	}
	for _, u := range list {
		if !u.done {
			u.done = true
			u.w.Release()
			u.derived = derived{}
		}
	}
}

// finish ends the writing and digests the message.
func (u *Upload) finish(meta []byte) error {
	if u.err != nil {
		return u.err
	}
	if u.ref != 0 {
		return nil
	}
	parts := deriveRecords
	if u.a.textsLate.Load() {
		parts |= deriveText
	}
	digest, err := u.a.digest(u.w, u.size, &u.derived, parts)
	if err != nil {
		return imap.E("mailstore: digest a message", imap.Other, err)
	}
	u.rec = messageRec{rawSize: u.size, size: digest.Size, headerLen: digest.Root.BodyStart, hasNUL: digest.HasNUL}
	u.ids = threadIDs(digest)
	if u.ref, err = u.w.Finish(meta); err != nil {
		u.ref = 0
		return imap.E("mailstore: upload", imap.Other, err)
	}
	u.rec.ref = u.ref
	return nil
}

// A digester makes the records of one message after another, and keeps its
// memory in between.
type digester struct {
	parser *message.Parser
	packer textPacker
}

// digester returns one that is used by nobody, for Store.digesters.
func (s *Store) digester() *digester {
	if g, ok := s.digesters.Get().(*digester); ok {
		return g
	}
	return &digester{parser: message.NewParser(s.opts.Limits)}
}

// derived are the records that are made of a message. Those that are nil were not
// made.
type derived struct{ digest, fields, text []byte }

// deriveParts says which of them are to be made.
type deriveParts uint8

const (
	deriveRecords deriveParts = 1 << iota // digest and fields
	deriveText
)

func (d *derived) size() int { return len(d.digest) + len(d.fields) + len(d.text) }

// putDerived writes what was derived from a message.
func (t *opTx) putDerived(msg uint64, d *derived) {
	for _, rec := range [...]struct {
		kind byte
		data []byte
	}{{keyDigest, d.digest}, {keyFields, d.fields}, {keyText, d.text}} {
		if rec.data != nil {
			t.set(numKey(rec.kind, msg), rec.data)
		}
	}
}

// digest derives what is kept of a message, and its records. The digest is nil where
// only the text is wanted.
func (g *digester) digest(r io.ReaderAt, size int64, kept *derived, parts deriveParts) (d *message.Digest, err error) {
	*kept = derived{}
	var t *message.Text
	switch parts {
	case deriveRecords:
		d, err = g.parser.DigestServed(r, size)
	case deriveText:
		t, err = g.parser.TextServed(r, size)
	default:
		d, t, err = g.parser.ParseServed(r, size)
	}
	if err != nil {
		return nil, err
	}
	if t != nil {
		kept.text = g.packer.pack(t)
	}
	if d != nil {
		kept.records(d)
	}
	return d, nil
}

// records makes the records of a digest, one behind the other. The fields have one of
// their own, so that who asks for them, or for ENVELOPE, does not stride over the other.
func (k *derived) records(d *message.Digest) {
	fields := d.Fields
	all := make([]byte, 0, d.StoredSize()+binary.MaxVarintLen16)
	all = append(binary.AppendUvarint(all, uint64(d.Version)), fields...)
	end := len(all)
	d.Fields = nil
	all, _ = d.AppendBinary(all) // which never fails
	d.Fields = fields
	k.fields, k.digest = all[:end:end], all[end:]
}

// digest derives what is kept of a message, and its records. The digest is nil where
// only the text is wanted.
func (a *account) digest(r io.ReaderAt, size int64, kept *derived, parts deriveParts) (*message.Digest, error) {
	limits := a.store.opts.Limits
	g := a.store.digester()
	defer a.store.digesters.Put(g)
	for {
		d, err := g.digest(r, size, kept, parts)
		if err != nil {
			return nil, err
		}
		if kept.size() <= driver.MaxTxnBytes/2 || limits.HeaderBytes < 4096 {
			return d, nil
		}
		// A header made to be a burden: less of it is looked at, so that the
		// records fit a transaction.
		limits.HeaderBytes /= 4
		limits.TextBytes = limits.HeaderBytes
		g = &digester{parser: message.NewParser(limits)}
	}
}

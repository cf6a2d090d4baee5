package imapmodel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/mailindex"
	"github.com/rookery-mail/rookery/message"
)

// contentKey names what is cached of a message: a UID is never used twice.
type contentKey struct {
	box uint64
	uid imap.UID
}

// digested is what is cached of a message without its text.
type digested struct {
	digest *message.Digest
	header []byte
}

type searchText = message.Text

func (d *digested) cost() int64 {
	g := d.digest
	return int64(len(g.Envelope)+len(g.Body)+len(g.BodyStructure)+len(g.Fields)+len(g.Preview)+len(d.header)) + 1024
}

// servedSize returns the size of a message as it is sent to clients.
func servedSize(text []byte) int64 { return int64(len(message.Served(text))) }

// readModel reads the text of a message from the model.
func (bx *box) readModel(ctx context.Context, key string) ([]byte, error) {
	name := bx.modelName()
	r, err := bx.b.model.Open(ctx, bx.acct.user, name, key)
	if err != nil {
		return nil, modelError(fmt.Sprintf("open message %s of %s", key, name), err)
	}
	if r == nil {
		return nil, fmt.Errorf("imapmodel: open message %s of %s: the model returned nothing", key, name)
	}
	limit := bx.b.opts.MaxMessage
	var text bytes.Buffer
	_, err = io.Copy(&text, io.LimitReader(r, limit+1))
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, modelError(fmt.Sprintf("read message %s of %s", key, name), err)
	}
	if int64(text.Len()) > limit {
		return nil, imap.E(fmt.Sprintf("imapmodel: message %s of %s is larger than Options.MaxMessage, %d bytes", key, name, limit), imap.TooBig, nil)
	}
	return text.Bytes(), nil
}

// text returns the bytes of a message, from the cache where they are there.
// g is not nil where the message has been expunged.
func (bx *box) text(ctx context.Context, it *item, g *ghost) ([]byte, error) {
	key := contentKey{bx.num, it.uid}
	if text, ok := bx.b.bulk.get(key); ok {
		return text, nil
	}
	if g != nil {
		return bx.ghostText(ctx, g)
	}
	bx.mu.Lock()
	tooBig := it.tooBig
	bx.mu.Unlock()
	if tooBig {
		return nil, imap.E(fmt.Sprintf("imapmodel: UID %d is larger than Options.MaxMessage", it.uid), imap.TooBig, nil)
	}
	text, err := bx.readModel(ctx, it.key)
	switch {
	case errors.Is(err, imap.NotFound):
		bx.dirty.Store(true)
		return nil, imap.E("imapmodel: read a message", imap.ExpungeIssued, err)
	case errors.Is(err, imap.TooBig):
		bx.mu.Lock()
		it.tooBig = true
		bx.mu.Unlock()
		return nil, err
	case err != nil:
		return nil, err
	}
	bx.b.bulk.put(key, text, int64(len(text))+128)
	return text, nil
}

// ghostText returns the bytes of an expunged message: those that were kept, or
// else what the model still has under a key that no other message has now.
func (bx *box) ghostText(ctx context.Context, g *ghost) ([]byte, error) {
	if g.text != nil {
		return g.text, nil
	}
	gone := imap.E("imapmodel: read an expunged message", imap.ExpungeIssued, nil)
	bx.mu.Lock()
	_, reused := bx.byKey[g.key]
	bx.mu.Unlock()
	if reused {
		return nil, gone
	}
	text, err := bx.readModel(ctx, g.key)
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, gone
	}
	// The key may have come to name another message since.
	if d, ok := bx.b.digests.get(contentKey{bx.num, g.uid}); ok && d.digest.Size != servedSize(text) {
		return nil, gone
	}
	bx.b.bulk.put(contentKey{bx.num, g.uid}, text, int64(len(text))+128)
	return text, nil
}

// fetch is Mailbox.Fetch.
func (bx *box) fetch(ctx context.Context, rows []mailindex.Row, need imapserver.Need, fn func(int, *imapserver.Message) error) error {
	if need&imapserver.NeedIDs != 0 {
		if err := bx.identify(ctx, rows); err != nil {
			return err
		}
	}
	for i := range rows {
		var m imapserver.Message
		bx.fill(ctx, &rows[i], need, &m)
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := fn(i, &m); err != nil {
			return err
		}
	}
	return nil
}

// lookup finds the message of a UID; g is nil unless it has been expunged, and
// both are where nothing is known of it any more.
func (bx *box) lookup(uid imap.UID) (it *item, g *ghost) {
	bx.mu.Lock()
	defer bx.mu.Unlock()
	if it := bx.byUID[uid]; it != nil {
		return it, nil
	}
	if g := bx.ghosts[uid]; g != nil {
		return g.item, g
	}
	return nil, nil
}

// fill gets what need asks for.
func (bx *box) fill(ctx context.Context, row *mailindex.Row, need imapserver.Need, m *imapserver.Message) {
	it, g := bx.lookup(row.UID)
	if it == nil {
		m.Err = imap.E(fmt.Sprintf("imapmodel: read UID %d", row.UID), imap.ExpungeIssued, nil)
		return
	}
	if need&imapserver.NeedIDs != 0 {
		bx.mu.Lock()
		m.EmailID, m.ThreadID = it.ids.email, it.ids.thread
		bx.mu.Unlock()
		if m.EmailID == "" {
			// identify could not read it; the reason shows below.
			need |= imapserver.NeedBody
		}
	}
	const derived = imapserver.NeedDigest | imapserver.NeedWire | imapserver.NeedFields | imapserver.NeedHeader | imapserver.NeedText
	if need&derived != 0 {
		d, text, err := bx.digest(ctx, it, g, need&imapserver.NeedText != 0)
		if err != nil {
			m.Err = err
			return
		}
		m.Digest, m.Wire, m.Fields, m.Header, m.Text = d.digest, &d.digest.Wire, d.digest.Fields, d.header, text
		bx.checkSize(row, d.digest)
	}
	if need&imapserver.NeedBody != 0 {
		raw, err := bx.text(ctx, it, g)
		if err != nil {
			m.Err = err
			return
		}
		served := message.Served(raw)
		m.Body, m.Size = bytes.NewReader(served), int64(len(served))
		m.Raw, m.RawSize = bytes.NewReader(raw), int64(len(raw))
	}
}

// digest returns the digest of a message, and its search text where that is
// wanted.
func (bx *box) digest(ctx context.Context, it *item, g *ghost, wantText bool) (*digested, *searchText, error) {
	key := contentKey{bx.num, it.uid}
	d, ok := bx.b.digests.get(key)
	t, okText := bx.b.texts.get(key)
	if ok && (okText || !wantText) {
		return d, t, nil
	}
	raw, err := bx.text(ctx, it, g)
	if err != nil {
		return nil, nil, err
	}
	dg, t, err := bx.b.parse(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("imapmodel: digest message %s: %w", it.key, err)
	}
	d = &digested{digest: dg}
	if r, ok := dg.Section(message.Section{Kind: message.SectionHeader}); ok {
		d.header = bytes.Clone(message.Served(raw)[r.Start:r.End])
	}
	bx.b.digests.put(key, d, d.cost())
	bx.b.texts.put(key, t, int64(len(t.Header)+len(t.MIME)+len(t.Body))+256)
	return d, t, nil
}

// parse digests a message.
func (b *Backend) parse(raw []byte) (*message.Digest, *message.Text, error) {
	p, ok := b.parsers.Get().(*message.Parser)
	if !ok {
		p = message.NewParser(message.Limits{})
	}
	defer b.parsers.Put(p)
	d, t, err := p.ParseServed(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return nil, nil, err
	}
	return d, t.Clone(), nil
}

// checkSize says, once for each mailbox, that the model gives wrong sizes:
// clients that trust RFC822.SIZE would cut messages.
func (bx *box) checkSize(row *mailindex.Row, d *message.Digest) {
	if d.Size == int64(row.Size) {
		return
	}
	bx.mu.Lock()
	warned := bx.warned
	bx.warned = true
	bx.mu.Unlock()
	if !warned {
		bx.b.opts.Log.Error("the model gives a message a size that is not that of its text; give 0 where the size is not known",
			"user", bx.acct.user, "mailbox", bx.modelName(), "uid", row.UID, "size", row.Size, "true", d.Size)
	}
}

// identify finds the identifiers of messages that have none yet. They are made
// durable before anybody hears of them: what was told once never changes, even
// if a later version should read a message in another way.
func (bx *box) identify(ctx context.Context, rows []mailindex.Row) error {
	found := false
	for _, row := range rows {
		it, g := bx.lookup(row.UID)
		if it == nil {
			continue
		}
		bx.mu.Lock()
		known := it.ids.email != ""
		bx.mu.Unlock()
		if known {
			continue
		}
		ids, err := bx.makeIDs(ctx, it, g)
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			continue // fill says why
		}
		bx.mu.Lock()
		it.ids = ids
		bx.mu.Unlock()
		found = true
	}
	if !found || bx.b.state == nil {
		return nil
	}
	if err := bx.turn.acquire(ctx); err != nil {
		return err
	}
	defer bx.turn.release()
	return bx.save(ctx, bx.snap.Load(), nil)
}

// makeIDs derives identifiers from the message itself: EMAILID from its bytes,
// so that copies have the same one, and THREADID from the identifier of the
// message that began the thread, which all its answers name.
func (bx *box) makeIDs(ctx context.Context, it *item, g *ghost) (objectIDs, error) {
	raw, err := bx.text(ctx, it, g)
	if err != nil {
		return objectIDs{}, err
	}
	d, _, err := bx.digest(ctx, it, g, false)
	if err != nil {
		return objectIDs{}, err
	}
	ids := objectIDs{email: hashID("E", raw)}
	switch {
	case len(d.digest.References) > 0:
		ids.thread = hashID("T", []byte(d.digest.References[0]))
	case d.digest.MessageID != "":
		ids.thread = hashID("T", []byte(d.digest.MessageID))
	default:
		ids.thread = "T" + ids.email[1:]
	}
	return ids, nil
}

func hashID(prefix string, of []byte) imap.ObjectID {
	sum := sha256.Sum256(of)
	return imap.ObjectID(fmt.Sprintf("%s%x", prefix, sum[:16]))
}

package mailstore

import (
	"context"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/message"
)

// An APPEND is answered without the search text of its message: to decode, fold,
// compress and write that takes longer than all else that an APPEND needs. So
// texts are made by a deriver, the first one, and the others, which are made of
// texts, follow it. It waits until an account rests, but not for long, and not
// while many messages wait: see textHold. What has no text yet a search reads from the
// message itself (searchlate.go).
//
// A store of an older release has the text of every message in it, and no mark of
// this deriver; there it begins where the text index has come to.

// textKeeper is the deriver that makes the search texts.
type textKeeper struct{}

// Bounds of one step: others of the account wait while it is written.
const (
	keepTexts = 256 // messages
	keepPart  = 8   // of Options.TxnBytes
)

func (textKeeper) what() string            { return "the texts that SEARCH reads" }
func (textKeeper) id() byte                { return 'x' }
func (textKeeper) version() uint64         { return uint64(message.Version) }
func (textKeeper) prefixes() [][]byte      { return nil } // texts go with their messages
func (textKeeper) due(waiting uint64) bool { return waiting > 0 }

// tidy has nothing to do.
func (textKeeper) tidy(context.Context, *account, uint64, uint64) (*derivation, uint64, error) {
	return nil, 0, nil
}

// textless is a message without a text.
type textless struct {
	msg uint64
	rec messageRec
}

// derive makes the texts of some messages.
func (textKeeper) derive(ctx context.Context, a *account, mark, last uint64) (*derivation, error) {
	list, upTo, err := a.textless(ctx, mark, last)
	if err != nil {
		return nil, err
	}
	texts := make(map[uint64][]byte, len(list))
	size := 0
	for i := range list {
		q := &list[i]
		text, err := a.makeText(ctx, q)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		switch {
		case imap.KindOf(err) == imap.NotFound || isDamage(err): // gone, or nothing to read
			continue
		case err != nil:
			return nil, err // it may be better later
		}
		texts[q.msg] = text
		if size += len(text); size >= a.store.opts.TxnBytes/keepPart {
			upTo = q.msg
			break
		}
	}
	return &derivation{upTo: upTo, weight: size, run: func(t *opTx) error {
		if len(texts) == 0 {
			return nil
		}
		// Those that were taken away meanwhile must not come back.
		return scanRange(t.b.tx, numKey(keyMessage, mark+1), numKey(keyMessage, upTo+1), func(key, _ []byte) error {
			msg := numOfKey(key)
			if text, ok := texts[msg]; ok {
				t.set(numKey(keyText, msg), text)
			}
			return nil
		})
	}}, nil
}

// textless returns the first messages above mark and up to last that have no
// text, and the number up to which there are no others.
func (a *account) textless(ctx context.Context, mark, last uint64) (list []textless, upTo uint64, err error) {
	err = a.store.kv.View(ctx, a.num, func(r driver.Reader) error {
		list, upTo = list[:0], last
		err := scanRange(r, numKey(keyMessage, mark+1), numKey(keyMessage, last+1), func(key, value []byte) error {
			rec, err := decodeMessage(value)
			if err != nil {
				return nil // a check names it
			}
			if len(list) == keepTexts {
				upTo = list[keepTexts-1].msg
				return errEnough
			}
			list = append(list, textless{numOfKey(key), rec})
			return nil
		})
		if err != nil && err != errEnough {
			return err
		}
		has := make(map[uint64]bool)
		err = scanRange(r, numKey(keyText, mark+1), numKey(keyText, upTo+1), func(key, value []byte) error {
			if t, err := openText(value); err == nil && t.version >= message.Version {
				has[numOfKey(key)] = true
			}
			return nil
		})
		if err != nil {
			return err
		}
		kept := list[:0]
		for _, q := range list {
			if !has[q.msg] {
				kept = append(kept, q)
			}
		}
		list = kept
		return nil
	})
	return list, upTo, err
}

// makeText makes the record of a message's text from the message.
func (a *account) makeText(ctx context.Context, q *textless) ([]byte, error) {
	blob, err := a.openBlob(ctx, q.msg, &q.rec)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	var made derived
	_, err = a.digest(blob, q.rec.rawSize, &made, deriveText)
	return made.text, err
}

// How long texts wait while messages go on coming in, in units of
// Options.DeriveDelay, and for how many messages in units of Options.TextLag a
// delivery makes the text itself: where the background cannot keep up, it has the
// deliveries wait for it.
const (
	textPatience = 10
	textsBehind  = 4
)

// texts returns the progress of the texts, nil where this store's derivers are
// others or the account is not read yet. a.mu is held.
func (a *account) texts() *progress {
	if len(a.deriving.all) == 0 {
		return nil
	}
	if _, ok := a.store.derivers[0].(textKeeper); !ok {
		return nil
	}
	return &a.deriving.all[0]
}

// textsUpTo returns up to which message texts are there.
func (a *account) textsUpTo() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.texts(); p != nil && p.version == (textKeeper{}).version() {
		return p.mark
	}
	return 0
}

// reach returns up to which message a deriver may go: texts until they rest, the
// others behind them. a.mu is held.
func (a *account) reach(i int) uint64 {
	p := a.texts()
	switch {
	case p == nil:
		return a.deriving.last
	case i == 0:
		return a.deriving.released
	default:
		return p.mark
	}
}

// arrived notes that messages up to a.deriving.last are there. a.mu is held.
func (a *account) arrived() {
	p := a.texts()
	if p == nil {
		return
	}
	d := &a.deriving
	d.latest = time.Now()
	if d.released >= d.noted { // nothing waited
		d.since = d.latest
	}
	d.noted = d.last
	a.textsLate.Store(d.last-min(d.last, p.mark) > uint64(textsBehind*a.store.opts.TextLag))
}

// textsWait reports whether there are messages whose texts may not be made yet. a.mu
// is held.
func (a *account) textsWait() bool { return a.texts() != nil && a.deriving.released < a.deriving.last }

// textHold returns how long messages still wait for their texts. a.mu is held, and
// some do wait.
func (a *account) textHold(now time.Time) time.Duration {
	d, delay := &a.deriving, a.store.opts.DeriveDelay
	if d.last-d.released >= uint64(a.store.opts.TextLag) {
		return 0
	}
	return max(0, min(d.latest.Add(delay).Sub(now), d.since.Add(textPatience*delay).Sub(now)))
}

// release lets texts be made of all messages that are there, if they have waited
// long enough, or else returns how long they still have to. a.mu is held.
func (a *account) release() (hold time.Duration) {
	if !a.textsWait() {
		return 0
	}
	d, now := &a.deriving, time.Now()
	if hold = a.textHold(now); hold == 0 {
		d.released, d.since = d.last, now
	}
	return hold
}

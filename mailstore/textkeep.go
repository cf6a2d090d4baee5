package mailstore

import (
	"context"
	"errors"
	"slices"
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

// textTries is how often a message is read in vain, which looks damaged but is not
// known to be, before those behind it get their texts: the loop waits for longer
// each time, and has waited for some 15 s then.
const textTries = 5

// noText is the record of a message that could not be read so often, as of an older
// version: searches read the message, and whoever can read it makes its text.
func noText() []byte { return append([]byte{textForm}, make([]byte, 5)...) }

// derive makes the texts of some messages. Those that are gone, or known to be
// damaged, have none. Any other failure may be one of the moment, so it ends the
// step before its message, which is tried again.
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
		switch kind := imap.KindOf(err); {
		case err == nil:
		case kind == imap.NotFound || kind == imap.Corruption: // gone, or nothing to read
			continue
		case (kind == imap.ServerBug || isDamage(err)) && a.textFailures(mark) >= textTries:
			a.store.opts.Logger.Warn("a message cannot be read for its search text; searches will try it again", "account", a.user, "message", q.msg, "err", err)
			text = noText()
		case q.msg > mark+1:
			list, upTo = list[:i], q.msg-1
		default:
			a.textFailed(mark)
			return nil, err
		}
		if i == len(list) {
			break
		}
		texts[q.msg] = text
		if size += len(text); size >= a.store.opts.TxnBytes/keepPart {
			list, upTo = list[:i+1], q.msg
			break
		}
	}
	return &derivation{upTo: upTo, weight: size, run: func(t *opTx) error {
		for i := range list {
			msg := list[i].msg
			if texts[msg] == nil {
				continue
			}
			// What was taken away meanwhile must not come back.
			_, ok, err := t.get(numKey(keyMessage, msg))
			if err != nil && imap.KindOf(err) != imap.Corruption {
				return err
			}
			if ok && err == nil {
				t.set(numKey(keyText, msg), texts[msg])
			}
		}
		return nil
	}}, nil
}

// textFailures returns how many steps have failed at the first message above mark.
func (a *account) textFailures(mark uint64) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.deriving.failedAt != mark {
		return 0
	}
	return a.deriving.failures
}

// textFailed notes that a step has failed at the first message above mark.
func (a *account) textFailed(mark uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := &a.deriving
	if d.failedAt != mark {
		d.failedAt, d.failures = mark, 0
	}
	d.failures++
}

// textless returns the first messages above mark and up to last that have no
// text, and the number up to which there are no others.
func (a *account) textless(ctx context.Context, mark, last uint64) (list []textless, upTo uint64, err error) {
	err = a.store.kv.View(ctx, a.num, func(r driver.Reader) error {
		list = list[:0]
		var err error
		upTo, err = readableRecords(r, keyMessage, mark+1, last, func(msg uint64, value []byte) error {
			rec, err := decodeMessage(value)
			if err != nil {
				return nil // a check names it
			}
			if len(list) == keepTexts {
				return errEnough
			}
			list = append(list, textless{msg, rec})
			return nil
		})
		switch {
		case errors.Is(err, errEnough):
			upTo = list[keepTexts-1].msg
		case err != nil:
			return err
		}
		has := make(map[uint64]bool)
		_, err = readableRecords(r, keyText, mark+1, upTo, func(msg uint64, value []byte) error {
			t, err := openText(value)
			has[msg] = err == nil && t.version >= message.Version
			return nil
		})
		list = slices.DeleteFunc(list, func(q textless) bool { return has[q.msg] })
		return err
	})
	return list, upTo, err
}

// readableRecords calls fn for the records of one kind that messages from first up to
// last have, but not for those that are damaged. Behind damage it looks at
// keepTexts numbers only; it returns up to which number it has looked.
func readableRecords(r driver.Reader, kind byte, first, last uint64, fn func(msg uint64, value []byte) error) (upTo uint64, err error) {
	next := first
	err = scanRange(r, numKey(kind, first), numKey(kind, last+1), func(key, value []byte) error {
		next = numOfKey(key) + 1
		return fn(next-1, value)
	})
	if imap.KindOf(err) != imap.Corruption {
		return last, err
	}
	// Of several records the engine does not say which is damaged.
	upTo = min(last, next+keepTexts-1)
	for msg := next; msg <= upTo; msg++ {
		value, ok, err := r.Get(numKey(kind, msg))
		if imap.KindOf(err) == imap.Corruption || err == nil && !ok {
			continue
		}
		if err == nil {
			err = fn(msg, value)
		}
		if err != nil {
			return upTo, err
		}
	}
	return upTo, nil
}

// makeText makes the record of a message's text from the message.
func (a *account) makeText(ctx context.Context, q *textless) ([]byte, error) {
	var made derived
	err := guard(func() error { // others are behind it
		blob, err := a.openBlob(ctx, q.msg, &q.rec)
		if err != nil {
			return err
		}
		defer blob.Close()
		_, err = a.digest(blob, q.rec.rawSize, &made, deriveText)
		return err
	})
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
	a.noteLag()
}

// noteLag has deliveries make texts themselves, or not any more. a.mu is held.
func (a *account) noteLag() {
	if p := a.texts(); p != nil {
		last := a.deriving.last
		a.textsLate.Store(last-min(last, p.mark) > uint64(textsBehind*a.store.opts.TextLag))
	}
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

package imapmodel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapserver"
)

func (s *session) Copy(ctx context.Context, uids imap.UIDSet, dest string, move bool) (*imapserver.CopyResult, error) {
	if move && s.ReadOnly() {
		return nil, &imap.Error{Op: "imapmodel: move", Kind: imap.Cannot, Text: "Messages cannot be removed here"}
	}
	return s.bx.copyFor(ctx, s, uids, dest, move)
}

// copyTo is Mailbox.Copy without a session.
func (bx *box) copyTo(ctx context.Context, uids imap.UIDSet, dest string, move bool) (*imapserver.CopyResult, error) {
	return bx.copyFor(ctx, nil, uids, dest, move)
}

// copying is a COPY or MOVE under way.
type copying struct {
	src, dst *box
	by       *session
	move     bool

	items  []*item  // what is copied, in order of UID
	ghosts []*ghost // for each item, nil where it is not expunged
	flags  [][]imap.Flag
	dates  []imap.Time
	keys   []string // of the copies; in dst
}

func (bx *box) copyFor(ctx context.Context, by *session, uids imap.UIDSet, dest string, move bool) (*imapserver.CopyResult, error) {
	if err := bx.acct.write.acquire(ctx); err != nil {
		return nil, err
	}
	defer bx.acct.write.release()
	dst, err := bx.acct.box(ctx, dest)
	if err != nil {
		return nil, err
	}
	if err := dst.writable(); err != nil {
		return nil, err
	}
	c := &copying{src: bx, dst: dst, by: by, move: move}
	if err := c.choose(ctx, uids); err != nil {
		return nil, err
	}
	if err := c.dropUnreadable(ctx); err != nil {
		return nil, err
	}
	if len(c.items) > 0 {
		if err := c.run(ctx); err != nil {
			return nil, err
		}
	}
	return c.result(), nil
}

// writable refuses what would add messages to a mailbox that takes none.
func (bx *box) writable() error {
	if info, virtual := bx.describe(); info.ReadOnly || virtual {
		return &imap.Error{Op: "imapmodel: write to " + info.Name, Kind: imap.Cannot, Text: "Mailbox " + info.Name + " takes no messages"}
	}
	return nil
}

// choose finds what is to be copied.
func (c *copying) choose(ctx context.Context, uids imap.UIDSet) error {
	if err := c.src.beginTurn(ctx, c.by); err != nil {
		return err
	}
	defer c.src.turn.release()
	snap := c.src.snap.Load()
	c.src.mu.Lock()
	defer c.src.mu.Unlock()
	var present imap.UIDSet
	add := func(it *item, g *ghost, flags []imap.Flag, date imap.Time) {
		c.items = append(c.items, it)
		c.ghosts = append(c.ghosts, g)
		c.flags = append(c.flags, flags)
		c.dates = append(c.dates, date)
	}
	positions(snap, uids, func(i int) {
		row := snap.Row(i)
		present.Add(row.UID)
		add(c.src.byUID[row.UID], nil, snap.Flags(row.Flags).List(), row.Date)
	})
	if c.move || c.src.b.parts.appender == nil || len(c.src.ghosts) == 0 {
		return nil
	}
	for _, uid := range slices.Sorted(maps.Keys(c.src.ghosts)) {
		if g := c.src.ghosts[uid]; uids.Contains(uid) && !present.Contains(uid) {
			add(g.item, g, g.flags, g.date)
		}
	}
	return nil
}

// dropUnreadable leaves out expunged messages that nobody has any more.
func (c *copying) dropUnreadable(ctx context.Context) error {
	for i := len(c.items) - 1; i >= 0; i-- {
		if c.ghosts[i] == nil {
			continue
		}
		_, err := c.src.text(ctx, c.items[i], c.ghosts[i])
		switch {
		case errors.Is(err, imap.ExpungeIssued):
			c.items = slices.Delete(c.items, i, i+1)
			c.ghosts = slices.Delete(c.ghosts, i, i+1)
			c.flags = slices.Delete(c.flags, i, i+1)
			c.dates = slices.Delete(c.dates, i, i+1)
		case err != nil:
			return err
		}
	}
	return nil
}

// run copies, in the best way that the model has.
func (c *copying) run(ctx context.Context) error {
	p := &c.src.b.parts
	expunged := false
	for _, g := range c.ghosts {
		expunged = expunged || g != nil
	}
	switch {
	case c.move && p.mover != nil && c.src != c.dst:
		return c.moveInOneStep(ctx, c.moveNatively)
	case c.move && p.remover == nil:
		return &imap.Error{Op: "imapmodel: move", Kind: imap.Cannot, Text: "Messages cannot be removed here"}
	case c.move && p.appender != nil && p.transactor != nil:
		return c.moveInOneStep(ctx, c.moveByAppending)
	case p.copier != nil && !expunged:
		if err := c.copyNatively(ctx); err != nil {
			return err
		}
	case p.appender != nil:
		if err := c.copyByAppending(ctx); err != nil {
			return err
		}
	default:
		return &imap.Error{Op: "imapmodel: copy", Kind: imap.Cannot, Text: "Messages cannot be copied here"}
	}
	if !c.move {
		return nil
	}
	if err := c.src.turn.acquire(ctx); err != nil {
		return err
	}
	defer c.src.turn.release()
	return c.src.remove(ctx, c.items, c.by)
}

// moveInOneStep moves by a function that returns the keys of the moved
// messages. The source's turn is held until what was removed has been
// published, so that nobody else publishes it without its texts.
func (c *copying) moveInOneStep(ctx context.Context, move func(context.Context) ([]string, error)) error {
	if err := c.src.turn.acquire(ctx); err != nil {
		return err
	}
	kept := c.src.keepTexts(ctx, c.items, c.by)
	keys, err := move(ctx)
	p := plan{kept: kept}
	if err == nil && c.src == c.dst {
		c.inherit(&p, keys)
	}
	if after := c.src.lookAs(context.WithoutCancel(ctx), p); err == nil && after != nil {
		c.src.b.opts.Log.Error("messages were moved, but listing their mailbox failed", "user", c.src.acct.user, "mailbox", c.src.modelName(), "err", after)
	}
	c.src.turn.release()
	if err != nil || c.src == c.dst {
		return err
	}
	return c.arrive(ctx, keys)
}

func (c *copying) moveNatively(ctx context.Context) ([]string, error) {
	from, to := c.src.modelName(), c.dst.modelName()
	keys, err := c.src.b.parts.mover.Move(ctx, c.src.acct.user, from, keysOf(c.items), to)
	return keys, c.checkKeys("Move", keys, err)
}

func (c *copying) moveByAppending(ctx context.Context) (keys []string, err error) {
	from := c.src.modelName()
	err = c.src.b.atomically(ctx, c.src.acct.user, func(ctx context.Context) error {
		if keys, err = c.appendAll(ctx); err != nil {
			return err
		}
		return modelError("remove messages from "+from, c.src.b.parts.remover.Remove(ctx, c.src.acct.user, from, keysOf(c.items)))
	})
	return keys, err
}

func (c *copying) copyNatively(ctx context.Context) error {
	from, to := c.src.modelName(), c.dst.modelName()
	keys, err := c.src.b.parts.copier.Copy(ctx, c.src.acct.user, from, keysOf(c.items), to)
	if err := c.checkKeys("Copy", keys, err); err != nil {
		return err
	}
	return c.arrive(ctx, keys)
}

func (c *copying) checkKeys(method string, keys []string, err error) error {
	if err != nil {
		return modelError(method, err)
	}
	if len(keys) != len(c.items) {
		return fmt.Errorf("imapmodel: %s returned %d keys for %d messages", method, len(keys), len(c.items))
	}
	return nil
}

// arrive looks at the destination, where the copies have the given keys.
func (c *copying) arrive(ctx context.Context, keys []string) error {
	if err := c.dst.turn.acquire(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	defer c.dst.turn.release()
	c.arrived(ctx, keys)
	return nil
}

// arrived is arrive with the destination's turn held. The copies are there
// whatever the look finds, so its failure is the log's and not the client's:
// who repeats a COPY has everything twice.
func (c *copying) arrived(ctx context.Context, keys []string) {
	var p plan
	c.inherit(&p, keys)
	if err := c.dst.lookAs(context.WithoutCancel(ctx), p); err != nil {
		c.dst.b.opts.Log.Error("messages were copied, but listing them failed", "user", c.dst.acct.user, "mailbox", c.dst.modelName(), "err", err)
	}
}

// inherit notes what the copies with the given keys have of their originals.
func (c *copying) inherit(p *plan, keys []string) {
	c.keys = keys
	p.ids, p.begin = map[string]objectIDs{}, map[string][]imap.Flag{}
	c.src.mu.Lock()
	defer c.src.mu.Unlock()
	for i, it := range c.items {
		p.ids[keys[i]] = it.ids
		p.begin[keys[i]] = c.flags[i]
	}
}

// copyByAppending reads the messages and appends them.
func (c *copying) copyByAppending(ctx context.Context) error {
	if err := c.dst.turn.acquire(ctx); err != nil {
		return err
	}
	defer c.dst.turn.release()
	var keys []string
	err := c.src.b.atomically(ctx, c.src.acct.user, func(ctx context.Context) (err error) {
		keys, err = c.appendAll(ctx)
		return err
	})
	if err != nil {
		c.dst.undoAppend(ctx, keys)
		return err
	}
	c.arrived(ctx, keys)
	return nil
}

// appendAll reads the messages and appends them one by one. keys are those of
// the copies that were made, also when it fails.
func (c *copying) appendAll(ctx context.Context) (keys []string, err error) {
	for i, it := range c.items {
		text, err := c.src.text(ctx, it, c.ghosts[i])
		if err != nil {
			return keys, err
		}
		key, err := c.dst.appendOne(ctx, &NewMessage{
			Text: bytes.NewReader(text), Size: int64(len(text)), Flags: c.flags[i], Date: c.dates[i].AsTime(),
		})
		if err != nil {
			return keys, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// result says what has become of what.
func (c *copying) result() *imapserver.CopyResult {
	res := &imapserver.CopyResult{UIDValidity: c.dst.snap.Load().UIDValidity()}
	c.dst.mu.Lock()
	defer c.dst.mu.Unlock()
	for i, key := range c.keys {
		if it := c.dst.byKey[key]; it != nil {
			res.Source = append(res.Source, c.items[i].uid)
			res.Dest = append(res.Dest, it.uid)
		}
	}
	return res
}

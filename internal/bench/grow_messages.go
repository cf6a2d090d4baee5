package bench

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// growMessages lets one mailbox grow. What clients do often should cost the same
// in every mailbox.
func growMessages() *dimension {
	simple := func(name, what, command string, responses int) *curve {
		return &curve{name: name, what: what, unit: Millis, flat: true, op: func(g *growing) (time.Duration, error) {
			return 0, g.c.expect(strings.ReplaceAll(command, "BOX", g.box), responses)
		}}
	}
	linear := func(c *curve) *curve { c.flat = false; return c }
	return &dimension{
		name: "messages", what: "messages in a mailbox", sizes: []int{1_000, 10_000, 100_000, 1_000_000},
		begin: beginMailbox,
		grow:  growMailbox,
		curves: []*curve{
			simple("noop", "NOOP", "NOOP", 0),
			simple("select", "SELECT again", "SELECT BOX", 3),
			simple("status", "STATUS", "STATUS BOX (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)", 1),
			{name: "store", what: "STORE that changes a flag of one message", unit: Millis, flat: true,
				before: func(g *growing) error { return g.unmark(g.n) }, op: storeOne},
			{name: "append", what: "APPEND of one message", unit: Millis, flat: true,
				op: func(g *growing) (time.Duration, error) { return 0, g.other.appendAll(g.box, g.cfg.Mail.take()) }},
			{name: "idle", what: "from an APPEND's OK until a session that idles knows", unit: Millis, flat: true, cap: "IDLE", before: idleIn, op: wakeIdler},
			{name: "qresync", what: "SELECT with QRESYNC after ten changes", unit: Millis, flat: true, cap: "QRESYNC", before: tenChanges,
				op: func(g *growing) (time.Duration, error) { return 0, g.other.expect(g.resync, 10) }},
			{name: "fetch-newest", what: "FETCH of flags and envelopes of the newest 20", unit: Millis, flat: true,
				op: func(g *growing) (time.Duration, error) {
					return 0, g.c.expect(fmt.Sprintf("FETCH %d:%d (UID FLAGS ENVELOPE)", g.n-19, g.n), 20)
				}},
			{name: "fetch-one", what: "FETCH of one message's body", unit: Millis, flat: true,
				op: func(g *growing) (time.Duration, error) {
					return 0, g.c.expect(fmt.Sprintf("FETCH %d (UID BODY.PEEK[])", 1+rand.IntN(g.n)), 1)
				}},
			{name: "copy-one", what: "COPY of one message", unit: Millis, flat: true,
				op: func(g *growing) (time.Duration, error) {
					_, err := g.c.do(fmt.Sprintf("COPY %d %s", 1+rand.IntN(g.n), g.box))
					return 0, err
				}},
			{name: "expunge-one", what: "EXPUNGE of one message", unit: Millis, flat: true, before: refillAtEnd, op: expungeOne},
			linear(simple("search-unseen", "SEARCH UNSEEN UNDELETED FLAGGED", "SEARCH UNSEEN UNDELETED FLAGGED", 1)),
			linear(&curve{name: "fetch-flags", what: "UID FETCH 1:* (FLAGS)", unit: Millis,
				op: func(g *growing) (time.Duration, error) { return 0, g.c.expect("UID FETCH 1:* (FLAGS)", g.n) }}),
			linear(&curve{name: "fetch-envelope", what: "FETCH 1:* of ENVELOPE, BODYSTRUCTURE and the rest", unit: Millis,
				op: func(g *growing) (time.Duration, error) { return 0, g.c.expect(envelopes, g.n) }}),
			linear(&curve{name: "fetch-headers", what: "FETCH 1:* of the header fields that Thunderbird asks for", unit: Millis,
				op: func(g *growing) (time.Duration, error) { return 0, g.c.expect(thunderbird, g.n) }}),
			linear(&curve{name: "store-all", what: "STORE 1:* of a flag, on and off, silent", unit: Millis, op: storeAllTwice}),
			linear(&curve{name: "search-from", what: "SEARCH FROM", unit: Millis,
				op: func(g *growing) (time.Duration, error) { return 0, g.c.expect("SEARCH FROM "+g.cfg.Mail.fromWord, 1) }}),
			linear(&curve{name: "search-body", what: "SEARCH BODY, a rare word", unit: Millis,
				op: func(g *growing) (time.Duration, error) { return 0, g.c.expect("SEARCH BODY "+g.cfg.Mail.rare, 1) }}),
			linear(&curve{name: "select-first", what: "the first SELECT after a restart", unit: Millis, needs: needRestart, value: firstSelect}),
			{name: "memory", what: "resident memory of the server", unit: Kilobytes, needs: needPID, value: (*growing).memory},
		},
	}
}

// seedMail is how many messages are appended before the rest is copied.
const seedMail = 1000

func beginMailbox(g *growing) error {
	g.clean(false)
	if err := g.fill(g.ctx, 0, g.box, seedMail); err != nil {
		return err
	}
	return g.reopen()
}

// reopen opens two sessions, one of which selects the mailbox.
func (g *growing) reopen() (err error) {
	g.close()
	if g.c, err = g.dial(0); err != nil {
		return err
	}
	if g.other, err = g.dial(0); err != nil {
		return err
	}
	_, err = g.c.do("SELECT " + g.box)
	return err
}

func growMailbox(g *growing, n int) error {
	if n < 20 {
		return errors.New("20 messages are the least")
	}
	if n < seedMail && g.n == 0 {
		if _, err := g.c.do(fmt.Sprintf(`STORE %d:* +FLAGS.SILENT (\Deleted)`, n+1)); err != nil {
			return err
		}
		if _, err := g.c.do("EXPUNGE"); err != nil {
			return err
		}
	}
	return multiply(g.c, g.box, n)
}

// unmark makes the first n messages of the mailbox that g.c has selected ready for
// storeOne.
func (g *growing) unmark(n int) (err error) {
	if g.marks, err = unmark(g.c, `\Flagged`, n); err == nil {
		_, err = g.atRest(g.ctx)
	}
	return err
}

// storeOne turns over the flag of a random message.
func storeOne(g *growing) (time.Duration, error) {
	_, err := g.c.do(g.marks.turn(1 + rand.IntN(len(g.marks.has))))
	return 0, err
}

// idleIn begins to idle in a third session.
func idleIn(g *growing) error {
	idler, err := g.dial(0)
	if err != nil {
		return err
	}
	g.ended = idler.close
	if _, err := idler.do("SELECT " + g.box); err != nil {
		return err
	}
	if err := idler.idle(); err != nil {
		return err
	}
	g.told = make(chan time.Time, 1024)
	told := g.told
	go func() {
		for {
			line, err := idler.line()
			if err != nil {
				close(told)
				return
			}
			if bytes.HasSuffix(line, []byte(" EXISTS")) {
				told <- time.Now()
			}
		}
	}()
	return nil
}

func wakeIdler(g *growing) (time.Duration, error) {
	time.Sleep(time.Millisecond) // so that both sides are at rest
	if err := g.other.appendAll(g.box, g.cfg.Mail.take()); err != nil {
		return 0, err
	}
	ok := time.Now()
	select {
	case t, open := <-g.told:
		if !open {
			return 0, errors.New("the idling session has ended")
		}
		return max(t.Sub(ok), time.Microsecond), nil
	case <-time.After(time.Minute):
		return 0, errors.New("nothing came to the idling session for a minute")
	}
}

// tenChanges makes the command with which a client comes back that was away
// while ten flags were changed.
func tenChanges(g *growing) error {
	var validity, modseq string
	if _, err := g.c.collect("STATUS "+g.box+" (UIDVALIDITY HIGHESTMODSEQ)", func(line []byte) {
		words := strings.Fields(strings.NewReplacer("(", " ", ")", " ").Replace(string(line)))
		for i := range len(words) - 1 {
			switch words[i] {
			case "UIDVALIDITY":
				validity = words[i+1]
			case "HIGHESTMODSEQ":
				modseq = words[i+1]
			}
		}
	}); err != nil {
		return err
	}
	for i := range 10 {
		for _, sign := range "-+" { // a change of flags, whichever it had
			if _, err := g.c.do(fmt.Sprintf(`STORE %d %cFLAGS (\Answered)`, 1+i*(g.n/10), sign)); err != nil {
				return err
			}
		}
	}
	if _, err := g.other.do("ENABLE QRESYNC"); err != nil {
		return err
	}
	g.resync = fmt.Sprintf("SELECT %s (QRESYNC (%s %s))", g.box, validity, modseq)
	g.ended = func() { _, _ = g.other.do("UNSELECT") }
	return nil
}

// refillAtEnd leaves the mailbox as large as it was.
func refillAtEnd(g *growing) error {
	g.ended = func() { _ = g.refill() } // the next workload says what is missing
	return nil
}

// expungeOne marks a message and expunges it; the time is that of both. Where
// half of the messages are gone they are replaced first.
func expungeOne(g *growing) (time.Duration, error) {
	if g.expunged >= g.n/2 {
		if err := g.refill(); err != nil {
			return 0, err
		}
	}
	begun := time.Now()
	if _, err := g.c.do(fmt.Sprintf(`STORE %d +FLAGS.SILENT (\Deleted)`, 1+rand.IntN(g.n/2))); err != nil {
		return 0, err
	}
	if _, err := g.c.do("EXPUNGE"); err != nil {
		return 0, err
	}
	g.expunged++
	return time.Since(begun), nil
}

// refill copies messages into the mailbox until it has g.n again, at least.
func (g *growing) refill() error {
	g.expunged = 0
	return multiply(g.c, g.box, g.n)
}

// firstSelect restarts the server and opens the mailbox.
func firstSelect(g *growing) (float64, error) {
	if _, err := g.atRest(g.ctx); err != nil {
		return 0, err
	}
	if err := g.restart(g.ctx); err != nil {
		return 0, err
	}
	c, err := g.dial(0)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	_, err = c.do("SELECT " + g.box)
	took := time.Since(begun)
	c.close()
	return took.Seconds() * 1000, errors.Join(err, g.reopen())
}

func storeAllTwice(g *growing) (time.Duration, error) {
	for _, sign := range []string{"+", "-"} {
		if err := g.c.expect("STORE 1:* "+sign+"FLAGS.SILENT (\\Answered)", 0); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

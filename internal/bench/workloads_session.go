package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func others() []*workload {
	return []*workload{
		{name: "session-8", what: "LOGIN, LIST, STATUS, APPEND, SELECT, FETCH of the newest, STORE, SEARCH UNSEEN, LOGOUT, side by side, a user each; commands",
			unit: PerSecond, run: sessions},
		{name: "exists-latency", what: "from APPEND's OK to EXISTS in an idling session, median", unit: Millis, cap: "IDLE", still: true, run: existsLatency},
		{name: "idle-memory", what: "memory of one idle connection, INBOX SELECTed and in IDLE (proportional share)", unit: Kilobytes,
			needs: needPID, cap: "IDLE", once: true, still: true, run: idleMemory},
	}
}

// sessionMail is how many messages the mailbox of a session has at first.
const sessionMail = 500

// sessions has every user come, look after new mail and go.
func sessions(e *env) (Sample, error) {
	n := e.cfg.Connections
	conns, box, done, err := e.ownBoxes(n)
	if err != nil {
		return Sample{}, err
	}
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i, c := range conns {
		if i > 0 && (i >= e.cfg.Users || e.user(i) == e.user(0)) {
			break
		}
		wg.Go(func() { errs[i] = e.putInto(c, box, sessionMail) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return Sample{}, err
	}
	s, err := e.parallel(n, func(i int) (int64, error) { return session(e, i, box) })
	if err != nil {
		return s, err
	}
	return s, done()
}

// putInto appends n messages to a mailbox, in tens.
func (e *env) putInto(c *conn, box string, n int) error {
	for range n / 10 {
		if e.caps["MULTIAPPEND"] {
			if err := c.appendAll(box, e.take(10)...); err != nil {
				return err
			}
			continue
		}
		for range 10 {
			if err := c.appendAll(box, e.cfg.Mail.take()); err != nil {
				return err
			}
		}
	}
	return nil
}

// session is one visit. It returns the number of commands.
func session(e *env, i int, box string) (int64, error) {
	c, err := e.login(e.ctx, e.w.tls, i)
	if err != nil {
		return 0, err
	}
	defer c.close()
	exists := ""
	for _, step := range [...]func() error{
		func() error { return c.expect(`LIST "" "*"`, 1) },
		func() error { return c.expect("STATUS "+box+" (MESSAGES UIDNEXT UNSEEN)", 1) },
		func() error { return c.appendAll(box, e.cfg.Mail.take()) },
		func() error {
			_, err := c.collect("SELECT "+box, func(line []byte) {
				if before, ok := bytes.CutSuffix(line, []byte(" EXISTS")); ok {
					exists = strings.TrimPrefix(string(before), "* ")
				}
			})
			return err
		},
		func() error {
			return c.expect("FETCH "+exists+" (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[])", 1)
		},
		func() error { return c.expect("STORE "+exists+` +FLAGS (\Seen)`, 1) },
		func() error { return c.expect("SEARCH UNSEEN", 1) },
		func() error { _, err := c.do("LOGOUT"); return err },
	} {
		if err := step(); err != nil {
			return 0, err
		}
	}
	return 9, nil // with the LOGIN
}

// existsLatency measures how long after its OK an APPEND is told to a session
// that idles in the mailbox. Told before the OK counts as 0.
func existsLatency(e *env) (Sample, error) {
	box, err := e.create()
	if err != nil {
		return Sample{}, err
	}
	idler, err := e.open(box)
	if err != nil {
		return Sample{}, err
	}
	writer, err := e.dial(0)
	if err != nil {
		return Sample{}, err
	}
	if err := idler.idle(); err != nil {
		return Sample{}, err
	}
	told := make(chan time.Time, 1024)
	ended := make(chan error, 1)
	go func() {
		for {
			line, err := idler.line()
			if err != nil {
				ended <- err
				return
			}
			if bytes.HasSuffix(line, []byte(" EXISTS")) {
				told <- time.Now()
			}
		}
	}()
	const enough = 500
	var latencies []float64
	s, err := e.timed(func() (int64, int64, error) {
		limit := max(e.time, 3*time.Second) // some servers look only now and then
		for deadline := time.Now().Add(limit); len(latencies) < enough && time.Now().Before(deadline); {
			if err := writer.appendAll(box, e.cfg.Mail.take()); err != nil {
				return 0, 0, err
			}
			ok := time.Now()
			select {
			case t := <-told:
				latencies = append(latencies, max(0, t.Sub(ok).Seconds()*1000))
			case err := <-ended:
				return 0, 0, fmt.Errorf("the idling session: %w", err)
			case <-time.After(time.Minute):
				return 0, 0, errors.New("no EXISTS came to the idling session for a minute")
			case <-e.ctx.Done():
				return 0, 0, e.ctx.Err()
			}
			time.Sleep(2 * time.Millisecond) // so that both sides are at rest
		}
		return int64(len(latencies)), 0, nil
	})
	// A latency of 0 would look like one that is not known.
	s.Figure, s.P99 = max(median(latencies), 1e-6), quantile(latencies, 0.99)
	return s, err
}

// idleness is how long the processor time of a server without work is measured.
const idleness = 5 * time.Second

// idleMemory opens many connections that do nothing, and compares the memory of
// the server's processes at rest: after a restart where that is possible. Processor
// time is that of some seconds of idleness.
func idleMemory(e *env) (Sample, error) {
	n := e.cfg.Idle
	if e.Restart != "" { // so that memory that the server holds free is not used
		if err := e.restart(e.ctx); err != nil {
			return Sample{}, err
		}
		if _, err := e.atRest(e.ctx); err != nil {
			return Sample{}, err
		}
	}
	first, err := e.login(e.ctx, e.w.tls, 0) // what the first one brings up is not theirs
	if err != nil {
		return Sample{}, err
	}
	first.close()
	before, err := e.usage(true)
	if err != nil {
		return Sample{}, err
	}
	if err := e.openIdle(n); err != nil {
		return Sample{}, err
	}
	if _, err := e.atRest(e.ctx); err != nil {
		return Sample{}, err
	}
	after, err := e.usage(true)
	if err != nil {
		return Sample{}, err
	}
	s, err := e.timed(func() (int64, int64, error) { time.Sleep(idleness); return int64(n), 0, nil })
	s.Figure = float64(after.pss-before.pss) / 1000 / float64(n)
	s.RSS = float64(after.rss-before.rss) / 1000 / float64(n)
	return s, err
}

// openIdle opens n connections, selects INBOX and idles in each. The first error ends
// it.
func (e *env) openIdle(n int) error {
	const atOnce = 16
	conns := make([]*conn, n)
	ctx, cancel := context.WithCancelCause(e.ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1) - 1)
				if i >= n {
					return
				}
				var err error
				if conns[i], err = e.idler(i); err != nil {
					cancel(e.explain(i, n, err))
				}
			}
		})
	}
	wg.Wait()
	for _, c := range conns {
		if c != nil {
			e.conns = append(e.conns, c)
		}
	}
	return context.Cause(ctx)
}

// idler opens the i-th connection and idles in INBOX. The connection is there also
// where only that failed.
func (e *env) idler(i int) (*conn, error) {
	c, err := e.login(e.ctx, e.w.tls, i)
	if err != nil {
		return nil, err
	}
	if _, err := c.do("SELECT INBOX"); err != nil {
		return c, err
	}
	return c, c.idle()
}

// explain says what may help where the i-th of n idle connections is refused.
func (e *env) explain(i, n int, err error) error {
	err = fmt.Errorf("idle connection %d of %d: %w", i+1, n, err)
	if !errors.Is(err, errRefused) {
		return err
	}
	users := 1
	if e.user(0) != e.user(1) {
		users = e.cfg.Users
	}
	return fmt.Errorf("%w (that is %d for each user: a server that takes fewer of one user needs more users, "+
		"by a %%d in --user and by --users, or fewer connections, by --idle)", err, (n+users-1)/users)
}

package bench

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// growConnections lets the connections grow that are open at the same time, each
// with a mailbox selected. What one of them does should cost the same however
// many others are there; all together they share the processors.
func growConnections() *dimension {
	return &dimension{
		name: "connections", what: "connections, each with a mailbox of 200 messages selected", sizes: []int{1, 10, 100, 1_000, 10_000},
		begin: beginConnections,
		grow:  growOpen,
		curves: []*curve{
			{name: "memory", what: "resident memory of the server, all in IDLE", unit: Kilobytes, needs: needPID, cap: "IDLE", before: allIdle,
				value: func(g *growing) (float64, error) {
					if _, err := g.atRest(g.ctx); err != nil {
						return 0, err
					}
					return g.memory()
				}},
			{name: "noop", what: "NOOP of one more client while all others idle", unit: Millis, flat: true, cap: "IDLE", before: allIdle,
				op: func(g *growing) (time.Duration, error) { return 0, g.c.expect("NOOP", 0) }},
			{name: "store", what: "STORE that changes a flag while all others idle", unit: Millis, flat: true, cap: "IDLE",
				before: func(g *growing) error {
					if err := allIdle(g); err != nil {
						return err
					}
					return g.unmark(connectionMail)
				},
				op: storeOne},
			{name: "login", what: "connect, LOGIN, SELECT, LOGOUT while all others idle", unit: Millis, flat: true, cap: "IDLE", before: allIdle, op: visitOnce},
			{name: "noop-all", what: "NOOP, all side by side", unit: PerSecond, flat: true,
				all: func(g *growing, i int) error { return g.conns[i].expect("NOOP", 0) }},
			{name: "fetch-all", what: "FETCH of one message's body, all side by side", unit: PerSecond, flat: true,
				all: func(g *growing, i int) error {
					return g.conns[i].expect(fmt.Sprintf("FETCH %d (UID BODY.PEEK[])", 1+rand.IntN(connectionMail)), 1)
				}},
			{name: "store-all", what: "STORE that changes a flag, all side by side", unit: PerSecond, flat: true,
				before: func(g *growing) error { g.flagged = make([]bool, len(g.conns)); return nil },
				all: func(g *growing, i int) error {
					// Of the connections of a user each has a message of its own, so that all
					// but its first STORE change something for certain.
					g.flagged[i] = !g.flagged[i]
					sign := '-'
					if g.flagged[i] {
						sign = '+'
					}
					_, err := g.conns[i].do(fmt.Sprintf(`STORE %d %cFLAGS.SILENT (\Answered)`, 1+i/g.users()%connectionMail, sign))
					return err
				}},
		},
	}
}

// connectionMail is how many messages the mailbox of each user has.
const connectionMail = 200

func beginConnections(g *growing) error {
	g.clean(false)
	err := g.eachOf(0, g.users(), func(i int) error { return g.seed(i, 20, connectionMail) })
	if err != nil {
		return err
	}
	if g.c, err = g.dial(0); err != nil {
		return err
	}
	_, err = g.c.do("SELECT " + g.box)
	return err
}

// users is how many there are.
func (g *growing) users() int {
	if g.user(0) == g.user(1) {
		return 1
	}
	return g.cfg.Users
}

// seed makes the mailbox of the i-th user, with n messages of which some are
// appended and the others copied.
func (g *growing) seed(i, appended, n int) error {
	c, err := g.dial(i)
	if err != nil {
		return err
	}
	defer c.close()
	if _, err := c.do("CREATE " + g.box); err != nil {
		return err
	}
	if g.caps["MULTIAPPEND"] {
		err = c.appendAll(g.box, g.take(appended)...)
	} else {
		for range appended {
			err = errors.Join(err, c.appendAll(g.box, g.cfg.Mail.take()))
		}
	}
	if err != nil || n <= appended {
		return err
	}
	return multiply(c, g.box, n)
}

// growOpen opens connections until there are n.
func growOpen(g *growing, n int) error {
	const atOnce = 16
	first := len(g.conns)
	g.conns = append(g.conns, make([]*conn, n-first)...)
	var next atomic.Int64
	errs := make([]error, atOnce)
	var wg sync.WaitGroup
	for w := range atOnce {
		wg.Go(func() {
			for errs[w] == nil && g.ctx.Err() == nil {
				i := first + int(next.Add(1)-1)
				if i >= n {
					return
				}
				c, err := g.dial(g.elsewhere(i))
				if err == nil {
					g.conns[i] = c
					_, err = c.do("SELECT " + g.box)
				}
				errs[w] = err
			}
		})
	}
	wg.Wait()
	return errors.Join(errors.Join(errs...), g.ctx.Err())
}

// elsewhere numbers connections so that none is of the first user, whose mailbox
// the one that is measured changes: telling others of it is another cost.
func (g *growing) elsewhere(i int) int {
	if others := g.users() - 1; others > 0 {
		return i + i/others + 1
	}
	return i
}

// allIdle sends all connections into IDLE until the curve is done.
func allIdle(g *growing) error {
	for _, c := range g.conns {
		if err := c.idle(); err != nil {
			return err
		}
	}
	g.ended = func() {
		for _, c := range g.conns {
			_ = c.endIdle()
		}
	}
	return nil
}

// visitOnce comes, opens a mailbox and leaves.
func visitOnce(g *growing) (time.Duration, error) {
	c, err := g.dial(0)
	if err != nil {
		return 0, err
	}
	defer c.close()
	if _, err := c.do("SELECT " + g.box); err != nil {
		return 0, err
	}
	_, err = c.do("LOGOUT")
	return 0, err
}

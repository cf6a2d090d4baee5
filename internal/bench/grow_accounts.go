package bench

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// growAccounts lets the accounts grow that have mail. What is done for one of
// them should cost the same however many others there are.
func growAccounts() *dimension {
	return &dimension{
		name: "accounts", what: "accounts, each with a mailbox of ten messages", sizes: []int{1, 100, 10_000},
		begin: func(*growing) error { return nil },
		grow:  growUsed,
		curves: []*curve{
			{name: "login", what: "connect, LOGIN, LOGOUT, anybody, side by side", unit: PerSecond, flat: true,
				all: func(g *growing, _ int) error { return g.visit(func(*conn) error { return nil }) }},
			{name: "read", what: "LOGIN, SELECT, FETCH of ten envelopes, LOGOUT, anybody, not for the first time", unit: Millis, flat: true,
				before: visitAll, // the first SELECT claims \Recent, which is a change
				op: func(g *growing) (time.Duration, error) {
					return 0, g.visit(func(c *conn) error {
						if _, err := c.do("SELECT " + g.box); err != nil {
							return err
						}
						return c.expect("FETCH 1:10 (UID FLAGS ENVELOPE)", 10)
					})
				}},
			{name: "append", what: "LOGIN, APPEND, LOGOUT, anybody, side by side", unit: PerSecond, flat: true,
				all: func(g *growing, _ int) error {
					return g.visit(func(c *conn) error { return c.appendAll(g.box, g.cfg.Mail.take()) })
				}},
			{name: "read-first", what: "after a restart: LOGIN, SELECT, FETCH of ten envelopes, LOGOUT, the first one", unit: Millis, flat: true, needs: needRestart,
				value: func(g *growing) (float64, error) {
					if err := g.restart(g.ctx); err != nil {
						return 0, err
					}
					begun := time.Now()
					err := g.visit(func(c *conn) error {
						if _, err := c.do("SELECT " + g.box); err != nil {
							return err
						}
						return c.expect("FETCH 1:10 (UID FLAGS ENVELOPE)", 10)
					})
					return time.Since(begun).Seconds() * 1000, err
				}},
			{name: "memory-start", what: "resident memory of the server after a restart", unit: Kilobytes, flat: true, needs: needPID | needRestart, value: (*growing).memory},
			{name: "memory", what: "resident memory of the server after everybody was there once", unit: Kilobytes, needs: needPID, before: visitAll, value: (*growing).memory},
		},
	}
}

// growUsed gives accounts mail until n have some.
func growUsed(g *growing, n int) error {
	if n > g.users() {
		return fmt.Errorf("there are %d users only; say --users %d, and give --user a %%d", g.users(), n)
	}
	first := g.n
	return g.eachOf(first, n, func(i int) error {
		err := g.seed(i, 10, 10)
		if errors.Is(err, errRefused) { // left over from another run
			if c, derr := g.dial(i); derr == nil {
				_, _ = c.do("DELETE " + g.box)
				c.close()
			}
			err = g.seed(i, 10, 10)
		}
		return err
	})
}

// eachOf calls fn for the numbers from first to before n, some at a time.
func (g *growing) eachOf(first, n int, fn func(i int) error) error {
	var next atomic.Int64
	errs := make([]error, g.cfg.Connections)
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for errs[w] == nil && g.ctx.Err() == nil {
				i := first + int(next.Add(1)-1)
				if i >= n {
					return
				}
				errs[w] = fn(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errors.Join(errs...), g.ctx.Err())
}

// visit logs in as anybody who has mail, does something and leaves.
func (g *growing) visit(do func(c *conn) error) error { return g.visitAs(rand.IntN(g.n), do) }

func (g *growing) visitAs(i int, do func(c *conn) error) error {
	c, err := g.dial(i)
	if err != nil {
		return err
	}
	defer c.close()
	if err := do(c); err != nil {
		return err
	}
	_, err = c.do("LOGOUT")
	return err
}

func visitAll(g *growing) error {
	return g.eachOf(0, g.n, func(i int) error {
		return g.visitAs(i, func(c *conn) error { _, err := c.do("SELECT " + g.box); return err })
	})
}

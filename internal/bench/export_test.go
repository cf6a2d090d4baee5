package bench

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ExpungeOne runs the workload of that name so many times in a mailbox of n
// messages, and says how many are there then.
func ExpungeOne(ctx context.Context, cfg Config, n, times int) (left int, err error) {
	if cfg, err = cfg.withDefaults(); err != nil {
		return 0, err
	}
	s := &server{Target: cfg.Targets[0], cfg: &cfg}
	if err := s.look(ctx); err != nil {
		return 0, err
	}
	g := &growing{server: s, ctx: ctx, box: s.main()}
	defer g.close()
	defer s.clean(false)
	if err := beginMailbox(g); err != nil {
		return 0, err
	}
	if err := growMailbox(g, n); err != nil {
		return 0, err
	}
	g.n = n
	curves := growMessages().curves
	c := curves[slices.IndexFunc(curves, func(c *curve) bool { return c.name == "expunge-one" })]
	c.value = func(g *growing) (float64, error) {
		for range times {
			if _, err := c.op(g); err != nil {
				return 0, err
			}
		}
		return 1, nil
	}
	if _, err := g.measure(c); err != nil {
		return 0, err
	}
	_, err = g.c.collect("UID FETCH 1:* (FLAGS)", func(line []byte) {
		if strings.Contains(string(line), " FETCH ") {
			left++
		}
	})
	return left, err
}

// AtRest waits for a process of this machine, settle at most.
func AtRest(ctx context.Context, pid int, settle time.Duration) (bool, error) {
	s := &server{Target: Target{PID: strconv.Itoa(pid)}, cfg: &Config{Settle: settle}}
	return s.atRest(ctx)
}

// FolderSize is folderSize.
func FolderSize(path string) (int64, error) { return folderSize(path) }

package bench

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// workload is one thing to measure.
type workload struct {
	name, what string
	unit       Unit
	tls        bool   // over TLS
	plain      bool   // there is no such workload over TLS
	once       bool   // one round will do
	first      bool   // what is done for the first time: there is nothing to warm up
	heavy      bool   // it takes long to get ready, or to run: one round over TLS will do
	short      bool   // env.c gives one short command at a time; see look.go
	still      bool   // servers must be at rest before it; see atrest.go
	needs      need   // what the target must have
	cap        string // what the server must announce
	// before gets ready, and is not measured; run measures.
	before func(*env) error
	run    func(*env) (Sample, error)
}

type need uint8

const (
	needLMTP need = 1 << iota
	needPID
	needRestart
	needData
)

// env is one measurement: what a workload works with.
type env struct {
	*server
	ctx  context.Context
	w    *workload
	time time.Duration // how long to repeat
	box  string        // a mailbox made for this measurement
	c    *conn         // a connection made before it

	marks *marks // of the main mailbox, for storeSingle

	conns []*conn
	boxes []string // of the first user
}

// maxOps bounds every loop, beside the time.
const maxOps = 2_000_000

// dial connects as the i-th user; end closes the connection.
func (e *env) dial(i int) (*conn, error) {
	c, err := e.login(e.ctx, e.w.tls, i)
	if err == nil {
		e.conns = append(e.conns, c)
	}
	return c, err
}

// open connects as the first user and selects a mailbox.
func (e *env) open(mailbox string) (*conn, error) {
	c, err := e.dial(0)
	if err == nil {
		_, err = c.do("SELECT " + mailbox)
	}
	e.c = c
	return c, err
}

// create makes an empty mailbox of the first user; end deletes it.
func (e *env) create() (string, error) {
	c, err := e.login(e.ctx, false, 0)
	if err != nil {
		return "", err
	}
	defer c.close()
	name := e.newBox()
	_, err = c.do("CREATE " + name)
	e.boxes = append(e.boxes, name)
	return name, err
}

// end closes connections and deletes mailboxes.
func (e *env) end() error {
	for _, c := range e.conns {
		c.close()
	}
	if len(e.boxes) == 0 || e.ctx.Err() != nil {
		return nil
	}
	c, err := e.login(e.ctx, false, 0)
	if err != nil {
		return err
	}
	defer c.close()
	var errs []error
	for _, name := range e.boxes {
		_, err := c.do("DELETE " + name)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// timed measures fn, which returns operations and bytes.
func (e *env) timed(fn func() (ops, bytes int64, err error)) (Sample, error) {
	before, err := e.usage(false)
	if err != nil {
		return Sample{}, err
	}
	client, begun := selfCPU(), time.Now()
	ops, bytes, err := fn()
	s := Sample{Ops: ops, Bytes: bytes, Seconds: time.Since(begun).Seconds(), Client: (selfCPU() - client).Seconds()}
	if err != nil {
		return s, err
	}
	after, err := e.usage(false)
	if err == nil && e.PID != "" {
		s.Server = new((after.cpu - before.cpu).Seconds())
	}
	return s, err
}

// repeat measures fn again and again until the time is over, at least once. fn
// returns how many operations it was, and bytes.
func (e *env) repeat(fn func() (ops, bytes int64, err error)) (Sample, error) {
	if e.w.short {
		if err := e.c.lookOut(); err != nil {
			return Sample{}, err
		}
	}
	return e.timed(func() (ops, bytes int64, err error) {
		for deadline := time.Now().Add(e.time); ops < maxOps; {
			n, b, err := fn()
			if err != nil {
				return ops, bytes, err
			}
			ops, bytes = ops+n, bytes+b
			if !time.Now().Before(deadline) {
				break
			}
			if err := e.ctx.Err(); err != nil {
				return ops, bytes, err
			}
		}
		return ops, bytes, nil
	})
}

// parallel measures fn called again and again by n goroutines until the time
// is over. fn is told which goroutine it is, and returns how many operations it
// was. The first error ends all.
func (e *env) parallel(n int, fn func(worker int) (ops int64, err error)) (Sample, error) {
	return e.timed(func() (int64, int64, error) {
		var total atomic.Int64
		var failed atomic.Bool
		errs := make([]error, n)
		deadline := time.Now().Add(e.time)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				for !failed.Load() && total.Load() < maxOps {
					ops, err := fn(i)
					if err != nil {
						errs[i] = err
						failed.Store(true)
						return
					}
					total.Add(ops)
					if !time.Now().Before(deadline) || e.ctx.Err() != nil {
						return
					}
				}
			})
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				return total.Load(), 0, err
			}
		}
		return total.Load(), 0, e.ctx.Err()
	})
}

package imapserver

import (
	"context"
	"errors"
	"net"
	"os"
	"time"
)

// A connection whose client says nothing costs one goroutine that has never done
// anything but wait, since a stack that has parsed a command and opened a
// mailbox has grown to 8 kB and more, and is not given back as long as its
// goroutine lives. So the goroutine of a connection waits, and what the client
// then says is served by another one, a shift, which ends when the client rests:
// at once in IDLE, else after a short time without a command. Of the two only one
// runs at a time.

// restAfter is how long a client must have given no command to be taken for one
// that rests. Until then the shift waits, which saves a change of goroutines for
// each command.
const restAfter = 500 * time.Millisecond

// errRests ends a shift: the client rests, and mu is not held.
var errRests = errors.New("imapserver: the client rests")

// serveConn serves a connection to its end. All that needs a stack is done by
// shifts. Each tells the connection when its client rests, nil when it has ended.
func (s *Server) serveConn(ctx context.Context, nc net.Conn) {
	shifts := make(chan *Conn)
	go s.firstShift(ctx, nc, shifts)
	for c := <-shifts; c != nil; c = <-shifts {
		err := c.guard(c.dec.Wait)
		go c.shift(func() error { return c.run(c.serveNext(err)) }, shifts)
	}
}

// firstShift admits and greets a client.
func (s *Server) firstShift(ctx context.Context, nc net.Conn, shifts chan<- *Conn) {
	addr := remoteAddr(nc)
	leave, refusal := s.gate.enter(addr)
	if refusal != "" {
		s.refuse(nc, refusal)
		shifts <- nil
		return
	}
	c := s.newConn(ctx, nc, addr)
	c.leaveGate = leave
	if !s.track(c) {
		leave()
		s.refuse(nc, "[UNAVAILABLE] Server is shutting down")
		shifts <- nil
		return
	}
	if ctx.Err() != nil { // who tells all that it has ended may have missed this one
		c.Bye("Server is shutting down")
	}
	c.shift(func() error { return c.run(c.greet()) }, shifts)
}

// shift serves the client until it rests, or to the end of the connection.
func (c *Conn) shift(serve func() error, shifts chan<- *Conn) {
	c.srv.eager.served.Add(1)
	err := c.guard(serve)
	c.srv.eager.served.Add(-1)
	if errors.Is(err, errRests) {
		shifts <- c
		return
	}
	c.end(err)
	c.srv.untrack(c)
	c.leaveGate()
	shifts <- nil
}

// run serves commands until the client rests. err is how the beginning went.
func (c *Conn) run(err error) error {
	for err == nil {
		if err = c.waitForCommand(); errors.Is(err, errRests) {
			return err
		}
		err = c.serveNext(err)
	}
	return err
}

// waitForCommand returns when there is something to read. All that has been
// written is on its way before it waits; pipelined commands share a flush.
func (c *Conn) waitForCommand() error {
	c.mu.Lock()
	if c.ending || c.leaving.Load() != nil {
		c.mu.Unlock()
		return errLeaving
	}
	if c.dec.Buffered() > 0 {
		c.mu.Unlock()
		return nil
	}
	if c.idler != nil {
		c.idling.Store(true)
		if err := c.park(c.srv.limits.KeepAlive); err != nil {
			return err
		}
		return errRests
	}
	c.silent = time.Now()
	if err := c.park(restAfter); err != nil {
		return err
	}
	c.eager.expect()
	err := c.dec.Wait()
	if !errors.Is(err, os.ErrDeadlineExceeded) || c.mustEnd() {
		c.parked.Store(false)
		return err
	}
	if err := c.limitSilence(c.maxSilence()); err != nil {
		return err
	}
	return errRests
}

// park makes everything ready for a wait of the time given at most, with mu
// released meanwhile so that others can write to the client. It is called with
// mu held and returns without it.
func (c *Conn) park(limit time.Duration) error {
	err := c.enc.Flush()
	c.enc.Release()
	c.parked.Store(true)
	c.mu.Unlock()
	if err == nil {
		err = c.limitSilence(limit)
	}
	if err != nil {
		c.parked.Store(false)
		return err
	}
	c.deliverNews() // what came while the command ran
	return nil
}

// limitSilence sets the time at which a wait ends although the client has said
// nothing: after limit, or when it has been silent for too long altogether.
// parked is set, so leave, too, ends the wait that follows.
func (c *Conn) limitSilence(limit time.Duration) error {
	now := time.Now()
	at := now.Add(limit)
	if last := c.silent.Add(c.maxSilence()); last.Before(at) {
		at = last
	}
	_ = c.transport.nc.SetReadDeadline(at)
	if c.leaving.Load() != nil { // its deadline may have been overwritten
		return errLeaving
	}
	return nil
}

// maxSilence is how long the client may give no command.
func (c *Conn) maxSilence() time.Duration {
	if c.login.account == nil {
		return c.srv.limits.LoginIdle
	}
	return c.srv.limits.Idle
}

// mustEnd reports whether a wait that has reached its deadline was the last.
func (c *Conn) mustEnd() bool {
	return c.leaving.Load() != nil || time.Since(c.silent) >= c.maxSilence()
}

// serveNext serves the command that the client has begun to send, unless
// waiting for it has failed.
func (c *Conn) serveNext(err error) error {
	c.parked.Store(false)
	c.mu.Lock()
	defer c.mu.Unlock() // also where the command panics
	switch {
	case c.idler != nil:
		return c.idleOn(err)
	case err != nil || c.leaving.Load() != nil:
		return c.readFailed(err)
	}
	return c.serveCommand(&c.ctx)
}

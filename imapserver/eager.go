package imapserver

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/rookery-mail/rookery/internal/spinread"
)

// A program on the same machine (webmail, a proxy, a migration) gives its next
// command some ten or twenty microseconds after the answer to the last one.
// Putting the thread that waits for it to sleep and waking it up again takes
// longer than that, and most of the processor time of such a command. So the
// server looks for input again and again for a moment before it sleeps. That
// costs about as much processor time as sleeping, and takes half as long.
//
// It is done only between commands, for clients that mostly are so quick, and
// while next to nobody else is served: a processor that looks around must not be
// missing elsewhere.

// eagerFor is how long input is looked for.
const eagerFor = 80 * time.Microsecond

// Where looking was in vain, the next waits are slept through: twice as many each
// time, and half as many after a success. A client that is never quick costs a
// look in eagerMost commands.
const (
	eagerFirst = 7
	eagerMost  = 255
)

// eagerListener makes the connections that it accepts eager, where it can.
type eagerListener struct {
	net.Listener
	gate *eagerGate
}

// Accept implements net.Listener.
func (l eagerListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err == nil {
		if sc, ok := spinread.New(nc); ok {
			return &eagerConn{Conn: sc, gate: l.gate, skip: eagerFirst, misses: eagerFirst}, nil
		}
	}
	return nc, err
}

// eagerGate says how many may look for input at a time.
type eagerGate struct {
	few     int32        // while at most so many are served, the others will not miss a processor
	most    int32        // how many look at most
	served  atomic.Int32 // connections whose clients do not rest
	looking atomic.Int32
}

func newEagerGate(processors int) *eagerGate {
	if processors == 1 {
		return &eagerGate{few: -1} // the client could not run meanwhile
	}
	return &eagerGate{few: int32(processors / 2), most: int32(max(processors/4, 1))}
}

// enter reports whether the caller may look; then it must leave.
func (g *eagerGate) enter() bool {
	if g.served.Load() > g.few {
		return false
	}
	if g.looking.Add(1) <= g.most {
		return true
	}
	g.leave()
	return false
}

func (g *eagerGate) leave() { g.looking.Add(-1) }

// eagerConn is a TCP connection that looks for a command before it waits for it.
type eagerConn struct {
	*spinread.Conn
	gate *eagerGate

	next   bool // the next Read waits for a command
	skip   int  // how many waits are slept through before it looks again
	misses int  // about half of how many it will be after the next miss
}

// eagerOf returns what is eager below a connection, or nil.
func eagerOf(nc net.Conn) *eagerConn {
	if tc, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = tc.NetConn()
	}
	c, _ := nc.(*eagerConn)
	return c
}

// expect says that the next Read waits for a command.
func (c *eagerConn) expect() {
	if c != nil {
		c.next = true
	}
}

// Read implements net.Conn.
func (c *eagerConn) Read(p []byte) (int, error) {
	look := c.next
	c.next = false
	switch {
	case !look:
		return c.Conn.Read(p)
	case c.skip > 0:
		c.skip--
		return c.Conn.Read(p)
	case !c.gate.enter():
		return c.Conn.Read(p)
	}
	n, err := c.Look(p, eagerFor)
	c.gate.leave()
	if n > 0 || err != nil {
		c.misses /= 2
		return n, err
	}
	c.misses = min(2*c.misses+1, eagerMost)
	c.skip = c.misses
	return c.Conn.Read(p)
}

package bench

import (
	"crypto/tls"
	"net"
	"time"

	"github.com/rookery-mail/rookery/internal/spinread"
)

// Where a connection gives one short command at a time, much of what is measured
// is how long the machine takes to put this program to sleep and to wake it up
// again, and on Linux part of that is counted as the server's processor time. So
// there the answer is looked for without sleeping.

// lookFor is how long: more than an answer from memory takes.
const lookFor = 500 * time.Microsecond

// lookingConn looks for input before it sleeps, if it is told to.
type lookingConn struct {
	*spinread.Conn
	look bool
}

// canLook makes a lookingConn of a connection, where it can.
func canLook(nc net.Conn) net.Conn {
	if sc, ok := spinread.New(nc); ok {
		return &lookingConn{Conn: sc}
	}
	return nc
}

// Read implements net.Conn.
func (c *lookingConn) Read(p []byte) (int, error) {
	if c.look {
		if n, err := c.Look(p, lookFor); n > 0 || err != nil {
			return n, err
		}
	}
	return c.Conn.Read(p)
}

// lookOut has the connection look for answers before it sleeps.
func (c *conn) lookOut() {
	nc := c.nc
	if tc, ok := nc.(*tls.Conn); ok {
		nc = tc.NetConn()
	}
	if lc, ok := nc.(*lookingConn); ok {
		lc.look = true
	}
}

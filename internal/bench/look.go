package bench

import (
	"crypto/tls"
	"net"
	"time"
)

// Where a connection gives one short command at a time, much of what is measured
// is how long the machine takes to put this program to sleep and to wake it up
// again, and on Linux part of that is counted as the server's processor time. So
// there the answer is looked for without sleeping, and by nobody else: Go's runtime,
// which waits for all its sockets, would be woken up by each answer too.

// lookFor is how long: more than an answer from memory takes.
const lookFor = 500 * time.Microsecond

// lookingConn looks for input before it sleeps, if it is told to.
type lookingConn struct {
	*net.TCPConn
	own *ownSocket // what it uses instead, when it has been told
}

// canLook makes a lookingConn of a connection, where it can.
func canLook(nc net.Conn) net.Conn {
	if tc, ok := nc.(*net.TCPConn); ok {
		return &lookingConn{TCPConn: tc}
	}
	return nc
}

// Read implements net.Conn.
func (c *lookingConn) Read(p []byte) (int, error) {
	if c.own != nil {
		return c.own.Read(p)
	}
	return c.TCPConn.Read(p)
}

// Write implements net.Conn.
func (c *lookingConn) Write(p []byte) (int, error) {
	if c.own != nil {
		return c.own.Write(p)
	}
	return c.TCPConn.Write(p)
}

// SetDeadline implements net.Conn.
func (c *lookingConn) SetDeadline(t time.Time) error {
	if c.own != nil {
		c.own.deadline = t
		return nil
	}
	return c.TCPConn.SetDeadline(t)
}

// Close implements net.Conn.
func (c *lookingConn) Close() error {
	if c.own != nil {
		return c.own.Close()
	}
	return c.TCPConn.Close()
}

// lookOut has the connection look for answers before it sleeps.
func (c *conn) lookOut() error {
	nc := c.nc
	if tc, ok := nc.(*tls.Conn); ok {
		nc = tc.NetConn()
	}
	lc, ok := nc.(*lookingConn)
	if !ok || lc.own != nil {
		return nil
	}
	c.stop() // it closes the connection, which is another one from now on
	own, err := takeOver(lc.TCPConn)
	if err != nil {
		return err
	}
	lc.own = own
	c.watch()
	return nil
}

//go:build !unix

package spinread

import (
	"net"
	"time"
)

// canLook: there is no poll on this system.
const canLook = false

// Conn is never made on this system.
type Conn struct{ *net.TCPConn }

func newConn(tc *net.TCPConn) *Conn { return &Conn{tc} }

// Look finds nothing.
func (c *Conn) Look([]byte, time.Duration) (int, error) { return 0, nil }

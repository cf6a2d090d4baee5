package imapserver

import (
	"io"
	"net"
	"testing"
	"time"
)

// eagerPair returns a connection that a server has accepted, and its client.
func eagerPair(t *testing.T, gate *eagerGate) (*eagerConn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := eagerListener{ln, gate}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); nc.Close() })
	c := eagerOf(nc)
	if c == nil {
		t.Fatal("a TCP connection cannot be looked at")
	}
	return c, client
}

// TestEagerForgetsTheSlow: a client that is never quick is hardly looked for.
func TestEagerForgetsTheSlow(t *testing.T) {
	c, client := eagerPair(t, newEagerGate(4))
	var buf [1]byte
	for c.misses < eagerMost {
		c.expect()
		if c.skip == 0 { // nothing comes while it looks
			time.AfterFunc(5*time.Millisecond, func() { _, _ = client.Write([]byte("x")) })
		} else if _, err := client.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(buf[:]); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	if c.skip != eagerMost {
		t.Errorf("after a last miss %d waits are slept through, want %d", c.skip, eagerMost)
	}
}

// TestEagerIsForFew: with many clients to serve, or one processor, nobody looks.
func TestEagerIsForFew(t *testing.T) {
	for _, test := range []struct {
		processors, served, look int
	}{{1, 1, 0}, {2, 1, 1}, {2, 2, 0}, {4, 2, 1}, {4, 3, 0}, {16, 8, 4}} {
		g := newEagerGate(test.processors)
		g.served.Store(int32(test.served))
		n := 0
		for range test.served {
			if g.enter() {
				n++
			}
		}
		if n != test.look {
			t.Errorf("of %d clients %d are looked for at a time with %d processors, want %d", test.served, n, test.processors, test.look)
		}
	}
}

// TestEagerReadsAll: what comes is read whole and in order, looked for or not.
func TestEagerReadsAll(t *testing.T) {
	c, client := eagerPair(t, newEagerGate(4))
	var buf [1]byte
	trusted := false
	for i := range 1000 {
		if _, err := client.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		c.expect()
		if n, err := c.Read(buf[:]); n != 1 || err != nil || buf[0] != byte(i) {
			t.Fatalf("byte %d is %d (%d, %v)", i, buf[0], n, err)
		}
		trusted = trusted || c.misses == 0
	}
	if !trusted {
		t.Error("a client that is always quick is not looked for each time")
	}
	client.Close()
	c.expect()
	if _, err := c.Read(buf[:]); err != io.EOF {
		t.Errorf("at the end Read returns %v", err)
	}
}

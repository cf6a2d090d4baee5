package spinread_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/internal/spinread"
)

// pair returns both ends of a connection over loopback.
func pair(t *testing.T) (*spinread.Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	other, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close(); nc.Close() })
	c, ok := spinread.New(nc)
	if !ok {
		t.Fatal("a TCP connection cannot be looked at")
	}
	return c, other
}

func TestLook(t *testing.T) {
	c, other := pair(t)
	buf := make([]byte, 16)
	if n, err := c.Look(buf, time.Microsecond); n != 0 || err != nil {
		t.Fatalf("nothing was sent, and Look returns %d, %v", n, err)
	}
	if _, err := other.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	n, err := c.Look(buf, time.Minute)
	if err == nil && n == 0 { // a system where only Read works
		n, err = c.Read(buf)
	}
	if err != nil || string(buf[:n]) != "hello" {
		t.Fatalf("Look returns %q, %v", buf[:n], err)
	}
	other.Close()
	if n, err := c.Look(buf, time.Second); n != 0 || err != nil {
		t.Fatalf("at the end Look returns %d, %v", n, err)
	}
	if _, err := c.Read(buf); err != io.EOF {
		t.Fatalf("at the end Read returns %v", err)
	}
}

// TestDeadline: who ends a wait by a deadline in the past ends a Look too.
func TestDeadline(t *testing.T) {
	c, _ := pair(t)
	if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Look(make([]byte, 1), time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Look returns %v", err)
	}
}

func TestClosed(t *testing.T) {
	c, _ := pair(t)
	c.Close()
	if _, err := c.Look(make([]byte, 1), time.Millisecond); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("Look returns %v", err)
	}
}

func TestOnlyTCP(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if _, ok := spinread.New(a); ok {
		t.Fatal("a pipe can be looked at")
	}
}

package spinread_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
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

// ways says whether a connection is looked at first until the runtime does not know
// of it any more.
var ways = map[string]bool{"known": false, "unknown": true}

// busy has a connection looked at for so long, if it shall be.
func busy(t *testing.T, c *spinread.Conn, other net.Conn, unknown bool) {
	t.Helper()
	if !unknown {
		return
	}
	var buf [1]byte
	for i := range 40 {
		if _, err := other.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		n, err := c.Look(buf[:], time.Minute)
		if n == 0 && err == nil {
			n, err = c.Read(buf[:])
		}
		if n != 1 || err != nil || buf[0] != byte(i) {
			t.Fatalf("byte %d: %d, %v, %d", i, n, err, buf[0])
		}
	}
}

// TestConn does what any connection can do, and both kinds alike.
func TestConn(t *testing.T) {
	for name, unknown := range ways {
		t.Run(name, func(t *testing.T) {
			c, other := pair(t)
			busy(t, c, other, unknown)
			if got, want := c.RemoteAddr().String(), other.LocalAddr().String(); got != want {
				t.Errorf("the client is at %s, want %s", got, want)
			}
			if got, want := c.LocalAddr().String(), other.RemoteAddr().String(); got != want {
				t.Errorf("the server is at %s, want %s", got, want)
			}
			// More than the system holds, to a client that reads late.
			big := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
			echoed := make(chan error, 1)
			go func() {
				time.Sleep(10 * time.Millisecond)
				got := make([]byte, len(big))
				_, err := io.ReadFull(other, got)
				if err == nil && !bytes.Equal(got, big) {
					err = errors.New("other bytes have come")
				}
				echoed <- err
			}()
			if n, err := c.Write(big); n != len(big) || err != nil {
				t.Fatal(n, err)
			}
			if err := <-echoed; err != nil {
				t.Fatal(err)
			}
			busy(t, c, other, unknown)
			// A read that has to wait.
			go func() {
				time.Sleep(10 * time.Millisecond)
				_, _ = other.Write([]byte("late"))
			}()
			buf := make([]byte, 16)
			if n, err := c.Read(buf); err != nil || string(buf[:n]) != "late" {
				t.Fatal(n, err)
			}
			busy(t, c, other, unknown)
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if n, err := other.Read(buf); n != 0 || err != io.EOF {
				t.Fatalf("the client reads %d, %v", n, err)
			}
			other.Close()
			if n, err := c.Read(buf); n != 0 || err != io.EOF {
				t.Fatalf("the server reads %d, %v", n, err)
			}
		})
	}
}

// TestEnds: a read or a write that waits is ended by Close and by deadlines, from
// elsewhere.
func TestEnds(t *testing.T) {
	for name, unknown := range ways {
		for what, want := range map[string]error{"close": net.ErrClosed, "deadline": os.ErrDeadlineExceeded, "later": os.ErrDeadlineExceeded} {
			for _, wait := range []string{"read", "look", "write"} {
				t.Run(name+" "+what+" "+wait, func(t *testing.T) {
					c, other := pair(t)
					busy(t, c, other, unknown)
					if what == "later" {
						if wait == "look" {
							return // which is too short for it
						}
						_ = c.SetDeadline(time.Now().Add(20 * time.Millisecond))
					}
					go func() {
						time.Sleep(10 * time.Millisecond)
						switch what {
						case "close":
							c.Close()
						case "deadline":
							_ = c.SetDeadline(time.Now())
						}
					}()
					var err error
					switch buf := make([]byte, 1<<20); wait {
					case "read":
						_, err = c.Read(buf)
					case "look":
						_, err = c.Look(buf, time.Minute)
					case "write":
						for err == nil {
							_, err = c.Write(buf)
						}
					}
					if !errors.Is(err, want) {
						t.Fatalf("it ends with %v", err)
					}
					var ne net.Error
					if want == os.ErrDeadlineExceeded && (!errors.As(err, &ne) || !ne.Timeout()) {
						t.Errorf("%v is no time-out", err)
					}
				})
			}
		}
	}
}

// TestSideBySide: one reads, others write and set deadlines, and Close comes at any
// moment.
func TestSideBySide(t *testing.T) {
	for range 20 {
		c, other := pair(t)
		go func() { _, _ = io.Copy(other, other) }()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for i := 0; ; i++ {
					if _, err := c.Write([]byte("abc")); err != nil {
						return
					}
					_ = c.SetReadDeadline(time.Now().Add(time.Minute))
				}
			})
		}
		wg.Go(func() {
			for buf := make([]byte, 64); ; {
				n, err := c.Look(buf, 50*time.Microsecond)
				if n == 0 && err == nil {
					_, err = c.Read(buf)
				}
				if err != nil {
					return
				}
			}
		})
		time.Sleep(5 * time.Millisecond)
		c.Close()
		wg.Wait()
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("closed again: %v", err)
		}
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

package imaptest

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A pump reads a connection all the time into memory, so that a server that
// writes while the test writes too (over a net.Pipe, say) does not hang.
type pump struct {
	net.Conn // for writing, closing and addresses

	mu       sync.Mutex
	arrived  chan struct{} // closed and renewed when buf or err changes
	buf      []byte
	err      error
	deadline time.Time
}

func newPump(c net.Conn) *pump {
	p := &pump{Conn: c, arrived: make(chan struct{})}
	go p.run()
	return p
}

func (p *pump) run() {
	chunk := make([]byte, 16<<10)
	for {
		n, err := p.Conn.Read(chunk)
		p.mu.Lock()
		p.buf = append(p.buf, chunk[:n]...)
		p.err = err
		close(p.arrived)
		p.arrived = make(chan struct{})
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Read implements net.Conn.
func (p *pump) Read(b []byte) (int, error) {
	for {
		p.mu.Lock()
		n := copy(b, p.buf)
		p.buf = p.buf[n:]
		err, arrived, deadline := p.err, p.arrived, p.deadline
		p.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		if err != nil {
			if err == io.ErrClosedPipe {
				err = io.EOF
			}
			return 0, err
		}
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		select {
		case <-arrived:
		case <-ctx.Done():
			cancel()
			return 0, os.ErrDeadlineExceeded
		}
		cancel()
	}
}

// SetReadDeadline implements net.Conn; the zero time means at once, since
// every read of a test has a deadline.
func (p *pump) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	p.deadline = t
	p.mu.Unlock()
	return nil
}

// SetDeadline implements net.Conn.
func (p *pump) SetDeadline(t time.Time) error {
	if err := p.Conn.SetWriteDeadline(t); err != nil {
		return err
	}
	return p.SetReadDeadline(t)
}

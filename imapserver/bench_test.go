package imapserver_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"

	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/memory"
)

// benchConn is a client that costs little: it looks at lines only to find the
// one that begins with its tag.
type benchConn struct {
	b   *testing.B
	nc  net.Conn
	in  *bufio.Reader
	got int64 // bytes of the last reply
}

// benchServer serves a model over TCP on this machine.
func benchServer(b *testing.B, m *memory.Model) (*imapserver.Server, func() *benchConn) {
	b.Helper()
	srv := newServer(b, overMemory(b, m), imapserver.Options{Limits: imapserver.Limits{ConnectionsPerUser: -1, ConnectionsPerAddr: -1}})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go srv.Serve(b.Context(), ln)
	return srv, func() *benchConn {
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { nc.Close() })
		c := &benchConn{b: b, nc: nc, in: bufio.NewReaderSize(nc, 64<<10)}
		if _, err := c.in.ReadSlice('\n'); err != nil {
			b.Fatal(err)
		}
		return c
	}
}

// do gives a command, tag included, and reads up to its reply.
func (c *benchConn) do(command string) {
	if _, err := io.WriteString(c.nc, command+"\r\n"); err != nil {
		c.b.Fatal(err)
	}
	c.got = 0
	for {
		line, err := c.in.ReadSlice('\n')
		c.got += int64(len(line))
		if err != nil && err != bufio.ErrBufferFull {
			c.b.Fatal(err)
		}
		if bytes.HasPrefix(line, []byte("a ")) {
			if !bytes.HasPrefix(line, []byte("a OK")) {
				c.b.Fatalf("%s: %s", command, line)
			}
			return
		}
	}
}

func mailbox(n int) *memory.Model {
	m := memory.New()
	for i := range n {
		m.Add("ann", "INBOX", fmt.Sprintf("From: Ann <ann@example.org>\r\nTo: Bob <bob@example.org>\r\nSubject: Message %d\r\n"+
			"Message-ID: <%d@example.org>\r\nDate: Wed, 1 Jan 2020 12:00:00 +0000\r\n\r\nThis is message %d.\r\n", i, i, i))
	}
	return m
}

func BenchmarkLoginLogout(b *testing.B) {
	_, open := benchServer(b, mailbox(1))
	for b.Loop() {
		c := open()
		c.do("a LOGIN ann secret")
		c.do("a LOGOUT")
		c.nc.Close()
	}
}

// benchCommand measures a command on a mailbox of n messages.
func benchCommand(b *testing.B, n int, command string) {
	_, open := benchServer(b, mailbox(n))
	c := open()
	c.do("a LOGIN ann secret")
	c.do("a SELECT INBOX")
	c.do(command)
	b.ReportAllocs()
	for b.Loop() {
		c.do(command)
	}
	b.SetBytes(c.got)
}

func BenchmarkNoop(b *testing.B)          { benchCommand(b, 1000, "a NOOP") }
func BenchmarkSelect(b *testing.B)        { benchCommand(b, 100_000, "a SELECT INBOX") }
func BenchmarkFetchFlags(b *testing.B)    { benchCommand(b, 100_000, "a FETCH 1:* (UID FLAGS)") }
func BenchmarkFetchEnvelope(b *testing.B) { benchCommand(b, 5_000, "a FETCH 1:* (UID ENVELOPE)") }
func BenchmarkFetchBody(b *testing.B)     { benchCommand(b, 5_000, "a FETCH 1:* BODY.PEEK[]") }
func BenchmarkSearchFlags(b *testing.B)   { benchCommand(b, 100_000, "a SEARCH UNSEEN LARGER 10") }

// BenchmarkIdleConnection reports what a connection costs while its client says
// nothing: all of the heap and of the stacks, less the client's side.
func BenchmarkIdleConnection(b *testing.B) {
	for name, idle := range map[string]string{"parked": "", "idle": "a IDLE\r\n"} {
		b.Run(name, func(b *testing.B) {
			const n = 1000
			srv, _ := benchServer(b, mailbox(10))
			before := memoryInUse()
			conns := make([]net.Conn, n)
			for i := range conns {
				ours, theirs := net.Pipe()
				go srv.ServeConn(b.Context(), theirs)
				conns[i] = ours
				io.ReadFull(ours, make([]byte, 4)) // the greeting has begun
				go io.WriteString(ours, "a LOGIN ann secret\r\nb SELECT INBOX\r\nc FETCH 1:* (FLAGS BODY.PEEK[])\r\n")
				readUntil(b, ours, "c OK FETCH completed\r\n")
				if idle != "" {
					io.WriteString(ours, idle)
					readUntil(b, ours, "+ idling\r\n")
				}
			}
			each := float64(memoryInUse()-before) / n
			for b.Loop() {
				runtime.KeepAlive(conns)
			}
			b.ReportMetric(each, "B/conn")
			for _, c := range conns {
				c.Close()
			}
		})
	}
}

// readUntil reads up to the end of text.
func readUntil(b *testing.B, r io.Reader, text string) {
	var last []byte
	buf := make([]byte, 4096)
	for !bytes.HasSuffix(last, []byte(text)) {
		n, err := r.Read(buf)
		if err != nil {
			b.Fatal(err)
		}
		last = append(last, buf[:n]...)
		last = last[max(len(last)-len(text), 0):]
	}
}

func memoryInUse() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

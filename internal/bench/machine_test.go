//go:build linux

package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// What the machine can do at all, to compare servers with: a round trip that has
// nothing to do in it, and writes that must be on the disk. Both depend on what else
// the machine does, and a round trip on the sleep of its processors too, so measure
// them in the same minutes as a server.

// echoServer in the environment makes the test binary the server of BenchmarkEcho,
// which is a process of its own, as a mail server is: "sleeping" or "looking".
const echoServer = "ROOKERY_BENCH_ECHO_SERVER"

func TestMain(m *testing.M) {
	if how := os.Getenv(echoServer); how != "" {
		if err := serveEcho(how == "looking"); err != nil {
			fmt.Fprintln(os.Stderr, "echo server:", err)
			os.Exit(1)
		}
		return
	}
	m.Run()
}

// serveEcho prints its address and sends back what comes, until its standard input
// ends.
func serveEcho(looking bool) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		ln.Close()
	}()
	for {
		nc, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err == nil {
			nc, err = maybeLooking(nc, looking)
		}
		if err != nil {
			return err
		}
		go echo(nc)
	}
}

// echo sends back what comes, until the client goes.
func echo(nc net.Conn) {
	defer nc.Close()
	buf := make([]byte, 512)
	for {
		n, err := nc.Read(buf)
		if err == nil {
			_, err = nc.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

// maybeLooking returns a connection that looks for input before it sleeps, as those
// of workloads do that give one short command at a time (look.go), or nc itself.
func maybeLooking(nc net.Conn, looking bool) (net.Conn, error) {
	if !looking {
		return nc, nil
	}
	own, err := takeOver(nc.(*net.TCPConn))
	return &lookingConn{TCPConn: nc.(*net.TCPConn), own: own}, err
}

// BenchmarkEcho is a round trip of a line as long as a STATUS, over TCP on loopback,
// between two processes in plain Go. It tells the processor time of each for one.
func BenchmarkEcho(b *testing.B) {
	for _, tc := range []struct {
		name, server string
		connections  int
		looking      bool // the client
	}{
		{"client=sleeping", "sleeping", 1, false},
		{"client=looking", "sleeping", 1, true},
		{"both=looking", "looking", 1, true},
		{"connections=100", "sleeping", 100, false},
		{"connections=10000", "sleeping", 10_000, false},
	} {
		b.Run(tc.name, func(b *testing.B) {
			addr, pid := startEcho(b, tc.server)
			conns := make([]net.Conn, tc.connections)
			for i := range conns {
				nc, err := net.Dial("tcp", addr)
				if err == nil {
					conns[i], err = maybeLooking(nc, tc.looking)
				}
				if errors.Is(err, unix.EMFILE) {
					b.Skip("there may not be as many open files as connections (ulimit -n): ", err)
				}
				if err != nil {
					b.Fatal(err)
				}
				defer conns[i].Close()
			}
			echoes(b, pid, conns)
		})
	}
}

// startEcho runs the server until the benchmark ends.
func startEcho(b *testing.B, how string) (addr string, pid int) {
	b.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), echoServer+"="+how)
	cmd.Stderr = os.Stderr
	stop, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stop.Close()
		_ = cmd.Wait()
	})
	if addr, err = bufio.NewReader(out).ReadString('\n'); err != nil {
		b.Fatal("the server has no address: ", err)
	}
	return strings.TrimSpace(addr), cmd.Process.Pid
}

// echoes does b.N round trips, over all connections side by side.
func echoes(b *testing.B, pid int, conns []net.Conn) {
	line := []byte("b1234 STATUS rookery-bench-main (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)\r\n")
	before, err := processTree(pid, false)
	if err != nil {
		b.Fatal(err)
	}
	self := selfCPU()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for _, nc := range conns {
		wg.Go(func() {
			buf := make([]byte, len(line))
			for left.Add(-1) >= 0 {
				_, err := nc.Write(line)
				if err == nil {
					_, err = io.ReadFull(nc, buf)
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	client := selfCPU() - self
	after, err := processTree(pid, false)
	if err != nil {
		b.Fatal(err)
	}
	perOp := func(seconds float64) float64 { return seconds * 1e6 / float64(b.N) }
	b.ReportMetric(perOp((after.cpu - before.cpu).Seconds()), "server-us/op") // in steps of clockTick in all
	b.ReportMetric(perOp(client.Seconds()), "client-us/op")
}

// BenchmarkSync is a write that is on the disk when it is done, by fdatasync, into a
// file whose blocks are there already, filled with zeros. The file is in the folder for
// temporary files: $TMPDIR must be on the disk that is meant.
func BenchmarkSync(b *testing.B) {
	for _, tc := range []struct {
		name  string
		size  int
		files int
	}{
		{"512B", 512, 1}, {"8kB", 8 << 10, 1}, {"64kB", 64 << 10, 1}, {"8kB-files=8", 8 << 10, 8},
	} {
		b.Run(tc.name, func(b *testing.B) {
			files := make([]*os.File, tc.files)
			for i := range files {
				files[i] = zeros(b, filepath.Join(b.TempDir(), fmt.Sprint(i)))
				defer files[i].Close()
			}
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			b.SetBytes(int64(tc.size))
			b.ResetTimer()
			for _, f := range files {
				wg.Go(func() {
					data := []byte(strings.Repeat("x", tc.size))
					for at := int64(0); left.Add(-1) >= 0; at = (at + int64(tc.size)) % zeroed {
						_, err := f.WriteAt(data, at)
						if err == nil {
							err = unix.Fdatasync(int(f.Fd()))
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// zeroed is the size of the files that are written to, in bytes.
const zeroed = 16 << 20

// zeros makes a file of zeros that are on the disk.
func zeros(b *testing.B, name string) *os.File {
	b.Helper()
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	if _, err = f.Write(make([]byte, zeroed)); err == nil {
		err = f.Sync()
	}
	if err != nil {
		b.Fatal(err)
	}
	return f
}

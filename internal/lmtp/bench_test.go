package lmtp_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/rookery-mail/rookery/internal/lmtp"
)

// hole takes every message and keeps none.
type hole struct{}

func (hole) Resolve(_ context.Context, address string) (string, error) { return address, nil }

func (hole) Deliver(_ context.Context, _ string, r io.Reader, _ int64) error {
	var room [4 << 10]byte
	for {
		if _, err := r.Read(room[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// BenchmarkDelivery is what a message of 6 kB takes besides its delivery: eight
// clients, with pipelining, which are in the same process and cost, too.
func BenchmarkDelivery(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := lmtp.New(hole{}, lmtp.Options{TempDir: b.TempDir()})
	go s.Serve(ln)
	defer s.Shutdown(b.Context())
	message := []byte("Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("z", 76)+"\r\n", 77) + ".\r\n")
	work := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		defer nc.Close()
		r := bufio.NewReader(nc)
		talk := func(text []byte, lines int) {
			if _, err := nc.Write(text); err != nil {
				b.Error(err)
			}
			for range lines {
				if _, err := r.ReadSlice('\n'); err != nil {
					b.Error(err)
				}
			}
		}
		talk([]byte("LHLO here\r\n"), 1+8)
		wg.Go(func() {
			for range work {
				talk([]byte("MAIL FROM:<sender@example.org>\r\nRCPT TO:<ann@example.com>\r\nDATA\r\n"), 3)
				talk(message, 1)
			}
		})
	}
	b.ReportAllocs()
	for b.Loop() {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
}

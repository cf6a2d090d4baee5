//go:build unix

package bloblog_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/internal/bench"
	"github.com/rookery-mail/rookery/internal/corpus"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// supplies are generated mail and, with ROOKERY_CORPUS, real mail.
func supplies(b *testing.B) map[string][][]byte {
	generated, err := bench.GenerateMail(4000, 6000, 1)
	must(b, err)
	all := map[string][][]byte{"generated": slices.Collect(generated.Messages(4000))}
	for _, m := range corpus.Messages(b) {
		all["corpus"] = append(all["corpus"], m.Raw)
	}
	return all
}

// processorTime is what this process has taken, in microseconds.
func processorTime(b *testing.B) float64 {
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1000
}

// BenchmarkMail stores and reads mail with and without compression, and tells
// the processor time for a message (the wall clock has other things in it) and
// what part of its size a message takes on the disk.
func BenchmarkMail(b *testing.B) {
	for name, mail := range supplies(b) {
		for _, how := range []string{"none", "zstd"} {
			compress, err := bloblog.ParseCompression(how)
			must(b, err)
			s := open(b, b.TempDir(), bloblog.Options{Manual: true, Compress: compress})
			refs := storeAll(b, s, mail)
			st := s.Stats()
			b.Run(fmt.Sprintf("%s/%s/append", name, how), func(b *testing.B) {
				measured(b, len(mail), func() { storeAll(b, s, mail) })
				b.ReportMetric(float64(st.StoredBytes)/float64(st.Content), "stored/size")
			})
			buf := make([]byte, 32<<10)
			b.Run(fmt.Sprintf("%s/%s/fetch", name, how), func(b *testing.B) {
				measured(b, len(mail), func() { readEach(b, s, refs, buf, 1<<40) })
			})
			b.Run(fmt.Sprintf("%s/%s/header", name, how), func(b *testing.B) {
				measured(b, len(mail), func() { readEach(b, s, refs, buf, 1500) })
			})
			must(b, s.Close())
		}
	}
}

func measured(b *testing.B, messages int, fn func()) {
	before, n := processorTime(b), 0
	for b.Loop() {
		fn()
		n += messages
	}
	b.ReportMetric((processorTime(b)-before)/float64(n), "cpu-us/message")
}

// storeAll stores messages, a hundred for each sync.
func storeAll(b *testing.B, s *bloblog.Store, mail [][]byte) (refs []driver.Ref) {
	for part := range slices.Chunk(mail, 100) {
		var writers []driver.Writer
		for _, m := range part {
			w, err := s.Create(context.Background(), 1, int64(len(m)))
			must(b, err)
			_, err = w.Write(m)
			must(b, err)
			ref, err := w.Finish([]byte("meta"))
			must(b, err)
			refs, writers = append(refs, ref), append(writers, w)
		}
		must(b, s.Sync(context.Background()))
		for _, w := range writers {
			w.Release()
		}
	}
	return refs
}

func readEach(b *testing.B, s *bloblog.Store, refs []driver.Ref, buf []byte, most int64) {
	for _, ref := range refs {
		blob, err := s.Open(context.Background(), 1, ref)
		must(b, err)
		for off := int64(0); off < min(blob.Size(), most); {
			n, err := blob.ReadAt(buf[:min(int64(len(buf)), most-off)], off)
			if off += int64(n); err != nil && err != io.EOF {
				b.Fatal(err)
			}
		}
		must(b, blob.Close())
	}
}

// BenchmarkBesideTidy tells how long storing and reading take, each durable,
// while nothing else happens and while space is taken back: gently as the
// background does, and as fast as it goes.
func BenchmarkBesideTidy(b *testing.B) {
	for _, how := range []string{"alone", "gently", "at-once"} {
		b.Run(how, func(b *testing.B) {
			dir := b.TempDir()
			opts := bloblog.Options{SegmentBytes: 16 << 20, Manual: true}
			s := open(b, dir, opts)
			data := text(1, 6000)
			var kept, dead []driver.Ref
			for i := range 80_000 {
				ref, w, err := write(s, 1, data)
				must(b, err)
				w.Release()
				if i%9 < 4 {
					kept = append(kept, ref)
				} else {
					dead = append(dead, ref)
				}
			}
			must(b, s.Close())
			switch how {
			case "gently":
				opts.Manual = false
			case "at-once":
				opts.Manual, opts.TidyRate = false, -1
			}
			s = open(b, dir, opts)
			must(b, s.Delete(context.Background(), 1, dead))
			var stores, reads latencies
			var stop atomic.Bool
			var wg sync.WaitGroup
			wg.Go(func() { // a reader beside the writer
				for rng := rand.New(rand.NewPCG(1, 2)); !stop.Load(); time.Sleep(200 * time.Microsecond) {
					reads.of(func() { wantBytes(b, s, kept[rng.IntN(len(kept))], data) })
				}
			})
			for b.Loop() {
				stores.of(func() { must(b, putSynced(s, data)) })
			}
			moved := s.Stats().MovedBytes
			stop.Store(true)
			wg.Wait()
			must(b, s.Close())
			stores.report(b, "store")
			reads.report(b, "read")
			b.ReportMetric(float64(moved)/1e6/b.Elapsed().Seconds(), "moved-MB/s")
		})
	}
}

type latencies []time.Duration

func (l *latencies) of(fn func()) {
	begin := time.Now()
	fn()
	*l = append(*l, time.Since(begin))
}

func (l latencies) report(b *testing.B, what string) {
	slices.Sort(l)
	for _, p := range []int{50, 99} {
		b.ReportMetric(float64(l[len(l)*p/100].Microseconds()), fmt.Sprintf("%s-p%d-us", what, p))
	}
	b.ReportMetric(float64(l[len(l)-1-len(l)/1000].Microseconds()), what+"-p99.9-us")
}

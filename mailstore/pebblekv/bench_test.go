package pebblekv_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/rookery-mail/rookery/mailstore/driver"
)

// BenchmarkUpdate commits durably, from so many goroutines, on as many accounts
// or all on one.
func BenchmarkUpdate(b *testing.B) {
	for _, accounts := range []string{"own", "shared"} {
		for _, workers := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("account=%s/workers=%d", accounts, workers), func(b *testing.B) {
				kv := open(b, nil, b.TempDir())
				defer kv.Close()
				var next atomic.Int64
				b.ReportAllocs()
				b.ResetTimer()
				var wg sync.WaitGroup
				for w := range workers {
					a := driver.Account(1)
					if accounts == "own" {
						a += driver.Account(w)
					}
					wg.Go(func() {
						for {
							n := next.Add(1)
							if n > int64(b.N) {
								return
							}
							if err := put(kv, a, fmt.Sprint("key", n), "a record of about sixty-four bytes, as a message's row may well be"); err != nil {
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
}

func BenchmarkView(b *testing.B) {
	kv := open(b, nil, b.TempDir())
	defer kv.Close()
	if err := put(kv, 1, "a", "x"); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		get(b, kv, 1, "a")
	}
}

// BenchmarkScan reads 100,000 records of 64 bytes.
func BenchmarkScan(b *testing.B) {
	kv := open(b, nil, b.TempDir())
	defer kv.Close()
	const records = 100_000
	for i := 0; i < records; i += 10_000 {
		err := kv.Update(context.Background(), 1, func(tx driver.Txn) error {
			for j := range 10_000 {
				if err := tx.Set(fmt.Appendf(nil, "%08d", i+j), make([]byte, 64)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		err := kv.View(context.Background(), 1, func(r driver.Reader) error {
			return r.Scan(nil, nil, func(_, _ []byte) bool { n++; return true })
		})
		if err != nil || n != records {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(records)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkTransaction compares, without a disk, the overlay with Pebble's
// indexed batch: ten writes, and then a read of each.
func BenchmarkTransaction(b *testing.B) {
	b.Run("overlay", func(b *testing.B) {
		kv := open(b, nil, b.TempDir())
		defer kv.Close()
		stop := fmt.Errorf("rolled back")
		b.ReportAllocs()
		for b.Loop() {
			_ = kv.Update(context.Background(), 1, func(tx driver.Txn) error {
				for i := range byte(10) {
					tx.Set([]byte{'k', i}, make([]byte, 64))
				}
				for i := range byte(10) {
					tx.Get([]byte{'k', i})
				}
				return stop
			})
		}
	})
	b.Run("indexed", func(b *testing.B) {
		db, err := pebble.Open(b.TempDir(), &pebble.Options{Logger: discard{}})
		if err != nil {
			b.Fatal(err)
		}
		defer db.Close()
		b.ReportAllocs()
		for b.Loop() {
			batch := db.NewIndexedBatch()
			for i := range byte(10) {
				batch.Set([]byte{0, 0, 0, 0, 0, 0, 0, 1, 'k', i}, make([]byte, 64), nil)
			}
			for i := range byte(10) {
				if _, c, err := batch.Get([]byte{0, 0, 0, 0, 0, 0, 0, 1, 'k', i}); err == nil {
					c.Close()
				}
			}
			batch.Close()
		}
	})
}

type discard struct{}

func (discard) Infof(string, ...any)  {}
func (discard) Errorf(string, ...any) {}
func (discard) Fatalf(string, ...any) {}

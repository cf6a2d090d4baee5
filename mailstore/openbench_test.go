package mailstore_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// openEngines makes a store over what is in dir; stop ends it all.
func openEngines(b *testing.B, dir string) (bb *bench, stop func()) {
	b.Helper()
	opts := quiet(mailstore.Options{})
	kv, err := pebblekv.Open(dir+"/kv", pebblekv.Options{Logger: opts.Logger})
	if err != nil {
		b.Fatal(err)
	}
	blobs, err := bloblog.Open(dir+"/blobs", bloblog.Options{Logger: opts.Logger})
	if err != nil {
		b.Fatal(err)
	}
	bb = &bench{kv: kv, blobs: blobs, opts: opts}
	bb.open(b)
	return bb, func() {
		for _, err := range []error{bb.store.Close(ctx), kv.Close(), blobs.Close()} {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

// grow makes a mailbox of n messages out of 1,000 that are copied, with flags
// that differ from row to row.
func grow(b *testing.B, a *mailstore.Account, n int) {
	b.Helper()
	var items []mailstore.AppendItem
	for i := range 1000 {
		items = append(items, mailstore.AppendItem{
			Upload: upload(b, a, mail(fmt.Sprint("m", i))+string(bytes.Repeat([]byte{'x'}, rand.IntN(200)))),
			Date:   imap.MakeTime(1e9+rand.Int64N(5e8), 60*rand.IntN(4)),
		})
	}
	if _, err := a.Append(ctx, imap.Inbox, items); err != nil {
		b.Fatal(err)
	}
	m := open(b, a, imap.Inbox)
	defer m.Close()
	for have := 1000; have < n; {
		more := min(have, n-have)
		if _, err := m.Copy(ctx, imap.UIDSetOfRange(1, imap.UID(more)), imap.Inbox); err != nil {
			b.Fatal(err)
		}
		have += more
	}
	for _, flag := range []imap.Flag{imap.FlagSeen, imap.FlagAnswered, "work", "later"} {
		for from := 1; from <= n; from += 50_000 {
			var uids imap.UIDSet
			for uid := from; uid < from+50_000 && uid <= n; uid += 1 + rand.IntN(3) {
				uids.Add(imap.UID(uid))
			}
			if _, err := m.Store(ctx, &mailstore.StoreRequest{UIDs: uids, Op: mailstore.FlagsAdd, Flags: []imap.Flag{flag}}); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// resident returns the resident memory of this process in bytes, 0 where the
// system does not say.
func resident() int64 {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(data)
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// BenchmarkOpen is the first look at a mailbox after a start, as it was left
// by bulk changes ("packed") and with as many single changes as are ever left
// for later ("changed"). Memory is that of the process, after less before.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{10_000, 100_000, 1_000_000} {
		dir := b.TempDir()
		bb, stop := openEngines(b, dir)
		grow(b, bb.account(b, "ann"), n)
		stop()
		b.Run(fmt.Sprint("packed/", n), func(b *testing.B) { benchmarkOpen(b, dir, n) })
		bb, stop = openEngines(b, dir)
		m := open(b, bb.account(b, "ann"), imap.Inbox)
		snapshot(b, m)
		manyTimes(b, n/16, func(i int) error {
			flag := []imap.Flag{imap.FlagFlagged, imap.FlagSeen}[i%2]
			_, err := m.Store(ctx, &mailstore.StoreRequest{UIDs: imap.UIDSetOf(imap.UID(1 + rand.IntN(n))), Op: mailstore.FlagOp(1 + i%2), Flags: []imap.Flag{flag}})
			return err
		})
		stop()
		b.Run(fmt.Sprint("changed/", n), func(b *testing.B) { benchmarkOpen(b, dir, n) })
	}
}

// manyTimes calls fn n times from many goroutines.
func manyTimes(b *testing.B, n int, fn func(i int) error) {
	const workers = 256
	done := make(chan error, workers)
	for w := range workers {
		go func() {
			var err error
			for i := w; i < n && err == nil; i += workers {
				err = fn(i)
			}
			done <- err
		}()
	}
	for range workers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkOpen(b *testing.B, dir string, n int) {
	var memory int64
	var took time.Duration
	for range b.N {
		b.StopTimer()
		bb, stop := openEngines(b, dir)
		a := bb.account(b, "ann")
		debug.FreeOSMemory()
		before := resident()
		b.StartTimer()
		begin := time.Now()
		m := open(b, a, imap.Inbox)
		s := snapshot(b, m)
		took += time.Since(begin)
		b.StopTimer()
		memory += resident() - before
		if s.Len() != n {
			b.Fatalf("%d messages", s.Len())
		}
		m.Close()
		stop()
	}
	b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms/open")
	b.ReportMetric(float64(memory)/float64(b.N)/(1<<20), "MB")
}

// counted notes how many bytes transactions write.
type counted struct {
	driver.KV
	bytes atomic.Int64
}

func (c *counted) Update(ctx context.Context, a driver.Account, fn func(driver.Txn) error) error {
	return c.KV.Update(ctx, a, func(tx driver.Txn) error {
		s := &sized{Txn: tx}
		err := fn(s)
		c.bytes.Add(int64(s.size))
		return err
	})
}

// BenchmarkOneOf makes single changes, from 8 sessions, in mailboxes of
// different sizes. What is written includes the tidying that follows; it
// should not grow with the mailbox.
func BenchmarkOneOf(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000, 1_000_000} {
		dir := b.TempDir()
		bb, stop := openEngines(b, dir)
		kv := &counted{KV: bb.kv}
		bb.store.Close(ctx)
		bb.kv = kv
		bb.open(b)
		a := bb.account(b, "ann")
		grow(b, a, n)
		m := open(b, a, imap.Inbox)
		snapshot(b, m)
		run := func(name string, fn func() error) {
			b.Run(fmt.Sprint(name, "/", n), func(b *testing.B) {
				before := kv.bytes.Load()
				spread(b, 8, func(int) {
					if err := fn(); err != nil {
						b.Error(err)
					}
				})
				b.ReportMetric(float64(kv.bytes.Load()-before)/float64(b.N), "written/op")
			})
		}
		run("store", func() error {
			_, err := m.Store(ctx, &mailstore.StoreRequest{
				UIDs: imap.UIDSetOf(imap.UID(1 + rand.IntN(n))), Op: mailstore.FlagOp(1 + rand.IntN(2)), Flags: []imap.Flag{imap.FlagSeen},
			})
			return err
		})
		run("append", func() error {
			appendMail(b, a, imap.Inbox, mail("one more"))
			return nil
		})
		run("expunge", func() error {
			uid := imap.UIDSetOf(imap.UID(1 + rand.IntN(n)))
			if _, err := m.Store(ctx, &mailstore.StoreRequest{UIDs: uid, Op: mailstore.FlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}); err != nil {
				return err
			}
			m.Release(snapshot(b, m).HighestModSeq())
			return m.Expunge(ctx, &uid)
		})
		m.Close()
		stop()
	}
}

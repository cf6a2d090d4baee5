package mailstore_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// newDiskBench is a store on the embedded engines on the machine's disk.
func newDiskBench(b *testing.B) *bench {
	b.Helper()
	dir := b.TempDir()
	opts := quiet(mailstore.Options{})
	kv, err := pebblekv.Open(dir+"/kv", pebblekv.Options{Logger: opts.Logger})
	if err != nil {
		b.Fatal(err)
	}
	blobs, err := bloblog.Open(dir+"/blobs", bloblog.Options{Logger: opts.Logger})
	if err != nil {
		b.Fatal(err)
	}
	bb := &bench{kv: kv, blobs: blobs, opts: opts}
	bb.open(b)
	b.Cleanup(func() {
		bb.store.Close(ctx)
		kv.Close()
		blobs.Close()
	})
	return bb
}

// fill puts messages of about 6 kB into INBOX.
func fill(b *testing.B, a *mailstore.Account, n int) {
	b.Helper()
	filler := strings.Repeat("All work and no play makes Jack a dull boy.\r\n", 130)
	for i := 0; i < n; {
		var items []mailstore.AppendItem
		for ; len(items) < 250 && i < n; i++ {
			items = append(items, mailstore.AppendItem{Upload: upload(b, a, mail(fmt.Sprint("m", i))+filler), Date: imap.MakeTime(1e9, 0)})
		}
		if _, err := a.Append(ctx, imap.Inbox, items); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, workers := range []int{1, 8} {
		b.Run(fmt.Sprint("workers=", workers), func(b *testing.B) {
			bb := newDiskBench(b)
			text := []byte(mail("x") + strings.Repeat("All work and no play makes Jack a dull boy.\r\n", 130))
			b.ReportAllocs()
			spread(b, workers, func(w int) {
				a := bb.account(b, fmt.Sprint("user", w))
				u, err := a.Upload(ctx, int64(len(text)))
				if err != nil {
					b.Error(err)
					return
				}
				if _, err := u.Write(text); err != nil {
					b.Error(err)
					return
				}
				item := mailstore.AppendItem{Upload: u, Date: imap.MakeTime(1e9, 60)}
				if _, err := a.Append(ctx, imap.Inbox, []mailstore.AppendItem{item}); err != nil {
					b.Error(err)
				}
			})
		})
	}
}

// BenchmarkStoreOne has sessions that change one message each in one mailbox.
func BenchmarkStoreOne(b *testing.B) {
	for _, workers := range []int{1, 8} {
		b.Run(fmt.Sprint("workers=", workers), func(b *testing.B) {
			bb := newDiskBench(b)
			a := bb.account(b, "ann")
			fill(b, a, 5000)
			m := open(b, a, imap.Inbox)
			defer m.Close()
			snapshot(b, m)
			spread(b, workers, func(int) {
				_, err := m.Store(ctx, &mailstore.StoreRequest{
					UIDs: imap.UIDSetOf(imap.UID(1 + rand.IntN(5000))), Op: mailstore.FlagOp(1 + rand.IntN(2)), Flags: []imap.Flag{imap.FlagSeen},
				})
				if err != nil {
					b.Error(err)
				}
			})
		})
	}
}

// spread runs b.N calls of fn in several goroutines.
func spread(b *testing.B, workers int, fn func(worker int)) {
	b.ResetTimer()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < b.N; i += workers {
				fn(w)
			}
		})
	}
	wg.Wait()
}

const benchMessages = 20_000

// BenchmarkMailbox has what is done to a whole mailbox; the figures are
// messages per second.
func BenchmarkMailbox(b *testing.B) {
	bb := newDiskBench(b)
	a := bb.account(b, "ann")
	fill(b, a, benchMessages)
	m := open(b, a, imap.Inbox)
	rows := allRows(snapshot(b, m))
	all := imap.UIDSetOfRange(1, benchMessages)
	run := func(name string, fn func() error) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := fn(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*benchMessages/b.Elapsed().Seconds(), "msg/s")
		})
	}
	flip := mailstore.FlagsAdd
	run("store", func() error {
		_, err := m.Store(ctx, &mailstore.StoreRequest{UIDs: all, Op: flip, Flags: []imap.Flag{imap.FlagFlagged}})
		flip = mailstore.FlagsAdd + mailstore.FlagsRemove - flip
		return err
	})
	for name, need := range map[string]mailstore.Need{
		"digest": mailstore.NeedDigest, "wire": mailstore.NeedWire, "fields": mailstore.NeedFields,
		"header": mailstore.NeedHeader, "body": mailstore.NeedBody, "text": mailstore.NeedText,
	} {
		run("fetch "+name, func() error {
			return m.Fetch(ctx, rows, need, func(_ int, msg *mailstore.Message) error { return msg.Err })
		})
	}
	boxes := 0
	dest := func() string {
		boxes++
		name := fmt.Sprint("box", boxes)
		if _, err := a.Create(ctx, name, nil); err != nil {
			b.Fatal(err)
		}
		return name
	}
	run("copy", func() error {
		_, err := m.Copy(ctx, all, dest())
		return err
	})
	src := "box1"
	run("move", func() error {
		from := open(b, a, src)
		defer from.Close()
		boxes += 1000
		src = dest()
		_, err := from.Move(ctx, imap.UIDSetOfRange(1, 1<<31), src)
		return err
	})
}

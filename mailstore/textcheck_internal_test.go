package mailstore

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/memkv"
	"github.com/rookery-mail/rookery/message"
)

// A check finds what is wrong with the text index, searches go round it where it
// shows, and making it anew mends it.
func TestCheckTextIndex(t *testing.T) {
	ctx := context.Background()
	damages := map[string]struct {
		do   func(b *textBench, tx driver.Txn) error
		want string
	}{
		"page": {func(b *textBench, tx driver.Txn) error {
			return eachKey(tx, keySegPage, func(key, value []byte) error {
				value[len(value)/2] ^= 1
				return tx.Set(key, value)
			})
		}, "damaged (the segment of messages 1 to"},
		"a page lost": {func(b *textBench, tx driver.Txn) error {
			n := 0
			return eachKey(tx, keySegPage, func(key, _ []byte) error {
				if n++; n != 1 {
					return nil
				}
				return tx.Delete(key)
			})
		}, "damaged (the segment of messages 1 to"},
		"pages lost": {func(b *textBench, tx driver.Txn) error {
			return eachKey(tx, keySegPage, func(key, _ []byte) error { return tx.Delete(key) })
		}, "damaged (the segment of messages 1 to"},
		"page too many": {func(b *textBench, tx driver.Txn) error { return tx.Set(pageKey(1<<40, 1), []byte("x")) }, "1 pages too many of segment"},
		"directory":     {func(b *textBench, tx driver.Txn) error { return tx.Set([]byte{keySegments}, []byte{1, 0, 9}) }, "damaged (its directory"},
		"mark": {func(b *textBench, tx driver.Txn) error {
			p := progress{version: (&textDeriver{}).version(), mark: 1 << 20}
			return tx.Set(markKey(&textDeriver{}), p.encode())
		}, "and 1048576 are marked"},
		"other text": {func(b *textBench, tx driver.Txn) error {
			var p textPacker
			// The first of a segment is in every sample, whatever segments there are.
			return tx.Set(numKey(keyText, 1), p.pack(&message.Text{Version: message.Version, Body: []byte("SOMETHING ELSE")}))
		}, "message 1 is not in the text index as its text is"},
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			b := &textBench{t: t, rng: rand.New(rand.NewPCG(1, 9)), texts: make(map[uint64]*message.Text)}
			b.kv, b.blobs = memkv.NewKV(memkv.RunTwice()), memkv.NewBlobs()
			b.opts = Options{DeriveDelay: 1, Logger: slog.New(slog.DiscardHandler), TextBatch: 10, Limits: message.Limits{TextBytes: 4000, HeaderBytes: 1 << 20}}
			b.open()
			for len(b.texts) < 150 {
				b.append(imap.Inbox)
			}
			b.settle()
			num := b.a.num
			b.close()
			b.must(b.kv.Update(ctx, num, func(tx driver.Txn) error { return damage.do(b, tx) }))
			b.open()
			b.settle()
			defects, err := b.store.Check(ctx)
			b.must(err)
			found := false
			for _, d := range defects {
				found = found || strings.Contains(d.Text, damage.want) && strings.Contains(d.Text, "--rebuild")
			}
			if !found {
				t.Errorf("the check finds %v, want %q", defects, damage.want)
			}
			if name != "other text" {
				for range 50 {
					b.search(imap.Inbox)
				}
			}
			b.a.RebuildIndex()
			b.settle()
			if defects, err := b.store.Check(ctx); err != nil || len(defects) > 0 {
				t.Errorf("after the index was made anew: %v, %v", defects, err)
			}
			b.close()
		})
	}
}

// eachKey calls fn for all records of a kind; it may write.
func eachKey(tx driver.Txn, kind byte, fn func(key, value []byte) error) error {
	type record struct{ key, value []byte }
	var all []record
	err := scanPrefix(tx, []byte{kind}, func(key, value []byte) error {
		all = append(all, record{append([]byte{}, key...), append([]byte{}, value...)})
		return nil
	})
	for _, r := range all {
		if err == nil {
			err = fn(r.key, r.value)
		}
	}
	return err
}

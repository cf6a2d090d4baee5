package pebblekv_test

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// BenchmarkJournal commits what an APPEND commits, with a journal and without.
func BenchmarkJournal(b *testing.B) {
	for _, name := range []string{"without", "with"} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			opts := pebblekv.Options{Logger: silent, Derived: derivedT}
			if name == "with" {
				opts.Journal = filepath.Join(dir, "journal")
			}
			kv, err := pebblekv.Open(filepath.Join(dir, "index"), opts)
			if err != nil {
				b.Fatal(err)
			}
			defer kv.Close()
			row, text := make([]byte, 40), make([]byte, 3000)
			n := uint64(0)
			b.SetBytes(int64(len(row) + len(text)))
			for b.Loop() {
				n++
				err := kv.Update(context.Background(), 1, func(tx driver.Txn) error {
					if err := tx.Set(binary.BigEndian.AppendUint64([]byte{'m'}, n), row); err != nil {
						return err
					}
					return tx.Set(binary.BigEndian.AppendUint64([]byte{'t'}, n), text)
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSaveState saves a state of what an index keeps of 1,000,000 messages:
// record, thread key, import key, and a page for each 512 rows.
func BenchmarkSaveState(b *testing.B) {
	dir := b.TempDir()
	kv, err := pebblekv.Open(filepath.Join(dir, "index"), pebblekv.Options{Logger: silent, Derived: derivedT, Journal: filepath.Join(dir, "journal"), Relaxed: 1e9})
	if err != nil {
		b.Fatal(err)
	}
	defer kv.Close()
	const messages = 1_000_000
	for n := uint64(0); n < messages; {
		err := kv.Update(context.Background(), 1, func(tx driver.Txn) error {
			for end := n + 1000; n < end; n++ {
				key := binary.BigEndian.AppendUint64([]byte{'m'}, n)
				if err := tx.Set(key, make([]byte, 20)); err != nil {
					return err
				}
				for _, kind := range []byte{'i', 'y'} {
					key := binary.BigEndian.AppendUint64([]byte{kind}, n*0x9e3779b97f4a7c15)
					if err := tx.Set(append(key, key[1:]...), make([]byte, 4)); err != nil {
						return err
					}
				}
				key[0] = 't'
				if err := tx.Set(key, make([]byte, 1000)); err != nil {
					return err
				}
				key[0] = 'r'
				if n%512 == 0 {
					if err := tx.Set(key, make([]byte, 8000)); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if err := kv.SaveState(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	states, err := filepath.Glob(filepath.Join(dir, "journal", "*", "state-*"))
	if err != nil || len(states) == 0 {
		b.Fatal(states, err)
	}
	b.ReportMetric(float64(stateSize(b, states[len(states)-1]))/messages, "B/message")
}

func stateSize(b *testing.B, path string) int64 {
	b.Helper()
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	return info.Size()
}

package pebblekv_test

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// TestCheckpoint copies a store while it is written to.
func TestCheckpoint(t *testing.T) {
	ctx := context.Background()
	fs := vfs.NewMem()
	kv, err := pebblekv.Open("kv", pebblekv.Options{FS: fs, Logger: quiet(), MemTableBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	for i := uint64(1); i <= 500; i++ {
		if err := setBoth(kv, 1, i); err != nil {
			t.Fatal(err)
		}
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := uint64(501); ; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := setBoth(kv, 1, i); err != nil {
				done <- err
				return
			}
		}
	}()
	err = kv.Checkpoint(ctx, "copy")
	close(stop)
	if werr := <-done; err != nil || werr != nil {
		t.Fatal(err, werr)
	}
	if err := kv.Checkpoint(ctx, "copy"); err == nil {
		t.Error("a second checkpoint went over the first")
	}
	c, err := pebblekv.Open("copy", pebblekv.Options{FS: fs, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := readBoth(c, 1); err != nil || got < 500 {
		t.Errorf("the copy has %d: %v", got, err)
	}
}

// TestCheckpointFails: a disk that is full for the copy is not full for the
// store.
func TestCheckpointFails(t *testing.T) {
	fs := crashfs.New()
	kv, err := pebblekv.Open("kv", pebblekv.Options{FS: fs, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	fs.Fail(func(op errorfs.Op) error {
		if strings.HasPrefix(op.Path, "copy") && crashfs.Changes(op) {
			return syscall.ENOSPC
		}
		return nil
	})
	if err := setBoth(kv, 1, 1); err != nil {
		t.Fatal(err)
	}
	if err := kv.Checkpoint(context.Background(), "copy"); imap.KindOf(err) != imap.Unavailable {
		t.Errorf("a checkpoint to a full disk gave %v", err)
	}
	select {
	case <-kv.Failed():
		t.Error("the store has failed with it")
	default:
	}
	if err := setBoth(kv, 1, 2); err != nil {
		t.Error(err)
	}
}

// TestVerify flips a byte of a table.
func TestVerify(t *testing.T) {
	ctx := context.Background()
	fs := vfs.NewMem()
	opts := pebblekv.Options{FS: fs, Logger: quiet(), MemTableBytes: 64 << 10}
	kv, err := pebblekv.Open("kv", opts)
	if err != nil {
		t.Fatal(err)
	}
	for a := driver.Account(1); a <= 3; a++ {
		err := kv.Update(ctx, a, func(tx driver.Txn) error {
			for i := range 2000 {
				if err := tx.Set(fmt.Appendf(nil, "key%06d", i), fmt.Appendf(nil, "value %d", i*7919)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	verify := func(kv *pebblekv.KV) (found []pebblekv.Damage) {
		t.Helper()
		if err := kv.Verify(ctx, func(d pebblekv.Damage) { found = append(found, d) }); err != nil {
			t.Fatal(err)
		}
		return found
	}
	if found := verify(kv); len(found) > 0 {
		t.Errorf("nothing is damaged, found %v", found)
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	names, _ := fs.List("kv")
	tables := 0
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		tables++
		f, err := fs.OpenReadWrite("kv/"+name, "test")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{0x55}, 100); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	kv, err = pebblekv.Open("kv", opts)
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	found := verify(kv)
	if len(found) == 0 || len(found) > tables || found[0].First < 1 || found[0].Last > 3 || found[0].Err == nil {
		t.Errorf("%d tables are damaged, found %v", tables, found)
	}
}

package daemon

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// TestRepairFormat: the file FORMAT is written anew where index or journal say what it
// was, and nowhere else.
func TestRepairFormat(t *testing.T) {
	whole := vfs.NewMem()
	want, end := lived(t, whole, 3, 60)
	end()
	text := get(t, whole, home+"/FORMAT")
	try := func(name string, fixed bool, damage func(disk vfs.FS) error) {
		t.Run(name, func(t *testing.T) {
			disk := copyDisk(t, whole)
			if err := damage(disk); err != nil {
				t.Fatal(err)
			}
			res, err := Repair(context.Background(), RepairRequest{DataDir: home, fs: disk, Report: func(RepairEvent) {}})
			if !fixed {
				if err == nil || imap.KindOf(err) == imap.Other {
					t.Errorf("the repair gave %+v, %v", res, err)
				}
				if _, err := disk.Stat(home + "/FORMAT"); err == nil {
					t.Error("FORMAT is written though nobody knows what it was")
				}
				return
			}
			if err != nil || !res.Format {
				t.Fatalf("the repair gave %+v, %v", res, err)
			}
			if got := get(t, disk, home+"/FORMAT"); string(got) != string(text) {
				t.Errorf("FORMAT is %q, want %q", got, text)
			}
			got := repair(t, disk)
			same(t, want, got)
		})
	}
	gone := func(disk vfs.FS) error { return disk.Remove(home + "/FORMAT") }
	try("gone", true, gone)
	try("damaged", true, func(disk vfs.FS) error {
		put(t, disk, home+"/FORMAT", []byte("rookery st\x00\x00"))
		return nil
	})
	try("gone, and the index is damaged", true, func(disk vfs.FS) error {
		for _, path := range files(t, disk, home+"/index") {
			put(t, disk, path, []byte("nonsense"))
		}
		return gone(disk)
	})
	try("gone, and so is all that says it", false, func(disk vfs.FS) error {
		if err := disk.RemoveAll(home + "/journal"); err != nil {
			return err
		}
		for _, path := range files(t, disk, home+"/index") {
			put(t, disk, path, []byte("nonsense"))
		}
		return gone(disk)
	})
	try("gone, and no journal: it may be a restore that was interrupted", false, func(disk vfs.FS) error {
		if err := disk.RemoveAll(home + "/journal"); err != nil {
			return err
		}
		return gone(disk)
	})
	try("gone with the index", true, func(disk vfs.FS) error {
		if err := disk.RemoveAll(home + "/index"); err != nil {
			return err
		}
		return gone(disk)
	})
	try("gone, in a store of a newer release", false, func(disk vfs.FS) error {
		kv, err := pebblekv.Open(home+"/index", pebblekv.Options{FS: disk})
		if err != nil {
			return err
		}
		err = kv.Update(context.Background(), 0, func(tx driver.Txn) error { return tx.Set([]byte{'F'}, []byte{99}) })
		if err == nil {
			err = kv.Close()
		}
		if err == nil {
			err = gone(disk)
		}
		return err
	})
}

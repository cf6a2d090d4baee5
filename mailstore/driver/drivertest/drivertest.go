// Package drivertest proves that an engine keeps the contract of package
// driver. The author of an engine calls [Run] from a test:
//
//	func TestDriver(t *testing.T) {
//		drivertest.Run(t, func(t *testing.T) drivertest.Harness {
//			dir := t.TempDir()
//			return drivertest.Harness{
//				Persistent: true,
//				OpenKV: func(t *testing.T) driver.KV { ... },
//			}
//		})
//	}
//
// What is promised, and the tests that hold an engine to it:
//
//	View: consistent, after Updates that returned   ViewIsASnapshot ViewsAreAtomic ViewSeesReturnedUpdates ViewDuringUpdate
//	Update: one after the other, own writes, atomic Serialised OwnWrites Rollback WaitEndsWithContext ContextEnded
//	Update: other accounts do not wait; MaxTxnBytes AccountsDoNotWait AccountsAreApart BigTransaction
//	Update: when it fails, and kinds of errors       Fails TooLarge
//	durable                                         Reopen Crash
//	Get, Scan, Set, Delete, DeleteRange             OrderAndBounds ScanStops ReadsInsideScan DeleteRange RandomAgainstModel
//	who owns slices, and for how long               CallerMayReuseSlices ValuesStay
//	Watch (its stop; a hint promises no more)       Watch
//	KV.Close                                        CloseWaits Closed
//	Create, Write, Finish, ReadAt of a Writer       Sizes UnknownSize WrongSize ReadBack WriterOutlivesContext SlowWriters
//	Release, pins                                   ReleaseUnfinished DeleteWhilePinned SweepSparesPinned
//	Sync                                            SyncTogether ManyWriters Reopen Crash Fails
//	Open, Blob                                      PartialReads ReadTogether UnknownRefs DeleteWhileOpen Damage
//	Delete, Sweep, List                             Delete ReadersAndDeleters Sweep SweepBesideWriters ListMeta ListStops CrashAfterRefusal
//	Refs are never given out twice                  RefsAreNeverReused RefsAreNeverReusedAfterReopen Skip
//	Blobs.Close                                     Closed
//
// What happens when power or the disk fails, and to damaged bytes, it can only prove
// with the help of an engine's author: by Harness.Crash, FailAt with Heal, and
// Damage. The embedded engines do that with internal/crashfs, and have tests of
// their own that go further: TestCutAtEveryOperation, TestFaultAtEveryOperation, and
// TestDriverOnAFailingDisk, which runs this suite where operations that no caller
// waits for fail.
package drivertest

import (
	"errors"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/driver"
)

// A Harness opens the engine under test. Each test gets a Harness of its own,
// whose store is empty.
type Harness struct {
	// OpenKV and OpenBlobs open the store. Either may be nil: then its half of
	// the suite is not run. They are called again, after Close, only when
	// Persistent is set.
	OpenKV    func(t *testing.T) driver.KV
	OpenBlobs func(t *testing.T) driver.Blobs

	// Persistent says that a store which was closed and opened again has what
	// was in it.
	Persistent bool

	// What follows makes the engine fail. Where it is nil, the tests that need it
	// are not run.

	// FailAt has the n-th operation on what the engine keeps its bytes in (a disk, a
	// connection) fail, counted from 1 and from now on, and the times-1 that follow
	// it. At least all that change something count. Heal ends that, has the store
	// that is open go on, and reports whether anything has failed since FailAt.
	FailAt func(n, times int)
	Heal   func(t *testing.T) (failed bool)

	// Crash ends the store that is open as a power cut does: what is opened next has
	// what was durable, and the store that was open is not used any more, though it
	// will be closed. Persistent must be set.
	Crash func(t *testing.T)

	// Damage changes a byte of what is stored of the blob that has this content,
	// which begins with some bytes that cannot be compressed. The store is closed.
	// Persistent must be set.
	Damage func(t *testing.T, content []byte)
}

// Run runs the whole suite; fresh makes a Harness with an empty store.
func Run(t *testing.T, fresh func(t *testing.T) Harness) {
	t.Run("KV", func(t *testing.T) {
		if fresh(t).OpenKV == nil {
			return // this engine has no KV
		}
		runAll(t, fresh, kvTests())
	})
	t.Run("Blobs", func(t *testing.T) {
		if fresh(t).OpenBlobs == nil {
			return // this engine has no blobs
		}
		runAll(t, fresh, blobTests())
	})
}

// A test is one property. needsReopen leaves it out for engines that forget, needs
// for those whose Harness lacks something. Instead of run it may have runMany, which
// makes Harnesses of its own.
type test struct {
	name        string
	needsReopen bool
	needs       func(h Harness) bool
	run         func(t *testing.T, h Harness)
	runMany     func(t *testing.T, fresh func(t *testing.T) Harness)
}

func needsFaults(h Harness) bool { return h.FailAt != nil && h.Heal != nil }

func needsCrash(h Harness) bool { return h.Crash != nil }

func needsDamage(h Harness) bool { return h.Damage != nil }

func runAll(t *testing.T, fresh func(t *testing.T) Harness, tests []test) {
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			h := fresh(t)
			if tc.needsReopen && !h.Persistent {
				return // nothing outlives a Close here, by design
			}
			if tc.needs != nil && !tc.needs(h) {
				return // the author of this engine gives no way to do that
			}
			if tc.runMany != nil {
				tc.runMany(t, fresh)
				return
			}
			tc.run(t, h)
		})
	}
}

// openKV opens the KV and closes it at the end of the test.
func openKV(t *testing.T, h Harness) driver.KV {
	t.Helper()
	kv := h.OpenKV(t)
	t.Cleanup(func() { kv.Close() })
	return kv
}

func openBlobs(t *testing.T, h Harness) driver.Blobs {
	t.Helper()
	b := h.OpenBlobs(t)
	t.Cleanup(func() { b.Close() })
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t testing.TB, err error, kind imap.Kind) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("error is %v, want one of kind %v", err, kind)
	}
}

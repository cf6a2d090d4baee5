package memkv_test

import (
	"testing"

	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/driver/drivertest"
	"github.com/rookery-mail/rookery/mailstore/memkv"
)

func TestDriver(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		return drivertest.Harness{
			OpenKV:    func(*testing.T) driver.KV { return memkv.NewKV() },
			OpenBlobs: func(*testing.T) driver.Blobs { return memkv.NewBlobs() },
		}
	})
}

// TestDriverWithConflicts proves that the suite itself bears what it asks of
// every caller: that a transaction may be run again.
func TestDriverWithConflicts(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		return drivertest.Harness{
			OpenKV: func(*testing.T) driver.KV { return memkv.NewKV(memkv.RunTwice()) },
		}
	})
}

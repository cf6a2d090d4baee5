package mailstore

import "testing"

// TestDerivedRange: what is derived in the background is in no saved state of the
// index, and a repair drops it.
func TestDerivedRange(t *testing.T) {
	opts := Options{}.withDefaults()
	for _, d := range newDerivers(&opts) {
		for _, prefix := range append(d.prefixes(), markKey(d)) {
			if DerivedRange(1, prefix) == nil {
				t.Errorf("the %s have keys that begin with %q, which DerivedRange does not know", d.what(), prefix)
			}
		}
	}
}

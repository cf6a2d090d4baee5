package crashfs

import (
	"fmt"
	"testing"
)

// A Scenario is one life of a store that ends in a power cut.
type Scenario struct {
	// Prepare, if not nil, makes the state from which Run starts. It is not cut.
	Prepare func(t *testing.T, fs *FS)
	// Run opens the store on fs, works, and closes it. It notes something as
	// acknowledged only where fs.Alive() is true after the store has said so.
	Run func(t *testing.T, fs *FS)
	// Check opens the store as it is after the cut, and compares it with what
	// Run has noted. It is called once for each of [FS.Clones].
	Check func(t *testing.T, fs *FS)
}

// EveryCut cuts the scenario at its first changing operation, then at its
// second, and so on until Run comes to its end; step (at least 1) leaves some
// out, and with -short more are left out. fresh makes a scenario that knows
// nothing of the one before. It returns the number of cuts.
func EveryCut(t *testing.T, step int, fresh func() Scenario) int {
	t.Helper()
	if testing.Short() {
		step *= 5
	}
	cuts := 0
	for n := 1; ; n += step {
		s, fs := fresh(), New()
		if s.Prepare != nil {
			s.Prepare(t, fs)
		}
		fs.CutAt(n)
		s.Run(t, fs)
		last := fs.Alive()
		for _, c := range fs.Clones() {
			name := fmt.Sprintf("cut=%d,kept=%d%%", n, c.Kept)
			if !t.Run(name, func(t *testing.T) { s.Check(t, c.FS) }) {
				return cuts
			}
		}
		cuts++
		if last {
			return cuts
		}
	}
}

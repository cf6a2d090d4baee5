// Package race says whether the race detector is on. It is for tests that
// measure: with it, code is some ten times slower, and pools of memory give
// less back. Nothing else may depend on it.
package race

import "time"

// Factor is how much longer things may take: 1, or 10 with the race detector.
const Factor = factor

// Enabled says whether the race detector is on.
const Enabled = factor > 1

// Patience returns d, or longer with the race detector.
func Patience(d time.Duration) time.Duration { return d * Factor }

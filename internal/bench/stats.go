package bench

import (
	"math"
	"slices"
)

// median returns the median of values, 0 where there are none.
func median(values []float64) float64 { return quantile(values, 0.5) }

// quantile returns the q-quantile of values (q from 0 to 1), between two values
// in proportion; 0 where there are none.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	pos := q * float64(len(sorted)-1)
	low := int(math.Floor(pos))
	if low+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[low] + (pos-float64(low))*(sorted[low+1]-sorted[low])
}

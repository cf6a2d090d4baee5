package bench

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A Unit is what a workload's figures are in.
type Unit string

// The units. For those of time and memory less is better.
const (
	PerSecond Unit = "/s"
	Megabytes Unit = "MB/s"
	Millis    Unit = "ms"
	Kilobytes Unit = "kB"
	Resident  Unit = "MB"
)

// lessIsBetter reports whether a small figure is a good one.
func (u Unit) lessIsBetter() bool { return u == Millis || u == Kilobytes || u == Resident }

// A Report is everything that a run has found. Its JSON form is that of
// `rookery bench --json`.
type Report struct {
	Begun    time.Time    `json:"begun"`
	Machine  Machine      `json:"machine"`
	Mail     MailSummary  `json:"mail"`
	Messages int          `json:"messages"` // in the main mailbox
	Rounds   int          `json:"rounds"`
	Seconds  float64      `json:"seconds"` // of one measurement
	Servers  []ServerInfo `json:"servers"`
	Results  []*Result    `json:"results"`
}

// A Machine is where the client ran.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory int64  `json:"memory"` // bytes; 0: not known
	System string `json:"system"`
}

// ServerInfo is what a server says of itself.
type ServerInfo struct {
	Name         string `json:"name"`
	Greeting     string `json:"greeting"`
	Capabilities string `json:"capabilities"`
	ID           string `json:"id,omitempty"` // the answer to ID, RFC 2971
	// Memory is the most that was resident after a measurement, in MB (the sum of
	// the proportional shares of its processes), Peak the most at any time, where
	// the server is one process; 0: not known.
	Memory float64 `json:"memory,omitempty"`
	Peak   float64 `json:"peak,omitempty"`
}

// A Result is that of one workload.
type Result struct {
	Workload string `json:"workload"`
	What     string `json:"what"`
	Unit     Unit   `json:"unit"`
	Sides    []Side `json:"sides"` // in the order of the servers
	// Ratio is how many times better the first server is than the second; 0
	// where it is not known.
	Ratio float64 `json:"ratio,omitempty"`
	// Note says what a reader of the figures must know.
	Note string `json:"note,omitempty"`
}

// A Side is one server's part of a result.
type Side struct {
	Median  float64  `json:"median"`
	Min     float64  `json:"min"`
	Max     float64  `json:"max"`
	Samples []Sample `json:"samples,omitempty"`
	Skipped string   `json:"skipped,omitempty"` // why it did not run
	Error   string   `json:"error,omitempty"`
}

// A Sample is one measurement.
type Sample struct {
	Ops     int64   `json:"ops"`
	Bytes   int64   `json:"bytes,omitempty"`
	Seconds float64 `json:"seconds"`
	// Client and Server are seconds of processor time, of this process and of
	// the server's with its descendants; nil where that is not known.
	Client float64  `json:"client_cpu"`
	Server *float64 `json:"server_cpu,omitempty"`
	// Figure stands in place of what Ops, Bytes and Seconds give, for workloads
	// that measure something else: a latency, memory.
	Figure float64 `json:"figure,omitempty"`
	// Memory is that of the server's processes after the measurement, with its
	// connections still open, in MB: the sum of their proportional shares of what
	// is resident (0: not known).
	Memory float64 `json:"memory,omitempty"`
	// P99 is the 99th percentile beside a Figure that is a median.
	P99 float64 `json:"p99,omitempty"`
	// RSS is the resident memory per connection where Figure is the
	// proportional share, both in kB.
	RSS float64 `json:"rss,omitempty"`
	// Found is how many messages a search has found.
	Found int64 `json:"found,omitempty"`
}

// value returns what the sample counts for, in the unit.
func (s *Sample) value(u Unit) float64 {
	switch {
	case s.Figure != 0:
		return s.Figure
	case u == Millis && s.Ops > 0:
		return s.Seconds * 1000 / float64(s.Ops)
	case u == PerSecond && s.Seconds > 0:
		return float64(s.Ops) / s.Seconds
	case u == Megabytes && s.Seconds > 0:
		return float64(s.Bytes) / 1e6 / s.Seconds
	}
	return 0
}

// finish computes medians and the ratio.
func (r *Result) finish() *Result {
	for i := range r.Sides {
		side := &r.Sides[i]
		values := make([]float64, len(side.Samples))
		for j := range side.Samples {
			values[j] = side.Samples[j].value(r.Unit)
		}
		side.Median, side.Min, side.Max = median(values), quantile(values, 0), quantile(values, 1)
	}
	if len(r.Sides) != 2 || r.Sides[0].Median == 0 || r.Sides[1].Median == 0 {
		return r
	}
	a, b := &r.Sides[0], &r.Sides[1]
	r.Ratio = a.Median / b.Median
	if r.Unit.lessIsBetter() {
		r.Ratio = b.Median / a.Median
	}
	if x, y := a.Samples[0].Found, b.Samples[0].Found; x != y {
		r.Note = "they do not find the same: " + number(float64(x)) + " and " + number(float64(y))
	}
	return r
}

// failed names the workloads that have failed.
func (r *Report) failed() (names []string) {
	for _, res := range r.Results {
		if slices.ContainsFunc(res.Sides, func(s Side) bool { return s.Error != "" }) {
			names = append(names, res.Workload)
		}
	}
	return names
}

// serverCPU returns the median of the server's microseconds per operation, and
// clientShare that of the client's part of the time that passed.
func (s *Side) serverCPU() float64 {
	var v []float64
	for i := range s.Samples {
		if cpu := s.Samples[i].Server; s.Samples[i].Ops > 0 && cpu != nil && *cpu > 0 {
			v = append(v, *cpu*1e6/float64(s.Samples[i].Ops))
		}
	}
	return median(v)
}

// memory returns the greatest of the samples, in MB.
func (s *Side) memory() (most float64) {
	for i := range s.Samples {
		most = max(most, s.Samples[i].Memory)
	}
	return most
}

func (s *Side) clientShare() float64 {
	var v []float64
	for i := range s.Samples {
		if s.Samples[i].Seconds > 0 {
			v = append(v, s.Samples[i].Client/s.Samples[i].Seconds)
		}
	}
	return median(v)
}

func machine() Machine {
	m := Machine{Cores: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		m.CPU = procField(string(b), "model name")
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		m.Memory = kilobytes(procField(string(b), "MemTotal")) * 1024
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.System += ", kernel " + strings.TrimSpace(string(b))
	}
	return m
}

// String returns the result in one line.
func (r *Result) String() string {
	parts := []string{fmt.Sprintf("%-24s", r.Workload)}
	for i := range r.Sides {
		s := &r.Sides[i]
		switch {
		case s.Error != "":
			parts = append(parts, "failed: "+s.Error)
		case s.Skipped != "":
			parts = append(parts, "left out: "+s.Skipped)
		default:
			parts = append(parts, fmt.Sprintf("%10s %-4s", number(s.Median), r.Unit))
		}
	}
	if r.Ratio > 0 {
		parts = append(parts, number(r.Ratio)+" times")
	}
	if r.Note != "" {
		parts = append(parts, "("+r.Note+")")
	}
	return strings.Join(parts, "  ")
}

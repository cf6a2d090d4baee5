package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of times in /proc/PID/stat, USER_HZ, which Linux has
// fixed at a hundredth of a second for programs to see.
const clockTick = 10 * time.Millisecond

// usage is what a process and its descendants have used.
type usage struct {
	cpu       time.Duration
	processes int
	// rss and pss are resident memory in bytes: the sum of it, which counts
	// shared pages for each process, and the sum of proportional shares.
	rss, pss int64
	// peak is the most that has been resident since the start of the process, in
	// bytes, where there is only one; otherwise 0.
	peak int64
}

// processTree reads the processor time of a process and all its descendants.
// Of children that have ended, and been waited for, the parent has the time,
// so the sum never falls. With memory, also their memory, which takes longer.
func processTree(pid int, memory bool) (usage, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		return usage{}, fmt.Errorf("the processor time of process %d is not known: /proc cannot be read", pid)
	}
	all := make(map[int]procStat, len(stats))
	children := make(map[int][]int)
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended meanwhile
		}
		st, err := parseStat(b)
		if err != nil {
			return usage{}, fmt.Errorf("%s: %w", name, err)
		}
		all[st.pid] = st
		children[st.parent] = append(children[st.parent], st.pid)
	}
	if _, ok := all[pid]; !ok {
		return usage{}, fmt.Errorf("there is no process %d", pid)
	}
	var u usage
	for queue := []int{pid}; len(queue) > 0; {
		p := queue[0]
		queue = append(queue[1:], children[p]...)
		u.cpu += all[p].cpu
		u.processes++
		if memory {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p))
			if errors.Is(err, fs.ErrPermission) {
				return usage{}, fmt.Errorf("the memory of process %d: %w (run as its user, or as root)", p, err)
			}
			if err != nil {
				continue // it has ended meanwhile
			}
			u.rss += kilobytes(procField(string(b), "Rss")) * 1024
			u.pss += kilobytes(procField(string(b), "Pss")) * 1024
		}
	}
	if memory && u.processes == 1 {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
			u.peak = kilobytes(procField(string(b), "VmHWM")) * 1024
		}
	}
	return u, nil
}

type procStat struct {
	pid, parent int
	cpu         time.Duration
}

// parseStat reads a /proc/PID/stat. The name of the program may have anything
// in it, brackets and blanks too; after it come only numbers.
func parseStat(b []byte) (procStat, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return procStat{}, fmt.Errorf("unexpected content %.40q", b)
	}
	fields := strings.Fields(string(b[end+1:]))
	if len(fields) < 15 {
		return procStat{}, fmt.Errorf("unexpected content %.40q", b)
	}
	var st procStat
	var err error
	if st.pid, err = strconv.Atoi(strings.TrimSpace(string(b[:open]))); err != nil {
		return procStat{}, err
	}
	if st.parent, err = strconv.Atoi(fields[1]); err != nil {
		return procStat{}, err
	}
	for _, f := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return procStat{}, err
		}
		st.cpu += time.Duration(n) * clockTick
	}
	return st, nil
}

// procField returns what stands after "name:" at the beginning of a line, in
// the first such line.
func procField(s, name string) string {
	for line := range strings.Lines(s) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// kilobytes reads "123 kB".
func kilobytes(s string) int64 {
	n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(s, "kB")), 10, 64)
	return n
}

package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// progress shows how an import goes on: a bar on a terminal, elsewhere a line
// now and then.
type progress struct {
	out   *os.File
	unit  string
	bar   bool
	drawn bool
	begun time.Time
	last  time.Time
}

// How often a bar moves and a line is written.
const (
	barEvery  = 100 * time.Millisecond
	lineEvery = 10 * time.Second
)

func newProgress(out *os.File, unit string) *progress {
	now := time.Now()
	return &progress{out: out, unit: unit, bar: term.IsTerminal(int(out.Fd())), begun: now, last: now}
}

// Progress implements mailimport.Reporter.
func (p *progress) Progress(done, total int64) {
	now := time.Now()
	every := lineEvery
	if p.bar {
		every = barEvery
	}
	if now.Sub(p.last) < every || total == 0 {
		return
	}
	p.last = now
	part := float64(done) / float64(total)
	what := fmt.Sprintf("%d of %d %s", done, total, p.unit)
	if p.unit == "bytes" {
		what = size(done) + " of " + size(total)
	}
	left := ""
	if part > 0.01 {
		rest := time.Duration(float64(now.Sub(p.begun)) * (1 - part) / part)
		left = fmt.Sprintf(", %s left", rest.Round(time.Second))
	}
	if !p.bar {
		fmt.Fprintf(p.out, "%3.0f%% (%s%s)\n", part*100, what, left)
		return
	}
	const width = 30
	filled := min(int(part*width), width)
	fmt.Fprintf(p.out, "\r\x1b[K[%s%s] %3.0f%% %s%s", strings.Repeat("#", filled), strings.Repeat(".", width-filled), part*100, what, left)
	p.drawn = true
}

// Note implements mailimport.Reporter.
func (p *progress) Note(text string) {
	p.finish()
	fmt.Fprintln(p.out, text)
}

// finish takes the bar away.
func (p *progress) finish() {
	if p.drawn {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.drawn = false
	}
}

// Command summary reads what `go test -json` prints and shows what a person
// wants to see of it: a line for each package, everything about tests that
// failed, and the reasons of those that were left out. Lines that are not JSON
// pass through. It writes "passed failed skipped", the numbers of tests with
// their subtests, to the file that it is given.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// event is a line of go test -json (see `go doc test2json`).
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

type summary struct {
	passed, failed, skipped int
	output                  map[string]*strings.Builder // by package and test
	broken                  map[string]bool             // packages with a failed test
}

func main() {
	s := summary{output: map[string]*strings.Builder{}, broken: map[string]bool{}}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Action == "" {
			fmt.Println(lines.Text())
			continue
		}
		s.event(e)
	}
	counts := fmt.Sprintln(s.passed, s.failed, s.skipped)
	if err := os.WriteFile(os.Args[1], []byte(counts), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (s *summary) event(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Print(e.Output)
	case "output":
		if s.output[key] == nil {
			s.output[key] = &strings.Builder{}
		}
		if !strings.HasPrefix(e.Output, "=== ") {
			s.output[key].WriteString(e.Output)
		}
	case "pass", "fail", "skip":
		text := ""
		if b := s.output[key]; b != nil {
			text = b.String()
		}
		delete(s.output, key)
		if e.Test == "" {
			s.endPackage(e, text)
		} else {
			s.endTest(e, text)
		}
	}
}

func (s *summary) endTest(e event, text string) {
	switch e.Action {
	case "pass":
		s.passed++
	case "fail":
		s.failed++
		s.broken[e.Package] = true
		fmt.Print(text)
	case "skip":
		s.skipped++
		if !strings.Contains(e.Test, "/") {
			reason, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
			fmt.Printf("left out: %s (%s)\n", e.Test, reason)
		}
	}
}

func (s *summary) endPackage(e event, text string) {
	switch e.Action {
	case "pass":
		fmt.Printf("ok    %s (%.1f s)\n", e.Package, e.Elapsed)
	case "fail":
		if !s.broken[e.Package] { // it was not built, or panicked, or took too long
			s.failed++
			for key, b := range s.output {
				if strings.HasPrefix(key, e.Package+" ") {
					fmt.Print(b.String())
				}
			}
		}
		fmt.Print(text)
		fmt.Printf("FAIL  %s (%.1f s)\n", e.Package, e.Elapsed)
	}
}

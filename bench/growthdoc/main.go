// Command growthdoc shows how cost grows: of results of `rookery bench --grow
// --json` it draws a figure for each kind of growth, docs/growth-KIND.svg with a
// plot for each workload, and rewrites what stands between the lines
// <!-- growth --> and <!-- end of growth --> of docs/benchmarks.md. It is run by
// bench/growth.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rookery-mail/rookery/internal/bench"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "growthdoc:", err)
		os.Exit(1)
	}
}

func run() error {
	doc := flag.String("doc", "docs/benchmarks.md", "the `file` to rewrite; figures go beside it")
	version := flag.String("version", "", "what was measured, in `words`")
	flag.Parse()
	var b strings.Builder
	for i, name := range flag.Args() {
		g, err := load(name)
		if err != nil {
			return err
		}
		if i == 0 {
			m := g.Machine
			fmt.Fprintf(&b, "\nMeasured on %s: %s, %d processors, %.0f GB of memory, %s; %s.\n",
				g.Begun.Format("2006-01-02"), m.CPU, m.Cores, float64(m.Memory)/1e9, m.System, *version)
		}
		figure := "growth-" + g.By + ".svg"
		if err := os.WriteFile(filepath.Join(filepath.Dir(*doc), figure), []byte(draw(g)), 0o644); err != nil {
			return err
		}
		fmt.Fprintf(&b, "\n### %s\n\n![%s](%s)\n\n%s\n", title(g), title(g), figure, g.Table(true))
	}
	return bench.Rewrite(*doc, "growth", b.String())
}

func load(name string) (*bench.Growth, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var g bench.Growth
	if err := json.Unmarshal(data, &g); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &g, nil
}

// title is what grows, as a heading.
func title(g *bench.Growth) string { return strings.ToUpper(g.What[:1]) + g.What[1:] }

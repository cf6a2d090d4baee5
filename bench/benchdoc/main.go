// Command benchdoc rewrites the tables of docs/benchmarks.md from results of
// `rookery bench --json`: what stands between the lines <!-- tables --> and
// <!-- end of tables -->, or two such lines with another name. Everything else in
// the file stays. It is run by bench/peers.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/rookery-mail/rookery/internal/bench"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "benchdoc:", err)
		os.Exit(1)
	}
}

func run() error {
	doc := flag.String("doc", "docs/benchmarks.md", "the `file` to rewrite")
	into := flag.String("into", "tables", "the `name` in the lines between which the tables go")
	var versions []string
	flag.Func("version", "a server's version, `text` for the list above the tables; may be given several times", func(s string) error {
		versions = append(versions, s)
		return nil
	})
	flag.Parse()
	var b strings.Builder
	for i, name := range flag.Args() {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		var r bench.Report
		if err := json.Unmarshal(data, &r); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if i == 0 {
			b.WriteString(preface(&r, versions))
		}
		b.WriteString(section(&r))
	}
	return bench.Rewrite(*doc, *into, b.String())
}

func preface(r *bench.Report, versions []string) string {
	m := r.Machine
	s := fmt.Sprintf("\nMeasured on %s: %s, %d processors, %.0f GB of memory, %s. Mail: %s; %d distinct messages, mean %.0f bytes, median %.0f, largest %.0f.\n\n",
		r.Begun.Format("2006-01-02"), m.CPU, m.Cores, float64(m.Memory)/1e9, m.System,
		r.Mail.Source, r.Mail.Distinct, r.Mail.Mean, r.Mail.Median, r.Mail.Largest)
	for _, v := range versions {
		s += "- " + v + "\n"
	}
	return s
}

func section(r *bench.Report) string {
	var names []string
	for _, s := range r.Servers {
		names = append(names, s.Name)
	}
	return fmt.Sprintf("\n### %s\n\n%d messages in the mailbox, median of %d rounds of %g s.\n\n%s\n",
		strings.Join(names, " and "), r.Messages, r.Rounds, r.Seconds, r.Table(true))
}

package bench

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Table writes the results for people: as a table of text, or of Markdown, and a
// second one of what TLS costs.
func (r *Report) Table(markdown bool) string {
	memory := slices.ContainsFunc(r.Results, func(res *Result) bool {
		return slices.ContainsFunc(res.Sides, func(s Side) bool { return s.memory() > 0 })
	})
	rows := [][]string{r.header(memory)}
	for _, res := range r.Results {
		rows = append(rows, res.row(memory))
	}
	write := writeText
	if markdown {
		write = writeMarkdown
	}
	var b strings.Builder
	write(&b, rows)
	if rows := r.tlsRows(); rows != nil {
		b.WriteByte('\n')
		write(&b, rows)
	}
	for _, note := range r.notes() {
		if markdown {
			b.WriteString("\n- " + note)
		} else {
			b.WriteString("\n" + note)
		}
	}
	if len(r.notes()) > 0 {
		b.WriteByte('\n')
	}
	return b.String()
}

func (r *Report) header(memory bool) []string {
	h := []string{"workload", "unit"}
	for _, s := range r.Servers {
		h = append(h, s.Name, "µs CPU/op")
		if memory {
			h = append(h, "MB")
		}
	}
	if len(r.Servers) == 2 {
		h = append(h, "ratio")
	}
	return append(h, "client")
}

func (r *Result) row(memory bool) []string {
	row := []string{r.Workload, string(r.Unit)}
	client := 0.0
	for i := range r.Sides {
		s := &r.Sides[i]
		value := number(s.Median)
		switch {
		case s.Error != "":
			value = "failed"
		case s.Skipped != "":
			value = "-"
		}
		row = append(row, value, number(s.serverCPU()))
		if memory {
			row = append(row, number(s.memory()))
		}
		client = max(client, s.clientShare())
	}
	if len(r.Sides) == 2 {
		ratio := ""
		if r.Ratio > 0 {
			ratio = number(r.Ratio)
		}
		row = append(row, ratio)
	}
	if client == 0 {
		return append(row, "")
	}
	return append(row, fmt.Sprintf("%.0f %%", client*100))
}

// notes are the lines under the table: percentiles, memory, what was found,
// what failed or was left out and why.
func (r *Report) notes() []string {
	var notes []string
	for _, res := range r.Results {
		if res.Note != "" {
			notes = append(notes, res.Workload+": "+res.Note)
		}
		for i := range res.Sides {
			s := &res.Sides[i]
			what := res.Workload + ", " + r.Servers[i].Name + ": "
			switch {
			case s.Error != "":
				notes = append(notes, what+"failed: "+s.Error)
			case s.Skipped != "":
				notes = append(notes, what+"left out: "+s.Skipped)
			case len(s.Samples) > 0 && s.Samples[0].P99 > 0:
				notes = append(notes, what+"99th percentile "+number(s.p99())+" ms")
			case len(s.Samples) > 0 && s.Samples[0].RSS > 0:
				notes = append(notes, what+s.Samples[0].idleness())
			}
		}
	}
	for _, s := range r.Servers {
		switch {
		case s.Peak > 0:
			notes = append(notes, fmt.Sprintf("%s: %s MB of resident memory at most, %s after a measurement", s.Name, number(s.Peak), number(s.Memory)))
		case s.Memory > 0:
			notes = append(notes, fmt.Sprintf("%s: %s MB of resident memory at most after a measurement", s.Name, number(s.Memory)))
		}
	}
	return notes
}

// p99 is the median of the rounds' 99th percentiles, as the figure is of their medians.
func (s *Side) p99() float64 {
	values := make([]float64, len(s.Samples))
	for i := range s.Samples {
		values[i] = s.Samples[i].P99
	}
	return median(values)
}

// idleness says what idle connections cost beside their memory.
func (s *Sample) idleness() string {
	text := number(s.RSS) + " kB of resident memory"
	if s.Server != nil {
		text += fmt.Sprintf("; %.2f s of processor time in %.0f s of idleness of %d connections", *s.Server, s.Seconds, s.Ops)
	}
	return text
}

// number writes three digits or all before the point, with blanks between the
// thousands.
func number(f float64) string {
	switch {
	case f == 0:
		return ""
	case math.Abs(f) < 0.001:
		return "0.00"
	}
	digits := 2 - int(math.Floor(math.Log10(math.Abs(f))))
	s := strconv.FormatFloat(f, 'f', max(digits, 0), 64)
	whole, rest, _ := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0 && len(whole) > 4 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + " " + whole[i:]
	}
	if rest != "" {
		return whole + "." + rest
	}
	return whole
}

// writeText aligns columns: the first two to the left, figures to the right.
func writeText(b *strings.Builder, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i < 2 {
				line.WriteString(cell + pad + "  ")
			} else {
				line.WriteString(pad + cell + "  ")
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}

func writeMarkdown(b *strings.Builder, rows [][]string) {
	for i, row := range rows {
		for j := range row {
			row[j] = strings.ReplaceAll(row[j], "|", `\|`)
		}
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i == 0 {
			b.WriteString("|---|---" + strings.Repeat("|--:", len(row)-2) + "|\n")
		}
	}
}

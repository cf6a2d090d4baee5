package main

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"

	"github.com/rookery-mail/rookery/internal/bench"
)

// The measures of a figure, in its units.
const (
	columns            = 3
	cellWidth          = 300
	cellHeight         = 190
	left, right        = 62, 14 // of a plot in its cell
	top, bottom        = 42, 28
	plotWidth          = cellWidth - left - right
	plotHeight         = cellHeight - top - bottom
	flatColour, colour = "#1f6fb2", "#b2571f"
)

// draw makes a figure of all curves, a plot for each, with both axes
// logarithmic: a cost that does not depend on the size is a level line.
func draw(g *bench.Growth) string {
	var plots []*bench.Curve
	for _, c := range g.Curves {
		if len(points(c)) > 0 {
			plots = append(plots, c)
		}
	}
	rows := (len(plots) + columns - 1) / columns
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n",
		columns*cellWidth, rows*cellHeight+26)
	b.WriteString(`<rect width="100%" height="100%" fill="white"/>` + "\n")
	for i, c := range plots {
		fmt.Fprintf(&b, `<g transform="translate(%d,%d)">`+"\n", i%columns*cellWidth, i/columns*cellHeight)
		plot(&b, g, c)
		b.WriteString("</g>\n")
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d">across: %s; <tspan fill="%s">blue: should not grow</tspan>; <tspan fill="%s">brown: may</tspan></text>`+"\n</svg>\n",
		left, rows*cellHeight+16, html.EscapeString(g.What), flatColour, colour)
	return b.String()
}

func points(c *bench.Curve) []bench.Point {
	var ps []bench.Point
	for _, p := range c.Points {
		if p.Error == "" && p.Median > 0 {
			ps = append(ps, p)
		}
	}
	return ps
}

// axis maps logarithms of values to places.
type axis struct {
	low, high float64 // decades
	from, to  float64
}

func (a axis) at(v float64) float64 {
	return a.from + (math.Log10(v)-a.low)/(a.high-a.low)*(a.to-a.from)
}

func plot(b *strings.Builder, g *bench.Growth, c *bench.Curve) {
	ps := points(c)
	low, high := math.Inf(1), math.Inf(-1)
	for _, p := range ps {
		low, high = min(low, math.Log10(p.Median)), max(high, math.Log10(p.Median))
	}
	low, high = math.Floor(low), math.Ceil(high)
	for high-low < 2 { // so that noise does not look like growth
		low, high = low-0.5, high+0.5
	}
	low, high = math.Floor(low), math.Ceil(high)
	y := axis{low, high, top + plotHeight, top}
	x := axis{math.Log10(float64(g.Sizes[0])), math.Log10(float64(g.Sizes[len(g.Sizes)-1])), left, left + plotWidth}
	if x.low == x.high {
		x.high++
	}
	fmt.Fprintf(b, `<text x="8" y="16" font-weight="bold">%s</text><text x="8" y="31" fill="#555">%s</text>`+"\n",
		html.EscapeString(c.Workload+", "+string(c.Unit)), html.EscapeString(shorten(c.What, 48)))
	for d := low; d <= high; d++ {
		v := math.Pow(10, d)
		fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end" fill="#555">%s</text>`+"\n",
			left, left+plotWidth, y.at(v), y.at(v), left-5, y.at(v)+4, short(v))
	}
	for _, n := range g.Sizes {
		fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle" fill="#555">%s</text>`+"\n",
			x.at(float64(n)), x.at(float64(n)), top, top+plotHeight, x.at(float64(n)), top+plotHeight+15, short(float64(n)))
	}
	stroke := colour
	if c.Flat {
		stroke = flatColour
	}
	var line strings.Builder
	for _, p := range ps {
		px, py := x.at(float64(p.N)), y.at(p.Median)
		fmt.Fprintf(&line, "%.1f,%.1f ", px, py)
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", px, py, stroke)
	}
	fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", strings.TrimSpace(line.String()), stroke)
}

// short writes a number with k or M.
func short(v float64) string {
	for _, unit := range []struct {
		by   float64
		name string
	}{{1e6, "M"}, {1e3, "k"}} {
		if v >= unit.by*0.999 {
			return strconv.FormatFloat(v/unit.by, 'g', 4, 64) + unit.name
		}
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

func shorten(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

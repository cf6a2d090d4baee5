package bench

import "strings"

// overTLS ends the names of the workloads that run over TLS.
const overTLS = "+tls"

// tlsRows is a table of what TLS costs: for each workload that was measured with
// and without it the figure over TLS and, behind it, how many times better the
// figure without is; at the end the ratio of the servers without TLS and with it.
// It is nil where nothing was measured both ways.
func (r *Report) tlsRows() [][]string {
	plain := make(map[string]*Result)
	for _, res := range r.Results {
		plain[res.Workload] = res
	}
	header := []string{"over TLS", "unit"}
	for _, s := range r.Servers {
		header = append(header, s.Name, "cost of TLS")
	}
	if len(r.Servers) == 2 {
		header = append(header, "ratio without TLS", "ratio with TLS")
	}
	rows := [][]string{header}
	for _, res := range r.Results {
		name, ok := strings.CutSuffix(res.Workload, overTLS)
		if without := plain[name]; ok && without != nil {
			rows = append(rows, res.tlsRow(without))
		}
	}
	if len(rows) == 1 {
		return nil
	}
	return rows
}

func (r *Result) tlsRow(without *Result) []string {
	row := []string{without.Workload, string(r.Unit)}
	for i := range r.Sides {
		with, without := r.Sides[i].Median, without.Sides[i].Median
		cost := ""
		switch {
		case with == 0 || without == 0:
		case r.Unit.lessIsBetter():
			cost = "× " + number(with/without)
		default:
			cost = "× " + number(without/with)
		}
		row = append(row, number(with), cost)
	}
	if len(r.Sides) == 2 {
		row = append(row, number(without.Ratio), number(r.Ratio))
	}
	return row
}

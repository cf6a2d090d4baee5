package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/rookery-mail/rookery/internal/admin"
)

// findings prints what a check or a repair finds: each line where there are few of
// them, and otherwise first how many hit which mailbox and which file of messages, for
// a store that has lost a file of messages has a hundred thousand of them.
type findings struct {
	out     io.Writer
	verbose bool // each line, as it comes

	total    int
	first    []string
	hit      map[admin.Defect]*hits // by account and mailbox, or by file
	segments map[string]int
	err      error
}

// hits are the defects of one mailbox or file.
type hits struct {
	count       int
	first, last uint32 // UIDs
	text        string // of the first
}

// Bounds of what is printed.
const (
	fullLines = 50   // as many are printed each
	sumLines  = 1000 // as many mailboxes and files are told apart
)

func (f *findings) add(prefix string, d admin.Defect) {
	f.total++
	line := prefix + d.String()
	if f.verbose {
		f.print("%s\n", line)
		return
	}
	if len(f.first) < fullLines {
		f.first = append(f.first, line)
	}
	if f.hit == nil {
		f.hit, f.segments = make(map[admin.Defect]*hits), make(map[string]int)
	}
	what := admin.Defect{Account: d.Account, Mailbox: d.Mailbox, File: d.File, Text: prefix}
	h := f.hit[what]
	if h == nil {
		if len(f.hit) >= sumLines {
			what = admin.Defect{Text: prefix}
		}
		if h = f.hit[what]; h == nil {
			h = &hits{first: d.UID, text: d.Text}
			f.hit[what] = h
		}
	}
	h.count++
	h.first, h.last = min(h.first, d.UID), max(h.last, d.UID)
	if d.Segment != "" {
		f.segments[d.Segment]++
	}
}

func (f *findings) print(format string, args ...any) {
	if _, err := fmt.Fprintf(f.out, format, args...); err != nil {
		f.err = err
	}
}

// flush prints what add has kept. all says where all lines are to be had.
func (f *findings) flush(all string) error {
	if f.total > fullLines && !f.verbose {
		f.sums()
		f.print("the first %d of %d in full (%s):\n", fullLines, f.total, all)
	}
	for _, line := range f.first {
		f.print("%s\n", line)
	}
	f.total, f.first, f.hit, f.segments = 0, nil, nil, nil
	return f.err
}

func (f *findings) sums() {
	for _, name := range slices.Sorted(maps.Keys(f.segments)) {
		f.print("file of messages %s: %s of it damaged or lost\n", name, count(f.segments[name], "message"))
	}
	order := func(x, y admin.Defect) int {
		return cmp.Or(cmp.Compare(x.Text, y.Text), cmp.Compare(x.File, y.File), cmp.Compare(x.Account, y.Account), cmp.Compare(x.Mailbox, y.Mailbox))
	}
	for _, what := range slices.SortedFunc(maps.Keys(f.hit), order) {
		h := f.hit[what]
		if h.count == 1 {
			what.UID = h.first
			prefix := what.Text
			what.Text = h.text
			f.print("%s%s\n", prefix, what)
			continue
		}
		prefix := what.Text
		what.Text = fmt.Sprintf("%d times", h.count)
		if what.Account == "" && what.File == "" {
			what.Text = fmt.Sprintf("%d times elsewhere", h.count)
		}
		if h.last > 0 {
			what.Text += fmt.Sprintf(", UIDs from %d to %d", max(h.first, 1), h.last)
		}
		f.print("%s%s, first: %s\n", prefix, what, h.text)
	}
}

package bench

import (
	"bytes"
	"fmt"
)

func searching() []*workload {
	search := func(name, what string, criteria func(*Mail) string) *workload {
		return &workload{name: name, what: what, unit: Millis, before: openMain,
			run: func(e *env) (Sample, error) { return searchFor(e, "SEARCH "+criteria(e.cfg.Mail)) }}
	}
	heavy := func(w *workload) *workload { w.heavy = true; return w }
	key := func(name string, word func(*Mail) string) func(*Mail) string {
		return func(m *Mail) string { return name + " " + quote(word(m)) }
	}
	rare := func(m *Mail) string { return m.rare }
	part := func(m *Mail) string { return m.rare[:max(len(m.rare)-2, min(3, len(m.rare)))] }
	common := func(m *Mail) string { return m.common }
	nothing := func(*Mail) string { return absent }
	sorted := func(name, what, capability, command string) *workload {
		return &workload{name: name, what: what, unit: Millis, cap: capability, before: openMain,
			run: func(e *env) (Sample, error) { return searchFor(e, command) }}
	}
	return []*workload{
		search("search-from", "SEARCH FROM", key("FROM", func(m *Mail) string { return m.fromWord })),
		search("search-subject", "SEARCH SUBJECT", key("SUBJECT", func(m *Mail) string { return m.subjectWord })),
		search("search-unseen", "SEARCH UNSEEN, all found", func(*Mail) string { return "UNSEEN" }),
		heavy(search("search-body-rare", "SEARCH BODY, a rare word", key("BODY", rare))),
		heavy(search("search-body-part", "SEARCH BODY, a part of a rare word", key("BODY", part))),
		heavy(search("search-body-absent", "SEARCH BODY, a word that is nowhere", key("BODY", nothing))),
		heavy(search("search-body-most", "SEARCH BODY, a word of most messages", key("BODY", common))),
		heavy(search("search-text-rare", "SEARCH TEXT, a rare word", key("TEXT", rare))),
		heavy(search("search-text-absent", "SEARCH TEXT, a word that is nowhere", key("TEXT", nothing))),
		heavy(search("search-text-most", "SEARCH TEXT, a word of most messages", key("TEXT", common))),
		sorted("sort-date", "SORT (DATE)", "SORT", "SORT (DATE) UTF-8 ALL"),
		sorted("sort-subject", "SORT (SUBJECT)", "SORT", "SORT (SUBJECT) UTF-8 ALL"),
		sorted("sort-from", "SORT (FROM)", "SORT", "SORT (FROM) UTF-8 ALL"),
		sorted("thread", "THREAD REFERENCES", "THREAD=REFERENCES", "THREAD REFERENCES UTF-8 ALL"),
	}
}

// searchFor measures a command that answers with a line of numbers, and counts
// them.
func searchFor(e *env, command string) (Sample, error) {
	var found int64
	s, err := e.repeat(func() (int64, int64, error) {
		found = 0
		_, err := e.c.collect(command, func(line []byte) {
			for _, name := range [...]string{"* SEARCH", "* SORT", "* THREAD"} {
				if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
					found += numbers(rest)
				}
			}
		})
		return 1, 0, err
	})
	s.Found = found
	return s, err
}

// numbers counts runs of digits.
func numbers(line []byte) (n int64) {
	inside := false
	for _, b := range line {
		digit := b-'0' < 10
		if digit && !inside {
			n++
		}
		inside = digit
	}
	return n
}

func moving() []*workload {
	return []*workload{
		{name: "copy", what: "COPY 1:*", unit: PerSecond, heavy: true,
			before: func(e *env) (err error) {
				if e.box, err = e.create(); err != nil {
					return err
				}
				return openMain(e)
			},
			run: func(e *env) (Sample, error) {
				return e.timed(func() (int64, int64, error) {
					_, err := e.c.do("COPY 1:* " + e.box)
					return int64(e.cfg.Messages), 0, err
				})
			}},
		{name: "move", what: "MOVE of half", unit: PerSecond, heavy: true, cap: "MOVE",
			before: func(e *env) error {
				if err := openCopy(e); err != nil {
					return err
				}
				var err error
				e.box, err = e.create()
				return err
			},
			run: func(e *env) (Sample, error) {
				half := max(e.cfg.Messages/2, 1)
				return e.timed(func() (int64, int64, error) {
					return int64(half), 0, e.c.expect(fmt.Sprintf("MOVE 1:%d %s", half, e.box), half)
				})
			}},
		{name: "expunge", what: "EXPUNGE of half", unit: PerSecond, heavy: true,
			before: func(e *env) error {
				if err := openCopy(e); err != nil {
					return err
				}
				_, err := e.c.do(fmt.Sprintf(`STORE 1:%d +FLAGS.SILENT (\Deleted)`, max(e.cfg.Messages/2, 1)))
				return err
			},
			run: func(e *env) (Sample, error) {
				half := max(e.cfg.Messages/2, 1)
				return e.timed(func() (int64, int64, error) { return int64(half), 0, e.c.expect("EXPUNGE", half) })
			}},
	}
}

// openCopy copies the main mailbox to a new one and selects that.
func openCopy(e *env) error {
	box, err := e.create()
	if err != nil {
		return err
	}
	if err := openMain(e); err != nil {
		return err
	}
	if _, err := e.c.do("COPY 1:* " + box); err != nil {
		return err
	}
	_, err = e.c.do("SELECT " + box)
	return err
}

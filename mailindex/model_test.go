package mailindex_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
)

// modelRow is a row as the naive model keeps it: flags by name.
type modelRow struct {
	mailindex.Row
	flags []imap.Flag
}

// model is a mailbox as a plain slice.
type model struct {
	rows []modelRow
	next imap.UID
	mod  imap.ModSeq
}

func flagNames(set *mailindex.FlagSet) []imap.Flag {
	list := set.List()
	slices.Sort(list)
	return list
}

// draw returns what the snapshot shows, with flags by name and ids cleared.
func draw(s *mailindex.Snapshot) []modelRow {
	rows := []modelRow{}
	for _, r := range s.Rows() {
		names := flagNames(s.Flags(r.Flags))
		r.Flags = 0
		rows = append(rows, modelRow{r, names})
	}
	return rows
}

func (m *model) clone() *model {
	c := *m
	c.rows = slices.Clone(m.rows)
	return &c
}

func (m *model) drawn() []modelRow {
	rows := []modelRow{}
	for _, r := range m.rows {
		r.Flags = 0
		r.flags = slices.Clone(r.flags)
		slices.Sort(r.flags)
		rows = append(rows, r)
	}
	return rows
}

var allFlags = []imap.Flag{imap.FlagSeen, imap.FlagDeleted, imap.FlagFlagged, "kw1", "kw2", "$Label"}

func genFlags(t *rapid.T) []imap.Flag {
	mask := rapid.IntRange(0, 1<<len(allFlags)-1).Draw(t, "flags")
	var flags []imap.Flag
	for i, f := range allFlags {
		if mask&(1<<i) != 0 {
			flags = append(flags, f)
		}
	}
	return flags
}

// change applies one random edit to both.
func change(t *rapid.T, m *model, s *mailindex.Snapshot) *mailindex.Snapshot {
	e := s.Edit()
	m.mod++
	gone := map[int]bool{}
	for range rapid.IntRange(1, 4).Draw(t, "steps") {
		switch rapid.IntRange(0, 3).Draw(t, "step") {
		case 0, 1:
			few := rapid.IntRange(1, 5)
			if rapid.IntRange(0, 9).Draw(t, "many") == 0 {
				few = rapid.IntRange(1, 1500)
			}
			for range few.Draw(t, "rows") {
				m.next += imap.UID(rapid.SampledFrom([]int{1, 1, 1, 3}).Draw(t, "gap"))
				flags := genFlags(t)
				row := mailindex.Row{UID: m.next, ModSeq: m.mod, Size: uint32(m.next % 7), Date: imap.Time(m.next) * 3, SaveDate: int64(m.next), Msg: uint64(m.next) * 5}
				row.Flags = e.Intern(flags)
				e.Append(row)
				m.rows = append(m.rows, modelRow{row, flags})
			}
		case 2:
			if len(m.rows) == 0 {
				continue
			}
			i := rapid.IntRange(0, len(m.rows)-1).Draw(t, "at")
			n := min(rapid.SampledFrom([]int{1, 1, 2, 40, 600}).Draw(t, "n"), len(m.rows)-i)
			flags := genFlags(t)
			e.SetFlagsRun(i, n, e.Intern(flags), m.mod)
			for ; n > 0; i, n = i+1, n-1 {
				if !gone[i] {
					m.rows[i].flags, m.rows[i].ModSeq = flags, m.mod
				}
			}
		case 3:
			if len(m.rows) == 0 {
				continue
			}
			from := rapid.IntRange(0, len(m.rows)-1).Draw(t, "from")
			n := rapid.SampledFrom([]int{1, 1, 2, 40, 600}).Draw(t, "n")
			for i := from; i < min(from+n, len(m.rows)); i++ {
				e.Remove(i)
				gone[i] = true
			}
		}
	}
	var kept []modelRow
	for i, r := range m.rows {
		if !gone[i] {
			kept = append(kept, r)
		}
	}
	m.rows = kept
	e.Meta().HighestModSeq = m.mod
	return e.Commit()
}

func checkSame(t *rapid.T, m *model, s *mailindex.Snapshot) {
	if d := cmp.Diff(m.drawn(), draw(s), cmp.AllowUnexported(modelRow{}), cmpEmpty); d != "" {
		t.Fatalf("rows differ:\n%s", d)
	}
	unseen, deleted, firstUnseen := 0, 0, -1
	var size, delSize int64
	for i, r := range m.rows {
		size += int64(r.Size)
		if !slices.Contains(r.flags, imap.FlagSeen) {
			unseen++
			if firstUnseen < 0 {
				firstUnseen = i
			}
		}
		if slices.Contains(r.flags, imap.FlagDeleted) {
			deleted++
			delSize += int64(r.Size)
		}
		if got, ok := s.Find(r.UID); !ok || got != i {
			t.Fatalf("Find(%d) = %d, %v; want %d", r.UID, got, ok, i)
		}
		if s.UID(i) != r.UID || s.ModSeq(i) != r.ModSeq || s.FlagsID(i) != s.Row(i).Flags {
			t.Fatalf("accessors of row %d disagree", i)
		}
	}
	if got, ok := s.FirstUnseen(); ok != (firstUnseen >= 0) || ok && got != firstUnseen {
		t.Fatalf("FirstUnseen = %d, %v; want %d", got, ok, firstUnseen)
	}
	if s.Unseen() != unseen || s.Deleted() != deleted || s.Size() != size || s.DeletedSize() != delSize {
		t.Fatalf("counters %d %d %d %d, want %d %d %d %d", s.Unseen(), s.Deleted(), s.Size(), s.DeletedSize(), unseen, deleted, size, delSize)
	}
	counted, paged := 0, 0
	for id := range s.FlagSets() {
		counted += s.FlagCount(mailindex.FlagsID(id))
	}
	for p := range s.Pages() {
		if p.First != paged {
			t.Fatalf("page begins at %d, want %d", p.First, paged)
		}
		paged += p.Len()
	}
	if counted != len(m.rows) || paged != len(m.rows) {
		t.Fatalf("combinations count %d rows, pages %d, want %d", counted, paged, len(m.rows))
	}
	since := imap.ModSeq(rapid.IntRange(0, int(m.mod)).Draw(t, "since"))
	changed := map[imap.UID]bool{}
	for p := range s.ChangedPages(since) {
		for _, uid := range p.UIDs {
			changed[uid] = true
		}
	}
	for _, r := range m.rows {
		if r.ModSeq > since && !changed[r.UID] {
			t.Fatalf("ChangedPages(%d) misses UID %d", since, r.UID)
		}
	}
}

var cmpEmpty = cmp.Transformer("empty", func(f []imap.Flag) []string {
	out := []string{}
	for _, x := range f {
		out = append(out, string(x))
	}
	return out
})

// checkCompare compares the differences of two snapshots with the model's.
func checkCompare(t *rapid.T, om, nm *model, os, ns *mailindex.Snapshot) {
	newRows := map[imap.UID]modelRow{}
	for _, r := range nm.rows {
		newRows[r.UID] = r
	}
	var last imap.UID
	oldRows := map[imap.UID]modelRow{}
	var vanished []int
	for i, r := range om.rows {
		oldRows[r.UID], last = r, r.UID
		if _, ok := newRows[r.UID]; !ok {
			vanished = append(vanished, i)
		}
	}
	var changed []int
	added := len(nm.rows)
	for i, r := range nm.rows {
		if o, ok := oldRows[r.UID]; ok && o.ModSeq != r.ModSeq {
			changed = append(changed, i)
		}
		if r.UID > last {
			added = min(added, i)
		}
	}
	c := mailindex.Compare(os, ns)
	if !slices.Equal(c.Vanished, vanished) || !slices.Equal(c.Changed, changed) || c.Added != added {
		t.Fatalf("Compare = %+v, want vanished %v, changed %v, added %d", c, vanished, changed, added)
	}
	for _, i := range vanished {
		if !c.VanishedUIDs.Contains(om.rows[i].UID) {
			t.Fatalf("VanishedUIDs lacks %d", om.rows[i].UID)
		}
	}
	// With ghosts nothing vanishes, and everything else is as in the new one.
	gm := &model{mod: nm.mod}
	i := 0
	for _, r := range nm.rows {
		for ; i < len(om.rows) && om.rows[i].UID <= r.UID; i++ {
			if om.rows[i].UID < r.UID {
				gm.rows = append(gm.rows, om.rows[i])
			}
		}
		gm.rows = append(gm.rows, r)
	}
	gm.rows = append(gm.rows, om.rows[i:]...)
	gs := mailindex.WithGhosts(os, ns)
	checkSame(t, gm, gs)
	if gs.UIDNext() != ns.UIDNext() || gs.HighestModSeq() != ns.HighestModSeq() {
		t.Fatal("ghosts change UIDNEXT or HIGHESTMODSEQ")
	}
	if d := mailindex.Compare(os, gs); len(d.Vanished) > 0 {
		t.Fatalf("%v vanish from the view with ghosts", d.Vanished)
	}
	if d := mailindex.Compare(gs, ns); len(d.Changed) > 0 || d.Added != len(nm.rows) {
		t.Fatalf("view with ghosts and latest differ in more than ghosts: %+v", d)
	}
	if len(vanished) == 0 && gs != ns {
		t.Fatal("WithGhosts makes a new snapshot where nothing is gone")
	}
}

func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{}
		s := mailindex.New(mailindex.Meta{UIDValidity: 1}, nil)
		type state struct {
			m *model
			s *mailindex.Snapshot
		}
		states := []state{{m.clone(), s}}
		for range rapid.IntRange(1, 8).Draw(t, "edits") {
			// An editor that is dropped must leave no trace.
			if rapid.Bool().Draw(t, "dropped") {
				change(t, m.clone(), s)
			}
			s = change(t, m, s)
			states = append(states, state{m.clone(), s})
		}
		for _, st := range states {
			checkSame(t, st.m, st.s)
		}
		i := rapid.IntRange(0, len(states)-1).Draw(t, "old")
		j := rapid.IntRange(i, len(states)-1).Draw(t, "new")
		checkCompare(t, states[i].m, states[j].m, states[i].s, states[j].s)
	})
}

func TestHistoryAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(0, 6).Draw(t, "limit")
		h := mailindex.NewHistory(3, limit)
		type entry struct {
			modseq imap.ModSeq
			uid    imap.UID
		}
		var all []entry
		modseq := imap.ModSeq(3)
		for range rapid.IntRange(0, 12).Draw(t, "adds") {
			modseq += imap.ModSeq(rapid.IntRange(0, 2).Draw(t, "step"))
			if modseq == 3 {
				modseq = 4
			}
			var set imap.UIDSet
			for range rapid.IntRange(0, 4).Draw(t, "uids") {
				uid := imap.UID(rapid.IntRange(1, 40).Draw(t, "uid"))
				set.Add(uid)
				all = append(all, entry{modseq, uid})
			}
			h.Add(modseq, set)
		}
		data, err := h.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		var back mailindex.History
		if err := back.UnmarshalBinary(data); err != nil {
			t.Fatal(err)
		}
		for since := imap.ModSeq(0); since <= modseq+1; since++ {
			got, complete := h.Since(since)
			if complete != (since >= h.Floor()) {
				t.Fatalf("Since(%d) complete %v with floor %d", since, complete, h.Floor())
			}
			again, _ := back.Since(since)
			if !again.Equal(got) {
				t.Fatalf("after the codec Since(%d) = %v, want %v", since, again, got)
			}
			if !complete {
				continue
			}
			var want imap.UIDSet
			for _, e := range all {
				if e.modseq > since {
					want.Add(e.uid)
				}
			}
			if !got.Equal(want) {
				t.Fatalf("Since(%d) = %v, want %v", since, got, want)
			}
		}
	})
}

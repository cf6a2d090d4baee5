package mailindex_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
)

func build(n int) *mailindex.Snapshot {
	e := mailindex.New(mailindex.Meta{UIDValidity: 7, FirstRecent: 1}, nil).Edit()
	seen := e.Intern([]imap.Flag{imap.FlagSeen})
	for i := range n {
		e.Append(mailindex.Row{UID: imap.UID(i + 1), Flags: seen, ModSeq: 1, Size: 6000, Msg: uint64(i)})
	}
	return e.Commit()
}

func TestFlagSets(t *testing.T) {
	e := mailindex.New(mailindex.Meta{}, []imap.Flag{"Old"}).Edit()
	a := e.Intern([]imap.Flag{`\seen`, "Work", "work", imap.FlagRecent, "OLD"})
	b := e.Intern([]imap.Flag{"old", "WORK", imap.FlagSeen})
	if a != b {
		t.Fatalf("the same flags in another order are combination %d, then %d", a, b)
	}
	if e.Intern(nil) != 0 {
		t.Error("the empty combination is not 0")
	}
	set := e.Flags(a)
	if got, want := string(set.Wire()), `(\Seen Old Work)`; got != want {
		t.Errorf("Wire = %s, want %s", got, want)
	}
	if got, want := string(set.WireRecent()), `(\Recent \Seen Old Work)`; got != want {
		t.Errorf("WireRecent = %s, want %s", got, want)
	}
	if !set.Has("wOrK") || set.Has(imap.FlagDeleted) || !set.Has(`\SEEN`) || set.Has(imap.FlagRecent) {
		t.Error("Has is wrong")
	}
}

func TestRecentAndMeta(t *testing.T) {
	s := build(5)
	if s.Recent() != 5 || s.UIDNext() != 6 || s.HighestModSeq() != 1 {
		t.Fatalf("recent %d, next %d, modseq %d", s.Recent(), s.UIDNext(), s.HighestModSeq())
	}
	e := s.Edit()
	e.Meta().FirstRecent = 4
	if got := e.Commit().Recent(); got != 2 {
		t.Errorf("Recent = %d, want 2", got)
	}
}

// Hundreds of combinations come and go: the table must not keep them all.
func TestFlagTableIsRebuilt(t *testing.T) {
	s := build(3)
	old := s
	for i := range 3000 {
		e := s.Edit()
		e.SetFlags(1, e.Intern([]imap.Flag{imap.Flag(fmt.Sprintf("kw%d", i%60)), imap.Flag(fmt.Sprintf("k%d", i/60))}), imap.ModSeq(i+2))
		s = e.Commit()
	}
	if s.FlagSets() > 600 {
		t.Errorf("the table has %d combinations for 3 rows", s.FlagSets())
	}
	if got, want := string(s.Flags(s.FlagsID(1)).Wire()), "(kw59 k49)"; got != want {
		t.Errorf("flags = %s, want %s", got, want)
	}
	if got := string(old.Flags(old.FlagsID(1)).Wire()); got != `(\Seen)` {
		t.Errorf("an old snapshot now shows %s", got)
	}
	if c := mailindex.Compare(old, s); len(c.Changed) != 1 || c.Changed[0] != 1 {
		t.Errorf("Compare over a rebuilt table: %+v", c)
	}
	e := s.Edit()
	e.Remove(0)
	gone := e.Commit()
	ghost := mailindex.WithGhosts(old, gone)
	if got := string(ghost.Flags(ghost.FlagsID(0)).Wire()); got != `(\Seen)` {
		t.Errorf("the ghost shows %s", got)
	}
}

// Two editors of one snapshot must not write into the same columns.
func TestForks(t *testing.T) {
	base := build(3)
	var wg sync.WaitGroup
	forks := make([]*mailindex.Snapshot, 8)
	for i := range forks {
		wg.Go(func() {
			e := base.Edit()
			e.Append(mailindex.Row{UID: imap.UID(10 + i), Flags: e.Intern([]imap.Flag{imap.Flag(fmt.Sprint("k", i))})})
			forks[i] = e.Commit()
		})
	}
	wg.Wait()
	for i, s := range forks {
		if s.Len() != 4 || s.UID(3) != imap.UID(10+i) || !s.Flags(s.FlagsID(3)).Has(imap.Flag(fmt.Sprint("k", i))) {
			t.Errorf("fork %d shows %+v", i, s.Row(3))
		}
	}
	if base.Len() != 3 {
		t.Errorf("the base has %d rows", base.Len())
	}
}

func TestGreatestUID(t *testing.T) {
	e := mailindex.New(mailindex.Meta{}, nil).Edit()
	e.Append(mailindex.Row{UID: 1<<32 - 1})
	s := e.Commit()
	if i, ok := s.Find(1<<32 - 1); i != 0 || !ok {
		t.Errorf("Find = %d, %v", i, ok)
	}
	if c := mailindex.Compare(s, s.Edit().Commit()); c.Added != 1 {
		t.Errorf("Added = %d", c.Added)
	}
}

func TestReadUIDSetDamaged(t *testing.T) {
	good := mailindex.AppendUIDSet(nil, imap.UIDSetOf(1, 2, 3, 900, 1<<32-1))
	if set, rest, err := mailindex.ReadUIDSet(good); err != nil || len(rest) > 0 || set.String() != "1:3,900,4294967295" {
		t.Fatalf("set %v, rest %v, %v", set, rest, err)
	}
	for i := range good {
		if _, _, err := mailindex.ReadUIDSet(good[:i]); err == nil {
			t.Errorf("no error for the first %d bytes", i)
		}
	}
}

// A row costs at most 50 bytes of memory.
func TestMemoryPerRow(t *testing.T) {
	const n = 500_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := build(n)
	runtime.GC()
	runtime.ReadMemStats(&after)
	perRow := float64(after.HeapAlloc-before.HeapAlloc) / n
	runtime.KeepAlive(s)
	if perRow > 50 {
		t.Errorf("%.1f bytes per row", perRow)
	}
	if est := float64(s.Memory()) / n; est < perRow*0.8 || est > perRow*1.25 {
		t.Errorf("Memory estimates %.1f bytes per row, real %.1f", est, perRow)
	}
}

const million = 1_000_000

func BenchmarkBuild(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		build(million)
	}
}

func BenchmarkFind(b *testing.B) {
	s := build(million)
	uid := imap.UID(1)
	for b.Loop() {
		uid = uid*1664525 + 1013904223
		s.Find(uid % million)
	}
}

func BenchmarkRow(b *testing.B) {
	s := build(million)
	var sum uint64
	i := 0
	for b.Loop() {
		i = (i*1664525 + 1013904223) % million
		sum += s.Row(i).Msg
	}
	_ = sum
}

func BenchmarkPages(b *testing.B) {
	s := build(million)
	var bits mailindex.FlagBits
	for b.Loop() {
		for p := range s.Pages() {
			for _, id := range p.Flags {
				bits |= s.Flags(id).Bits()
			}
		}
	}
	_ = bits
}

func BenchmarkSetOneFlag(b *testing.B) {
	b.ReportAllocs()
	s := build(million)
	i := 0
	for b.Loop() {
		e := s.Edit()
		e.SetFlags((i*7919)%million, mailindex.FlagsID(i%2), imap.ModSeq(i+2))
		s = e.Commit()
		i++
	}
}

func BenchmarkAppendOne(b *testing.B) {
	b.ReportAllocs()
	s := build(million)
	for b.Loop() {
		e := s.Edit()
		e.Append(mailindex.Row{UID: s.UIDNext(), ModSeq: 2})
		s = e.Commit()
	}
}

func BenchmarkCompareOneFlag(b *testing.B) {
	b.ReportAllocs()
	s := build(million)
	e := s.Edit()
	e.SetFlags(million/2, 0, 2)
	n := e.Commit()
	for b.Loop() {
		mailindex.Compare(s, n)
	}
}

func BenchmarkRemoveHalf(b *testing.B) {
	s := build(million)
	for b.Loop() {
		e := s.Edit()
		for i := 0; i < million; i += 2 {
			e.Remove(i)
		}
		e.Commit()
	}
}

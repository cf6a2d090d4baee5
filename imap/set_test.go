package imap_test

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rookery-mail/rookery/imap"
)

func TestParseNumSet(t *testing.T) {
	for in, want := range map[string]string{
		"1": "1", "*": "*", "1:*": "1:*", "*:5": "*:5", "5:1,7": "5:1,7",
		"4294967295": "4294967295", "3:3": "3", "*:*": "*", "2,2": "2,2",
	} {
		set, err := imap.ParseNumSet(in)
		if err != nil || set.String() != want {
			t.Errorf("ParseNumSet(%q) = %q, %v; want %q", in, set, err, want)
		}
	}
	for in, want := range map[string]string{
		"":           "empty number set",
		"0":          "numbers in a set begin at 1 and have no leading zero",
		"01":         "numbers in a set begin at 1 and have no leading zero",
		"1,":         "number missing in number set",
		",1":         "number missing in number set",
		"1:":         "number missing in number set",
		"1:2:3":      `"2:3" is not a number of a number set`,
		"+1":         `"+1" is not a number of a number set`,
		"x":          `"x" is not a number of a number set`,
		"**":         `"**" is not a number of a number set`,
		"4294967296": "number up to 4294967295 expected in number set",
		"$":          `"$" is not a number of a number set`,
	} {
		if set, err := imap.ParseNumSet(in); err == nil || err.Error() != want {
			t.Errorf("ParseNumSet(%q) = %q, %v; want error %q", in, set, err, want)
		}
	}
}

func TestResolve(t *testing.T) {
	for _, c := range []struct {
		in   string
		last uint32
		want string
	}{
		{"*", 9, "9"}, {"1:*", 9, "1:9"}, {"*:5", 9, "5:9"}, {"*:5", 3, "3:5"},
		{"559:*", 300, "300:559"}, {"4,2,3,9:7", 20, "2:4,7:9"}, {"5:1", 2, "1:5"},
		{"*", 0, ""}, {"1:*", 0, ""}, {"7,*", 0, "7"},
		{"4294967294:*", math.MaxUint32, "4294967294:4294967295"},
		{"4294967295,1", 5, "1,4294967295"}, {"1:10,3:4,2", 5, "1:10"},
	} {
		set, err := imap.ParseNumSet(c.in)
		if err != nil {
			t.Fatal(err)
		}
		if got := set.Resolve(c.last).String(); got != c.want {
			t.Errorf("%q with last %d is %q; want %q", c.in, c.last, got, c.want)
		}
		if got := set.ResolveSeq(c.last).String(); got != c.want {
			t.Errorf("%q with last %d is %q as numbers; want %q", c.in, c.last, got, c.want)
		}
	}
}

func TestSetEdges(t *testing.T) {
	var s imap.UIDSet
	s.Add(0)
	if !s.IsEmpty() || s.Contains(0) || s.Min() != 0 || s.Max() != 0 || s.Len() != 0 || s.String() != "" {
		t.Errorf("adding zero gave %q", s)
	}
	s.AddRange(math.MaxUint32, 0)
	if s.Len() != math.MaxUint32 || s.String() != "1:4294967295" || s.Contains(0) {
		t.Errorf("the full set is %q of %d", s, s.Len())
	}
	s.Add(7)
	s.AddRange(math.MaxUint32-1, math.MaxUint32)
	if s.String() != "1:4294967295" {
		t.Errorf("the full set became %q", s)
	}
	rest := s.Subtract(imap.UIDSetOf(1, 5, math.MaxUint32))
	if rest.String() != "2:4,6:4294967294" {
		t.Errorf("subtraction gave %q", rest)
	}
	var last []imap.UID
	for u := range imap.UIDSetOfRange(math.MaxUint32-1, math.MaxUint32).All() {
		last = append(last, u)
	}
	if !slices.Equal(last, []imap.UID{math.MaxUint32 - 1, math.MaxUint32}) {
		t.Errorf("iteration at the upper end gave %v", last)
	}
	clone := rest.Clone()
	clone.Clear()
	if rest.IsEmpty() || !clone.IsEmpty() {
		t.Error("a clone shares memory")
	}
	if _, err := imap.ParseUIDSet("1:*"); err == nil {
		t.Error(`a UID set took "*"`)
	}
}

// A set agrees with a map for all operations, in any order of additions.
func TestSetAgainstMap(t *testing.T) {
	type model map[imap.UID]bool
	draw := func(rt *rapid.T, name string) (imap.UIDSet, model) {
		var s imap.UIDSet
		m := model{}
		for _, at := range rapid.SliceOfN(rapid.Uint32Range(1, 60), 0, 20).Draw(rt, name) {
			length := rapid.Uint32Range(0, 6).Draw(rt, "length")
			s.AddRange(imap.UID(at), imap.UID(at+length))
			for u := at; u <= at+length; u++ {
				m[imap.UID(u)] = true
			}
		}
		return s, m
	}
	rapid.Check(t, func(rt *rapid.T) {
		a, am := draw(rt, "a")
		b, bm := draw(rt, "b")
		check := func(what string, got imap.UIDSet, in func(imap.UID) bool) {
			var want []imap.UID
			for u := imap.UID(1); u <= 70; u++ {
				if in(u) {
					want = append(want, u)
				}
				if got.Contains(u) != in(u) {
					rt.Fatalf("%s: %q contains %d: %v", what, got, u, !in(u))
				}
			}
			if all := slices.Collect(got.All()); !slices.Equal(all, want) || got.Len() != uint64(len(want)) {
				rt.Fatalf("%s: %q has %v (%d), want %v", what, got, all, got.Len(), want)
			}
			for i, r := range got.Ranges() {
				if r.Start > r.Stop || i > 0 && got.Ranges()[i-1].Stop+1 >= r.Start {
					rt.Fatalf("%s: %q is not normalised", what, got)
				}
			}
			if !got.IsEmpty() {
				if back, err := imap.ParseUIDSet(got.String()); err != nil || !back.Equal(got) {
					rt.Fatalf("%s: %q came back as %q, %v", what, got, back, err)
				}
				shuffled := rapid.Permutation(want).Draw(rt, "order")
				if again := imap.UIDSetOf(shuffled...); !again.Equal(got) {
					rt.Fatalf("%s: %v makes %q, want %q", what, shuffled, again, got)
				}
			}
		}
		check("a", a, func(u imap.UID) bool { return am[u] })
		check("union", a.Union(b), func(u imap.UID) bool { return am[u] || bm[u] })
		check("intersection", a.Intersect(b), func(u imap.UID) bool { return am[u] && bm[u] })
		check("difference", a.Subtract(b), func(u imap.UID) bool { return am[u] && !bm[u] })
	})
}

func FuzzNumSet(f *testing.F) {
	for _, s := range []string{"1", "*", "1:*,5", "4294967295:1", "2,4:7,9,12:*", "1,,2", "0"} {
		f.Add(s, uint32(10))
	}
	f.Fuzz(func(t *testing.T, s string, last uint32) {
		set, err := imap.ParseNumSet(s)
		if err != nil {
			return
		}
		again, err := imap.ParseNumSet(set.String())
		if err != nil || !slices.Equal(set, again) {
			t.Fatalf("%q came back as %v, %v", s, again, err)
		}
		uids := set.Resolve(last)
		if set.HasStar() && last != 0 && !uids.Contains(imap.UID(last)) {
			t.Fatalf("%q with last %d lacks it: %q", s, last, uids)
		}
		if !uids.IsEmpty() {
			if back, err := imap.ParseUIDSet(uids.String()); err != nil || !back.Equal(uids) {
				t.Fatalf("%q came back as %q, %v", uids, back, err)
			}
		}
	})
}

func BenchmarkSetAddAscending(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		var s imap.UIDSet
		for u := imap.UID(1); u < 40000; u += 2 {
			s.Add(u)
		}
	}
}

func BenchmarkSetContains(b *testing.B) {
	var s imap.UIDSet
	for u := imap.UID(1); u < 40000; u += 2 {
		s.Add(u)
	}
	b.ReportAllocs()
	n := imap.UID(0)
	for b.Loop() {
		n = (n + 7919) % 40000
		s.Contains(n)
	}
}

package imap_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/corpus"
)

func TestUTF7(t *testing.T) {
	for name, wire := range map[string]string{
		"": "", "INBOX": "INBOX", "R&D": "R&-D", "&&": "&-&-", "Entwürfe": "Entw&APw-rfe",
		"~peter/mail/台北/日本語": "~peter/mail/&U,BTFw-/&ZeVnLIqe-", // RFC 3501 section 5.1.3
		"☺!":                 "&Jjo-!", "😀": "&2D3eAA-", "é&": "&AOk-&-", "a\x00b": "a&AAA-b", "\x7f": "&AH8-",
		"üü": "&APwA,A-", "Ω😀x": "&A6nYPd4A-x", "\uFFFD": "&,,0-",
	} {
		if got := imap.EncodeUTF7(name); got != wire {
			t.Errorf("EncodeUTF7(%q) = %q, want %q", name, got, wire)
		}
		if got, err := imap.DecodeUTF7(wire); err != nil || got != name {
			t.Errorf("DecodeUTF7(%q) = %q, %v; want %q", wire, got, err, name)
		}
	}
	for wire, want := range map[string]string{
		"a&":               `"&" without the "-" that closes it (a plain "&" is written "&-")`,
		"R&D":              `"&" without the "-" that closes it (a plain "&" is written "&-")`,
		"&U,BTFw-&ZeVnLA-": "two base64 runs that should be one",
		"&AGE-":            "printable ASCII must stand for itself",
		"&ACY-":            "printable ASCII must stand for itself",
		"&APw":             `"&" without the "-" that closes it (a plain "&" is written "&-")`,
		"&AP-":             "bits left over at the end of its base64",
		"&APx-":            "bits left over at the end of its base64",
		"&APwA-":           "bits left over at the end of its base64",
		"&2D0-":            "surrogate without its partner",
		"&3gA-":            "surrogate without its partner",
		"&2D3YPQ-":         "surrogate without its partner",
		"&2D0A,A-":         "surrogate without its partner",
		"&AP/-":            "character that is not of its base64",
		"&APw=-":           "character that is not of its base64",
		"ü":                "only printable ASCII is allowed",
		"\x01":             "only printable ASCII is allowed",
	} {
		if got, err := imap.DecodeUTF7(wire); err == nil || err.Error() != "modified UTF-7: "+want {
			t.Errorf("DecodeUTF7(%q) = %q, %v; want error %q", wire, got, err, want)
		}
	}
}

func TestUTF7RoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.String().Draw(rt, "name")
		wire := imap.EncodeUTF7(name)
		if got, err := imap.DecodeUTF7(wire); err != nil || got != name {
			rt.Fatalf("%q went as %q and came back as %q, %v", name, wire, got, err)
		}
	})
}

func TestNormalizeMailbox(t *testing.T) {
	for in, want := range map[string]string{
		"inbox": "INBOX", "InBox/Child": "INBOX/Child", "INBOX/inbox": "INBOX/inbox",
		"inboxes": "inboxes", "a/inbox": "a/inbox", "inbox.x": "inbox.x",
		"e\u0301te\u0301": "été", "a/b c/d": "a/b c/d", "..": "..", "%*": "%*",
		strings.Repeat("x", imap.MaxMailboxName): strings.Repeat("x", imap.MaxMailboxName),
		"\uFFFD":                                 "\uFFFD",
	} {
		if got, err := imap.NormalizeMailbox(in, '/'); err != nil || got != want {
			t.Errorf("NormalizeMailbox(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"":        "mailbox name is empty",
		"a\nb":    "mailbox name has the control character U+000A",
		"a\x00":   "mailbox name has the control character U+0000",
		"\x7f":    "mailbox name has the control character U+007F",
		"a\u0085": "mailbox name has the control character U+0085",
		"a\u2028": "mailbox name has a line or paragraph separator",
		"a\xff":   "mailbox name is not valid UTF-8",
		"/a":      `mailbox name begins with the separator "/"`,
		"a/":      `mailbox name ends with the separator "/"`,
		"a//b":    `mailbox name has an empty part between two separators "/"`,
		strings.Repeat("x", imap.MaxMailboxName+1): "mailbox name is longer than 1000 bytes",
		strings.Repeat("\u0344", 500):              "mailbox name is longer than 1000 bytes", // NFC makes it two
	} {
		_, err := imap.NormalizeMailbox(in, '/')
		if err == nil || err.Error() != "mailbox name: "+want || imap.KindOf(err) != imap.Cannot {
			t.Errorf("NormalizeMailbox(%q): %v; want %q", in, err, want)
		}
	}
	if got, err := imap.NormalizeMailbox("inbox/a//", 0); err != nil || got != "inbox/a//" {
		t.Errorf("a flat name became %q, %v", got, err)
	}
	if got := imap.MailboxParent("a/b/c", '/'); got != "a/b" {
		t.Errorf("the parent of a/b/c is %q", got)
	}
	if got := imap.MailboxParent("a", '/') + imap.MailboxParent("a/b", 0); got != "" {
		t.Errorf("a top-level name has the parent %q", got)
	}
}

func TestMatchMailbox(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"*", "a/b", true}, {"%", "a", true},
		{"%", "a/b", false}, {"%/%", "a/b", true}, {"%/%", "a/b/c", false}, {"a/%", "a/b", true},
		{"a/%", "a", false}, {"a*", "a/b/c", true}, {"*c", "a/b/c", true}, {"%c", "a/b/c", false},
		{"a%%b", "axb", true}, {"a%*b", "ax/yb", true}, {"a*%b", "ax/yb", true}, {"a%b%c", "a1b2c", true},
		{"inbox", "INBOX", true}, {"InB%", "INBOX", true}, {"inbox/x", "INBOX/x", true},
		{"inbox/X", "INBOX/x", false}, {"inboxes", "INBOXES", false}, {"a/inbox", "a/INBOX", false},
		{"*/INBOX", "a/INBOX", true}, {"日%", "日本", true}, {"%本", "日本", true}, {"日", "月", false},
		{"%", "日/本", false}, {"a", "A", false}, {"a/", "a", false}, {"%/", "a/", true},
	} {
		if got := imap.MatchMailbox(c.pattern, c.name, '/'); got != c.want {
			t.Errorf("MatchMailbox(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
	if !imap.MatchMailbox("%", "a/b", 0) {
		t.Error("in a flat name space % stops at a slash")
	}
	// This would not end in the life of the universe if it cost exponential time.
	if imap.MatchMailbox(strings.Repeat("*a", 400)+"b", strings.Repeat("a", 1000), '/') {
		t.Error("the hostile pattern matches")
	}
}

func TestMatchMailboxAgainstRecursion(t *testing.T) {
	var match func(p, n string) bool
	match = func(p, n string) bool {
		if p == "" {
			return n == ""
		}
		if p[0] == '*' || p[0] == '%' {
			return match(p[1:], n) || n != "" && (p[0] == '*' || n[0] != '/') && match(p, n[1:])
		}
		return n != "" && p[0] == n[0] && match(p[1:], n[1:])
	}
	rapid.Check(t, func(rt *rapid.T) {
		p := rapid.StringMatching(`[ab/*%]{0,8}`).Draw(rt, "pattern")
		n := rapid.StringMatching(`[ab/]{0,10}`).Draw(rt, "name")
		if got, want := imap.MatchMailbox(p, n, '/'), match(p, n); got != want {
			rt.Fatalf("MatchMailbox(%q, %q) = %v", p, n, got)
		}
	})
	// Many patterns are what they are one by one, wherever their states lie.
	rapid.Check(t, func(rt *rapid.T) {
		patterns := rapid.SliceOfN(rapid.StringMatching(`[ab/*%]{0,40}|[aInbOx/*%]{0,9}|x{60,70}`), 0, 12).Draw(rt, "patterns")
		all := imap.NewMailboxPatterns('/', patterns...)
		for _, n := range rapid.SliceOfN(rapid.StringMatching(`[ab/]{0,12}|INBOX(/[ab]/a)?|x{60,70}`), 1, 5).Draw(rt, "names") {
			want := slices.ContainsFunc(patterns, func(p string) bool { return imap.MatchMailbox(p, n, '/') })
			if got := all.Match(n); got != want {
				rt.Fatalf("%q match %q: %v", patterns, n, got)
			}
			var above, parents []string
			all.MatchAbove(n, func(parent string) { above = append(above, parent) })
			for i, r := range n {
				if r == '/' && slices.ContainsFunc(patterns, func(p string) bool { return imap.MatchMailbox(p, n[:i], '/') }) {
					parents = append(parents, n[:i])
				}
			}
			if !slices.Equal(above, parents) {
				rt.Fatalf("above %q %q match %q, not %q", n, patterns, above, parents)
			}
		}
	})
}

func FuzzMailboxName(f *testing.F) {
	for _, s := range []string{"inbox/x", "Entw&APw-rfe", "&", "&-", "&2D3eAA-", "e\u0301", "a//b", "\xff"} {
		f.Add(s)
	}
	for _, m := range corpus.Messages(f) {
		for line := range bytes.Lines(m.Raw[:min(len(m.Raw), 2000)]) {
			f.Add(string(line))
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		if name, err := imap.DecodeUTF7(s); err == nil {
			if !utf8.ValidString(name) {
				t.Fatalf("%q decodes to invalid UTF-8", s)
			}
			if back := imap.EncodeUTF7(name); back != s {
				t.Fatalf("%q decodes to %q, which encodes to %q", s, name, back)
			}
		}
		name, err := imap.NormalizeMailbox(s, '/')
		if err != nil {
			return
		}
		if again, err := imap.NormalizeMailbox(name, '/'); err != nil || again != name {
			t.Fatalf("normalising %q is not stable: %q, then %q, %v", s, name, again, err)
		}
		if back, err := imap.DecodeUTF7(imap.EncodeUTF7(name)); err != nil || back != name {
			t.Fatalf("%q came back as %q, %v", name, back, err)
		}
		if !imap.MatchMailbox("*", name, '/') {
			t.Fatalf("%q is not matched by *", name)
		}
	})
}

// The names of a large account, each against patterns that are made to cost much.
func BenchmarkMailboxPatterns(b *testing.B) {
	hostile := make([]string, 8<<10/500)
	for i := range hostile {
		hostile[i] = strings.Repeat("*a*b", 124) + "z" + string(rune('A'+i))
	}
	name := strings.Repeat("ab", 100)
	for what, patterns := range map[string][]string{"one": {"%/a*"}, "hostile": hostile} {
		b.Run(what, func(b *testing.B) {
			m := imap.NewMailboxPatterns('/', patterns...)
			for b.Loop() {
				m.Match(name)
			}
		})
	}
}

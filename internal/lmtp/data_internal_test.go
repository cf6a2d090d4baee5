package lmtp

import (
	"bytes"
	"strings"
	"testing"
)

// plainDecode is the same byte by byte: what comes before CR LF dot CR LF, without the
// dots in front of lines, and how long all of that is; -1 where it does not end.
func plainDecode(p []byte) (text []byte, used int) {
	begin := true
	for i := 0; i < len(p); i++ {
		if begin && bytes.HasPrefix(p[i:], []byte(".\r\n")) {
			return text, i + 3
		}
		if begin && p[i] == '.' {
			i++
			if i == len(p) {
				break
			}
		}
		text = append(text, p[i])
		begin = p[i] == '\n' && i > 0 && p[i-1] == '\r'
	}
	return text, -1
}

// FuzzData compares the decoder with plainDecode, for pieces of many lengths.
func FuzzData(f *testing.F) {
	for _, text := range []string{
		".\r\n", "\r\n.\r\n", "a\r\n.\r\n", "a\r\n..\r\n.\r\nRSET\r\n", ".\r", ".\r\r\n.\r\n", ".\r\r\r\n.\r\n.\r\n",
		"a\n.\nb\r\n.\r\n", "a\r.\rb\r\n.\r\n", "a\n.\r\nb\r\n.\r\n", "a\r\n.\nb\r\n.\r\n", "a\r\n.\rb\r\n.\r\n", "a\r\r\n.\r\n",
		"..\r\n...\r\n.\n.\r.\r\n.\r\n", "\r\r\n\n\r\n.\r\n", ".a\r\n.b\r\n.\r\n", strings.Repeat("x", 200) + "\r\n.\r\n",
	} {
		f.Add([]byte(text), uint8(0), uint8(3))
	}
	f.Fuzz(func(t *testing.T, p []byte, one, other uint8) {
		want, end := plainDecode(p)
		for _, cut := range [][2]int{{len(p) + 1, len(p) + 1}, {1, 1}, {int(one) + 1, int(other) + 1}} {
			sent := bytes.Clone(p)
			var d dataDecoder
			var got bytes.Buffer
			used := 0
			for turn := 0; used < len(sent) && !d.ended(); turn++ {
				n, err := d.decode(&got, sent[used:min(used+cut[turn%2], len(sent))])
				if err != nil || n < 1 {
					t.Fatalf("decode returns %d, %v", n, err)
				}
				used += n
			}
			if d.ended() != (end >= 0) || end >= 0 && used != end {
				t.Fatalf("in pieces of %v, %q ends %v after %d bytes, want %d", cut, p, d.ended(), used, end)
			}
			if end >= 0 && !bytes.Equal(got.Bytes(), want) {
				t.Fatalf("in pieces of %v, %q is %q, want %q", cut, p, got.Bytes(), want)
			}
			if end < 0 && !bytes.HasPrefix(want, got.Bytes()) {
				t.Fatalf("in pieces of %v, %q begins %q, want %q", cut, p, got.Bytes(), want)
			}
			if !bytes.Equal(sent, p) {
				t.Fatalf("the decoder has changed what it was given")
			}
		}
	})
}

// FuzzPath: no path makes a header line of its own, and what is written for an address
// is read as that address.
func FuzzPath(f *testing.F) {
	for _, s := range []string{
		"<ann@x>", "<ann>", "<>", "ann@x", "ann@x SIZE=3", `<"a b"@x>`, `<"a\"\\b"@x>`, "<@a,@b:c@d>", "<a@>", "<@x>", `<"">`, `<"a`,
		"<a@x>b", "<\x00@x>", "<a.b..c@[127.0.0.1]> SIZE=1", "<ünï@exämple.org> SMTPUTF8", "<a\t@x>", `<"a@b"@c>`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, rest, ok := parsePath(s)
		if !ok {
			return
		}
		if a.local == "" || a.plain() == "" || clean(a.String()) != a.String() && hasControls(a.String()) {
			t.Fatalf("%q is %+v", s, a)
		}
		if !strings.HasSuffix(s, rest) {
			t.Fatalf("%q leaves %q", s, rest)
		}
		again, rest, ok := parsePath("<" + a.String() + ">")
		if !ok || rest != "" || again != a {
			t.Fatalf("%q is %+v, which is written %q and read %+v", s, a, a.String(), again)
		}
	})
}

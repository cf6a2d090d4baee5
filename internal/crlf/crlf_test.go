package crlf_test

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/rookery-mail/rookery/internal/crlf"
)

func TestReader(t *testing.T) {
	for in, want := range map[string]string{
		"":                "",
		"a":               "a",
		"a\n":             "a\r\n",
		"a\r\n":           "a\r\n",
		"\n\n":            "\r\n\r\n",
		"a\rb\n":          "a\rb\r\n",
		"a\r\r\n\x00\xff": "a\r\r\n\x00\xff",
		"a\r":             "a\r",
		"a\r\n\nb":        "a\r\n\r\nb",
	} {
		for name, src := range map[string]io.Reader{
			"whole":   strings.NewReader(in),
			"by byte": iotest.OneByteReader(strings.NewReader(in)),
			"EOF":     iotest.DataErrReader(strings.NewReader(in)),
		} {
			r := crlf.NewReader(src)
			if name == "by byte" {
				r = iotest.OneByteReader(r)
			}
			got, err := io.ReadAll(r)
			if err != nil || string(got) != want {
				t.Errorf("%s: %q became %q, %v; want %q", name, in, got, err, want)
			}
		}
		if n, err := crlf.Size(iotest.HalfReader(strings.NewReader(in))); err != nil || n != int64(len(want)) {
			t.Errorf("Size(%q) = %d, %v; want %d", in, n, err, len(want))
		}
	}
}

func TestLong(t *testing.T) {
	in := strings.Repeat(strings.Repeat("x", 76)+"\n", 5000)
	got, err := io.ReadAll(crlf.NewReader(strings.NewReader(in)))
	if err != nil || string(got) != strings.ReplaceAll(in, "\n", "\r\n") {
		t.Errorf("long text is not turned right (%v)", err)
	}
}

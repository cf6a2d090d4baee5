package message_test

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/rookery-mail/rookery/message"
)

// checkMessage holds a message against everything that is true of all
// digests.
func checkMessage(t *testing.T, raw []byte, lim message.Limits) (*message.Digest, *message.Text) {
	t.Helper()
	d, text, err := message.Parse(bytes.NewReader(raw), lim)
	if err != nil {
		t.Fatal(err)
	}
	checkWire(t, d)
	if d.Size != int64(len(raw)) || d.Root.End != d.Size || d.Lines != int64(bytes.Count(raw, []byte{'\n'})) {
		t.Fatalf("size %d, end %d, lines %d of %d octets", d.Size, d.Root.End, d.Lines, len(raw))
	}
	if err := checkPart(raw, &d.Root, 0, d.Size); err != nil {
		t.Fatal(err)
	}
	if n := utf8.RuneCountInString(d.Preview); n > 200 || !utf8.ValidString(d.Preview) {
		t.Fatalf("preview of %d characters: %q", n, d.Preview)
	}
	checkStored(t, d, text)
	checkFields(t, d, raw)
	if len(raw) < 100_000 {
		d2, text2, err := message.Parse(iotest.OneByteReader(bytes.NewReader(raw)), lim)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d, d2); diff != "" {
			t.Fatalf("digest depends on how the message is read:\n%s", diff)
		}
		if diff := cmp.Diff(text, text2); diff != "" {
			t.Fatalf("text depends on how the message is read:\n%s", diff)
		}
	}
	checkServed(t, raw)
	checkWithoutText(t, raw, lim)
	checkTextAlone(t, raw, lim)
	return d, text
}

// checkWithoutText holds the digest that is made without the text, and in the end
// the preview, against those that are made with all of it.
func checkWithoutText(t *testing.T, raw []byte, lim message.Limits) {
	t.Helper()
	want, _, err := message.ParseServed(bytes.NewReader(raw), int64(len(raw)), lim)
	if err != nil {
		t.Fatal(err)
	}
	got, err := message.NewParser(lim).DigestServed(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("without the text the digest is another one:\n%s", diff)
	}
	lim.TextBytes = 0
	if want, _, err = message.ParseServed(bytes.NewReader(raw), int64(len(raw)), lim); err != nil {
		t.Fatal(err)
	}
	if want.Preview != got.Preview {
		t.Fatalf("the preview depends on how much text is kept: %q, %q", want.Preview, got.Preview)
	}
}

// checkTextAlone holds the text that is made without the digest against the one that is
// made with it.
func checkTextAlone(t *testing.T, raw []byte, lim message.Limits) {
	t.Helper()
	for _, lim.Addresses = range []int{lim.Addresses, 3} {
		_, want, err := message.ParseServed(bytes.NewReader(raw), int64(len(raw)), lim)
		if err != nil {
			t.Fatal(err)
		}
		got, err := message.NewParser(lim).TextServed(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("without the digest the text is another one:\n%s", diff)
		}
	}
}

func checkWire(t *testing.T, d *message.Digest) {
	t.Helper()
	g := &grammar{in: d.Envelope}
	g.envelope()
	if err := g.end(); err != nil {
		t.Fatalf("ENVELOPE %v\n%q", err, d.Envelope)
	}
	g = &grammar{in: d.Body}
	g.body(false)
	if err := g.end(); err != nil {
		t.Fatalf("BODY %v\n%q", err, d.Body)
	}
	g = &grammar{in: d.BodyStructure}
	g.body(true)
	if err := g.end(); err != nil {
		t.Fatalf("BODYSTRUCTURE %v\n%q", err, d.BodyStructure)
	}
}

// checkFields holds the fields that are kept against the header.
func checkFields(t *testing.T, d *message.Digest, raw []byte) {
	t.Helper()
	header := raw[:d.Root.BodyStart]
	if len(d.Fields) == 0 {
		if len(header) < 4000 && !d.Truncated {
			t.Fatalf("no fields are kept of %q", header)
		}
		return
	}
	for _, names := range [][]string{{"Subject"}, {"from", "TO", "Cc"}, {"Date", "References", "Content-Type", "List-Id"}} {
		set, ok := message.FieldSetOf(names)
		got := d.Fields.Append([]byte("before"), set)
		if want := message.FilterHeader([]byte("before"), header, names, false); !ok || !bytes.Equal(got, want) {
			t.Fatalf("fields %q are %q (known: %v), want %q", names, got, ok, want)
		}
	}
}

func checkPart(raw []byte, p *message.Part, from, to int64) error {
	if p.HeaderStart < from || p.BodyStart < p.HeaderStart || p.End < p.BodyStart || p.End > to {
		return fmt.Errorf("part %d, %d, %d not within %d to %d", p.HeaderStart, p.BodyStart, p.End, from, to)
	}
	if n := bytes.Count(raw[p.BodyStart:p.End], []byte{'\n'}); p.Lines != int64(n) {
		return fmt.Errorf("part at %d says %d lines, has %d", p.BodyStart, p.Lines, n)
	}
	at := p.BodyStart
	for i := range p.Children {
		c := &p.Children[i]
		if err := checkPart(raw, c, at, p.End); err != nil {
			return err
		}
		at = c.End
	}
	if m := p.Message; m != nil {
		if m.HeaderStart != p.BodyStart || m.End != p.End {
			return fmt.Errorf("message at %d to %d is not the body at %d to %d", m.HeaderStart, m.End, p.BodyStart, p.End)
		}
		return checkPart(raw, m, p.BodyStart, p.End)
	}
	return nil
}

func checkStored(t *testing.T, d *message.Digest, text *message.Text) {
	t.Helper()
	stored, _ := d.AppendBinary(nil)
	back, err := message.UnmarshalDigest(stored)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(d, back) { // cmp takes exponential time on deep parts
		t.Fatalf("stored digest differs: %v, want %v", back, d)
	}
	stored, _ = text.AppendBinary(nil)
	textBack, err := message.UnmarshalText(stored)
	if err != nil {
		t.Fatal(err)
	}
	if text.Truncated != textBack.Truncated || !bytes.Equal(text.Header, textBack.Header) ||
		!bytes.Equal(text.MIME, textBack.MIME) || !bytes.Equal(text.Body, textBack.Body) {
		t.Fatal("stored text differs")
	}
}

// checkServed holds the served form against the stored one.
func checkServed(t *testing.T, raw []byte) {
	t.Helper()
	served := message.Served(raw)
	if bytes.IndexByte(raw, 0) < 0 {
		if !bytes.Equal(served, raw) {
			t.Fatal("a message without NUL is served otherwise")
		}
		return
	}
	if bytes.IndexByte(served, 0) >= 0 {
		t.Fatal("NUL is served")
	}
	if !bytes.Equal(message.Served(served), served) {
		t.Fatal("serving again changes something")
	}
	a, _, err := message.Parse(bytes.NewReader(raw), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := message.ParseServed(bytes.NewReader(raw), int64(len(raw)), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if !b.HasNUL || b.Size != int64(len(served)) {
		t.Fatalf("digest of the served form: HasNUL %v, size %d, want %d", b.HasNUL, b.Size, len(served))
	}
	checkWire(t, b)
	if !a.Truncated {
		compareContents(t, raw, served, &a.Root, &b.Root)
	}
}

// compareContents compares what BINARY gives of leaf parts.
func compareContents(t *testing.T, raw, served []byte, a, b *message.Part) {
	t.Helper()
	if len(a.Children) != len(b.Children) || (a.Message == nil) != (b.Message == nil) {
		t.Fatalf("parts differ: %q and %q", raw, served)
	}
	for i := range a.Children {
		compareContents(t, raw, served, &a.Children[i], &b.Children[i])
	}
	switch {
	case a.Message != nil:
		compareContents(t, raw, served, a.Message, b.Message)
	case !a.IsMultipart() && a.Encoding != message.EncodingUnknown:
		x, y := decodePart(t, raw, a), decodePart(t, served, b)
		if !bytes.Equal(x, y) {
			t.Fatalf("BINARY differs: %q and %q", x, y)
		}
	}
}

func decodePart(t *testing.T, m []byte, p *message.Part) []byte {
	t.Helper()
	r, err := message.DecodePart(p, bytes.NewReader(m[p.BodyStart:p.End]))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

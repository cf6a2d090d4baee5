package imapwire_test

import (
	"testing"

	"github.com/rookery-mail/rookery/imapwire"
)

// unending is a line without an end.
type unending struct{ read int }

func (e *unending) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	e.read += len(p)
	return len(p), nil
}

// A line that does not end is not read for ever, nor as long as a literal may
// be.
func TestDiscardEndlessLine(t *testing.T) {
	e := &unending{}
	d := imapwire.NewDecoder(e, imapwire.DecoderOptions{Limits: imapwire.Limits{MaxLine: 1000, MaxSkip: 1 << 40}})
	d.Begin()
	d.Tag()
	if d.Err() == nil {
		t.Fatal("a tag of any length was taken")
	}
	if err := d.DiscardCommand(); err != imapwire.ErrSkipTooLarge {
		t.Errorf("DiscardCommand: %v", err)
	}
	if e.read > 200_000 {
		t.Errorf("%d bytes were read of a line that may have 1000", e.read)
	}
}

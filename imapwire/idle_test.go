package imapwire

import (
	"io"
	"strings"
	"testing"
)

// Only a look inside shows that an idle connection holds no buffer.
func TestIdleHoldsNoBuffer(t *testing.T) {
	var d *Decoder
	lines := []string{"a " + strings.Repeat("x", 500) + "\r\n", "b NOOP\r\n"}
	idle := false
	r := readerFunc(func(p []byte) (int, error) {
		if idle && (d.chunk != nil || len(p) != tinySize) {
			t.Errorf("while it waits, the decoder holds a buffer of %d bytes", len(p))
		}
		if len(lines) == 0 {
			return 0, io.EOF
		}
		n := copy(p, lines[0])
		if lines[0] = lines[0][n:]; lines[0] == "" {
			lines = lines[1:]
		}
		return n, nil
	})
	d = NewDecoder(r, DecoderOptions{Pool: NewBufferPool(0)})
	for range 2 {
		idle = true
		if err := d.Wait(); err != nil {
			t.Fatal(err)
		}
		idle = false
		d.Begin()
		d.Tag()
		d.SP()
		d.Atom()
		d.CRLF()
		if d.Err() != nil {
			t.Fatal(d.Err())
		}
	}
	idle = true
	if err := d.Wait(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}

	e := NewEncoder(io.Discard, EncoderOptions{Pool: NewBufferPool(0)})
	e.Raw("x")
	if err := e.Flush(); err != nil {
		t.Fatal(err)
	}
	e.Release()
	if e.chunk != nil || e.buf != nil {
		t.Error("the encoder keeps its buffer")
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

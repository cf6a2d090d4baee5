// Package crlf turns the line ends of mail kept in files into those of the
// wire: a LF without a CR in front becomes CRLF, and no other byte changes.
//
// It does not repair anything: a CR alone, a NUL or a last line without an end
// stay as they are.
package crlf

import "io"

// NewReader returns a reader of what r reads, with its line ends turned.
func NewReader(r io.Reader) io.Reader { return &reader{src: r} }

type reader struct {
	src     io.Reader
	buf     [16 << 10]byte
	pending []byte // read from src, not yet given on
	cr      bool   // the last byte given on was a CR
	err     error
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.pending) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		n, err := r.src.Read(r.buf[:])
		r.pending, r.err = r.buf[:n], err
	}
	for n < len(p) && len(r.pending) > 0 {
		c := r.pending[0]
		if c == '\n' && !r.cr {
			p[n], r.cr = '\r', true
			n++
			continue
		}
		p[n], r.cr = c, c == '\r'
		n++
		r.pending = r.pending[1:]
	}
	return n, nil
}

// Size returns how many bytes NewReader would read of what is in r.
func Size(r io.Reader) (int64, error) {
	var size int64
	cr := false
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		size += int64(n)
		for _, c := range buf[:n] {
			if c == '\n' && !cr {
				size++
			}
			cr = c == '\r'
		}
		if err == io.EOF {
			return size, nil
		}
		if err != nil {
			return size, err
		}
	}
}

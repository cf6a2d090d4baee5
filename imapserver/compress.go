package imapserver

import (
	"context"
	"io"
	"net"

	"github.com/klauspost/compress/flate"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
)

// compressDeflate is RFC 4978.
func compressDeflate() *Extension {
	return &Extension{
		Name: "COMPRESS=DEFLATE", RFC: "4978",
		Capabilities: []Capability{{Name: "COMPRESS=DEFLATE", When: func(c *Conn) bool { return !c.transport.compressed }}},
		Commands: []*Command{{Name: "COMPRESS", Args: `SP "DEFLATE"`, States: LoggedIn, Stream: true, Parse: func(c *Call, d *imapwire.Decoder) Run {
			d.SP()
			algorithm := d.Keyword()
			d.CRLF()
			return func(context.Context) error { return c.compress(algorithm) }
		}}},
	}
}

func (c *Call) compress(algorithm string) error {
	conn := c.Conn
	switch {
	case algorithm != "DEFLATE":
		return &imap.Error{Kind: imap.Cannot, Text: "DEFLATE is the only compression that there is"}
	case conn.transport.compressed:
		return &imap.Error{Kind: imap.Cannot, Code: "COMPRESSIONACTIVE", Text: "Compression is active already"}
	}
	reply{"OK", "", "Compression begins"}.write(conn.enc, c.Tag)
	if err := conn.enc.Flush(); err != nil {
		return err
	}
	dc := newDeflateConn(conn.transport.nc)
	conn.transport.compressed = true
	dc.ahead = conn.switchTransport(dc)
	conn.noteState()
	return errReplied
}

// deflateConn is a connection with compression in both directions.
type deflateConn struct {
	net.Conn
	ahead []byte // compressed bytes that had been read before
	in    io.ReadCloser
	out   *flate.Writer
}

func newDeflateConn(nc net.Conn) *deflateConn {
	dc := &deflateConn{Conn: nc}
	// The inflater must not wait for more input than it needs for what has
	// been flushed to it; klauspost/compress reads from an io.ByteReader byte
	// by byte and hands out everything up to the flush.
	dc.in = flate.NewReader(&byteSource{dc: dc})
	// Level 1 costs little and gains most; a level that is known cannot fail.
	dc.out, _ = flate.NewWriter(nc, flate.BestSpeed)
	return dc
}

// Read returns what the client has sent.
func (dc *deflateConn) Read(p []byte) (int, error) { return dc.in.Read(p) }

// Write compresses and flushes: every write of the encoder is a whole response
// or a full buffer.
func (dc *deflateConn) Write(p []byte) (int, error) {
	n, err := dc.out.Write(p)
	if err == nil {
		err = dc.out.Flush()
	}
	return n, err
}

// byteSource feeds the inflater: first what had been read ahead, then the
// connection, a buffer at a time.
type byteSource struct {
	dc  *deflateConn
	buf []byte
}

func (s *byteSource) fill() error {
	if len(s.buf) > 0 {
		return nil
	}
	if len(s.dc.ahead) > 0 {
		s.buf, s.dc.ahead = s.dc.ahead, nil
		return nil
	}
	chunk := make([]byte, 2048)
	n, err := s.dc.Conn.Read(chunk)
	if n > 0 {
		s.buf = chunk[:n]
		return nil
	}
	return err
}

// ReadByte implements io.ByteReader.
func (s *byteSource) ReadByte() (byte, error) {
	if err := s.fill(); err != nil {
		return 0, err
	}
	b := s.buf[0]
	s.buf = s.buf[1:]
	return b, nil
}

// Read implements io.Reader.
func (s *byteSource) Read(p []byte) (int, error) {
	if err := s.fill(); err != nil {
		return 0, err
	}
	n := copy(p, s.buf)
	s.buf = s.buf[n:]
	return n, nil
}

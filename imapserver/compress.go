package imapserver

import (
	"context"
	"io"
	"net"
	"sync"

	"github.com/klauspost/compress/flate"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/imapwire"
	"github.com/rookery-mail/rookery/internal/inflate"
)

// compressDeflate is RFC 4978.
func compressDeflate() *Extension {
	return &Extension{
		Name: "COMPRESS=DEFLATE", RFC: "4978",
		Capabilities: []Capability{{Name: "COMPRESS=DEFLATE", When: func(c *Conn) bool { return !c.transport.compressed }}},
		Commands: []*Command{{Name: "COMPRESS", Args: `SP "DEFLATE"`, States: LoggedIn, Stream: true, Parse: func(c *Call, d *imapwire.Decoder) Run {
			d.SP()
			algorithm := keyword(d, "DEFLATE")
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
	conn.reply(c.Tag, reply{"OK", "", "Compression begins"})
	if err := conn.enc.Flush(); err != nil {
		return err
	}
	dc := newDeflateConn(conn.transport.nc, &conn.srv.deflaters)
	conn.transport.compressed = true
	dc.ahead = conn.switchTransport(dc)
	conn.noteState()
	return errReplied
}

// deflateConn is a connection with compression in both directions.
type deflateConn struct {
	net.Conn
	ahead     []byte // compressed bytes that had been read before
	in        *inflate.Reader
	deflaters *sync.Pool
}

func newDeflateConn(nc net.Conn, deflaters *sync.Pool) *deflateConn {
	dc := &deflateConn{Conn: nc, deflaters: deflaters}
	dc.in = inflate.NewReader(compressedInput{dc})
	return dc
}

// Read returns what the client has sent, as soon as it can be decoded.
func (dc *deflateConn) Read(p []byte) (int, error) {
	n, err := dc.in.Read(p)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF // clients hang up without ending the compressed stream
	}
	return n, err
}

// Write compresses and flushes: every write of the encoder is all that is to be
// said now, or a full buffer. The compressor is borrowed for it. It has a
// megabyte of tables, too much for a connection that idles; that it begins
// without a history each time costs a few percent.
func (dc *deflateConn) Write(p []byte) (int, error) {
	w, _ := dc.deflaters.Get().(*flate.Writer)
	if w == nil {
		// Level 1 costs little and gains most; a level that is known cannot fail.
		w, _ = flate.NewWriter(dc.Conn, flate.BestSpeed)
	} else {
		w.Reset(dc.Conn)
	}
	n, err := w.Write(p)
	if err == nil {
		err = w.Flush()
	}
	w.Reset(io.Discard) // the pool must not keep the connection
	dc.deflaters.Put(w)
	return n, err
}

// compressedInput is what the client sends: first what had been read ahead.
type compressedInput struct{ dc *deflateConn }

func (c compressedInput) Read(p []byte) (int, error) {
	if len(c.dc.ahead) > 0 {
		n := copy(p, c.dc.ahead)
		c.dc.ahead = c.dc.ahead[n:]
		return n, nil
	}
	return c.dc.Conn.Read(p)
}

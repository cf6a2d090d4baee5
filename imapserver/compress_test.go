package imapserver_test

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/internal/race"
)

// compressed logs in and turns compression on. What the client sends from then
// on goes out as it is; what it reads is decompressed.
func compressed(t testing.TB, srv *imapserver.Server) *client {
	t.Helper()
	c := selected(t, srv)
	c.ok("COMPRESS DEFLATE")
	c.in = bufio.NewReader(flate.NewReader(c.in))
	return c
}

// TestCompressZlib plays streams that zlib has made (internal/inflate has how),
// a byte at a time. The reply to a command must come as soon as the command can
// be decoded, whatever kind of flush is behind it; nothing more is sent before.
func TestCompressZlib(t *testing.T) {
	file, err := os.ReadFile("../internal/inflate/testdata/zlib.txt")
	if err != nil {
		t.Fatal(err)
	}
	var ends []int // where each command ends
	total := 0
	for line := range strings.Lines(string(file)) {
		line = strings.TrimSuffix(line, "\n")
		if command, ok := strings.CutPrefix(line, "> "); ok {
			total += len(command) + 2
			ends = append(ends, total)
			continue
		}
		if line[0] == '#' {
			continue
		}
		words := strings.Fields(line)
		t.Run(strings.Join(words[:3], "-"), func(t *testing.T) {
			t.Parallel()
			c := compressed(t, memoryServer(t, imapserver.Options{}))
			answered := 0
			for _, w := range words[3:] {
				part, count, _ := strings.Cut(w, ":")
				data, err := hex.DecodeString(part)
				if err != nil {
					t.Fatal(err)
				}
				for _, b := range data {
					if _, err := c.conn.Write([]byte{b}); err != nil {
						break // behind LOGOUT the server does not read on
					}
				}
				var decodable int
				fmt.Sscan(count, &decodable)
				for answered < len(ends) && ends[answered] <= decodable {
					answered++
					c.reply(fmt.Sprintf("a%d", answered))
				}
			}
			if answered != len(ends) {
				t.Errorf("%d of %d commands answered", answered, len(ends))
			}
		})
	}
}

// TestCompressPartialFlushByHand writes what zlib's Z_PARTIAL_FLUSH does: the
// command in a block with the fixed code, then an empty such block, of which
// the last bits may still be missing.
func TestCompressPartialFlushByHand(t *testing.T) {
	c := compressed(t, memoryServer(t, imapserver.Options{}))
	var w bitWriter
	for i := range 40 { // with changing alignment
		w.fixedBlock(fmt.Sprintf("h%d NOOP\r\n", i))
		w.fixedBlock("")
		for _, b := range w.whole() {
			c.send(string([]byte{b}))
		}
		c.reply(fmt.Sprintf("h%d", i))
	}
}

// bitWriter writes DEFLATE blocks with the fixed code.
type bitWriter struct {
	data []byte
	n    int
}

func (w *bitWriter) bit(v int) {
	if w.n%8 == 0 {
		w.data = append(w.data, 0)
	}
	w.data[w.n/8] |= byte(v&1) << (w.n % 8)
	w.n++
}

// fixedBlock writes a block that is not the last one.
func (w *bitWriter) fixedBlock(text string) {
	w.bit(0)
	w.bit(1) // type 01, its lowest bit first
	w.bit(0)
	for _, c := range []byte(text) { // ASCII: codes of 8 bits, the highest bit first
		for i := 7; i >= 0; i-- {
			w.bit((0x30 + int(c)) >> i)
		}
	}
	for range 7 { // end of block
		w.bit(0)
	}
}

// whole takes the bytes that are complete.
func (w *bitWriter) whole() []byte {
	n := w.n / 8
	whole := bytes.Clone(w.data[:n])
	w.data, w.n = w.data[n:], w.n%8
	return whole
}

// TestCompressBomb: what expands a thousandfold is skipped or refused like any
// other input of that size, and costs no memory.
func TestCompressBomb(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{Limits: imapserver.Limits{Skip: 1 << 30}})
	c := compressed(t, srv)
	var packed bytes.Buffer
	w, _ := flate.NewWriter(&packed, flate.BestCompression)
	const size = 48 / race.Factor << 20
	fmt.Fprintf(w, "a CREATE {%d+}\r\n", size)
	zeros := make([]byte, 1<<20)
	for range size >> 20 {
		w.Write(zeros)
	}
	io.WriteString(w, "\r\nb NOOP "+strings.Repeat("x", 3<<20)+"\r\nc NOOP\r\n")
	w.Flush()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	go io.Copy(c.conn, &packed)
	c.want("a NO [TOOBIG] ", "b BAD ", "c OK ")
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
		t.Errorf("%d MB of memory for a bomb of %d kB", grown>>20, packed.Cap()>>10)
	}
}

// TestCompressCorrupt: what is not DEFLATE ends the connection.
func TestCompressCorrupt(t *testing.T) {
	c := compressed(t, memoryServer(t, imapserver.Options{}))
	c.send("a NOOP\r\nb NOOP\r\n")
	c.wantEnd()
}

// TestCompressTail: what a client has sent right behind COMPRESS, before it was
// answered, is the begin of the compressed stream.
func TestCompressTail(t *testing.T) {
	c := selected(t, memoryServer(t, imapserver.Options{}))
	var packed bytes.Buffer
	w, _ := flate.NewWriter(&packed, 1)
	io.WriteString(w, "b NOOP\r\n")
	w.Flush()
	c.send("a COMPRESS DEFLATE\r\n" + packed.String())
	c.want("a OK ")
	c.in = bufio.NewReader(flate.NewReader(c.in))
	c.want("b OK ")
}

// TestCompressUnderTLS has all layers at once, and IDLE on top.
func TestCompressUnderTLS(t *testing.T) {
	srv := memoryServer(t, imapserver.Options{TLS: testTLS(t)})
	c := connect(t, srv)
	c.startTLS()
	c.ok("LOGIN ann secret")
	c.ok("SELECT INBOX")
	c.ok("COMPRESS DEFLATE")
	c.in = bufio.NewReader(flate.NewReader(c.in))
	w, _ := flate.NewWriter(c.conn, 6)
	io.WriteString(w, "i IDLE\r\n")
	w.Flush()
	c.want("+ idling")
	only(t, srv).Alert("news")
	c.want("* OK [ALERT] news")
	io.WriteString(w, "DONE\r\nx LOGOUT\r\n")
	w.Flush()
	c.want("i OK ", "* BYE ", "x OK ")
}

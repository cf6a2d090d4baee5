// Package mbox reads mbox files of any size and of every dialect that can be
// told apart: mboxo and mboxrd, which put a > in front of lines that begin
// with From, and mboxcl and mboxcl2, whose Content-Length says where a message
// ends.
//
// It never writes. Messages are found in one pass through the file, one at a
// time; the bytes of each are read again when they are wanted. Line ends are
// given as they are in the file. Start with [Open] and [Reader.Next].
package mbox

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/plainfile"
)

// A Reader walks through one mbox. It is used by one goroutine at a time; the
// messages that it has returned may be read by others.
type Reader struct {
	src  io.ReaderAt
	size int64
	file *os.File
	path string

	br  *bufio.Reader
	pos int64 // of the next byte of br
	// pending is the From line of the next message, already read.
	pending []byte
}

// A Message is one message of the file.
type Message struct {
	// Offset is where its From line begins.
	Offset int64
	// Digest is that of its content without the headers that mail programs
	// rewrite in place (Status and the like), so that it stays the same when a
	// flag has changed.
	Digest [sha256.Size]byte
	// Flags are those of its Status, X-Status, X-Keywords and X-Mozilla
	// headers.
	Flags []imap.Flag
	// Date is that of the From line; zero where it has none.
	Date time.Time

	src        io.ReaderAt
	start, end int64
	escaped    bool
}

// Open opens an mbox and reports an error that says what is wrong where the
// path is none, or a symbolic link.
func Open(path string) (*Reader, error) {
	file, err := plainfile.OpenPath(path)
	kind, _ := errors.AsType[*plainfile.KindError](err)
	link, _ := errors.AsType[*plainfile.LinkError](err)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no mbox at %s: the path does not exist", path)
	case link != nil:
		return nil, err
	case kind != nil && kind.Mode.IsDir():
		return nil, fmt.Errorf("%s is a directory, not an mbox: is it a Maildir? Then use `import maildir`; a directory of mboxes is imported one by one", path)
	case kind != nil:
		return nil, fmt.Errorf("%s is not a regular file: an mbox is read in more than one pass, so copy it to a file first", path)
	case err != nil:
		return nil, fmt.Errorf("cannot read the mbox: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("cannot read the mbox: %w", err)
	}
	r, err := NewReader(file, info.Size())
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	r.file, r.path = file, path
	return r, nil
}

// NewReader reads the mbox of the given size in src.
func NewReader(src io.ReaderAt, size int64) (*Reader, error) {
	r := &Reader{src: src, size: size, br: bufio.NewReaderSize(io.NewSectionReader(src, 0, size), 256<<10)}
	for { // blank lines at the top belong to nothing
		b, err := r.br.Peek(1)
		if err == io.EOF {
			return r, nil
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the mbox: %w", err)
		}
		if b[0] != '\n' && b[0] != '\r' {
			break
		}
		r.br.Discard(1)
		r.pos++
	}
	line, err := r.peekLine(maxFromLine)
	if err != nil {
		return nil, fmt.Errorf("cannot read the mbox: %w", err)
	}
	if !bytes.HasPrefix(line, []byte("From ")) {
		return nil, errors.New("this is not an mbox: it does not begin with a line \"From ...\"; one message on its own can be put into the folder \"new\" of a Maildir and imported from there")
	}
	return r, nil
}

// Close closes the file.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

// Size returns the size of the file when it was opened, for showing progress
// with Message.Offset.
func (r *Reader) Size() int64 { return r.size }

// Path returns the name with which the file was opened.
func (r *Reader) Path() string { return r.path }

// maxFromLine bounds a line that separates messages.
const maxFromLine = 4096

// Next returns the next message, and io.EOF after the last.
func (r *Reader) Next() (*Message, error) {
	var from []byte
	m := &Message{src: r.src, Offset: r.pos}
	if r.pending != nil {
		from = r.pending
		m.Offset = r.pos - int64(len(from))
		r.pending = nil
	} else {
		line, err := r.line()
		if err != nil {
			return nil, r.fail(err)
		}
		from = line
	}
	m.Date, _ = fromDate(from)
	m.start = r.pos
	w := &walker{r: r, m: m, sum: digester{Hash: sha256.New()}}
	if err := w.header(); err != nil {
		return nil, r.fail(err)
	}
	if err := w.body(); err != nil {
		return nil, r.fail(err)
	}
	m.Flags = w.flags.flags()
	w.sum.Sum(m.Digest[:0])
	return m, nil
}

func (r *Reader) fail(err error) error {
	if err == io.EOF {
		return err
	}
	return fmt.Errorf("cannot read the mbox at byte %d: %w", r.pos, err)
}

// line reads a line with its end. Of a very long line it returns a part at a
// time. The slice is valid until the next call.
func (r *Reader) line() ([]byte, error) {
	line, err := r.br.ReadSlice('\n')
	r.pos += int64(len(line))
	if err == bufio.ErrBufferFull || err == io.EOF && len(line) > 0 {
		err = nil
	}
	return line, err
}

// peekLine returns up to n bytes of the next line without reading them.
func (r *Reader) peekLine(n int) ([]byte, error) {
	b, err := r.br.Peek(n)
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i+1], nil
	}
	if err == io.EOF {
		err = nil
	}
	return b, err
}

// walker finds the end of one message and gathers what its header says.
type walker struct {
	r     *Reader
	m     *Message
	sum   digester
	flags flagHeaders
	// length is the Content-Length, or -1.
	length int64
	// bodyStart is where the body begins; the message does not end before.
	bodyStart int64
	// ended: the From line of the next message came before the header was over.
	ended bool
}

// header reads to the blank line after the header.
func (w *walker) header() error {
	w.length, w.bodyStart = -1, w.m.start
	fresh := true // at the beginning of a line
	skip := false // in a header that is not part of the digest
	for {
		at := w.r.pos
		line, err := w.r.line()
		if err == io.EOF {
			w.finish(at)
			return nil
		}
		if err != nil {
			return err
		}
		if fresh && isBlank(line) {
			w.bodyStart = w.r.pos
			w.sum.add(line)
			return nil
		}
		if fresh && at > w.m.start && mayBeFrom(line) {
			line = bytes.Clone(line) // looking ahead may overwrite it
			if isFrom(line, w.r) {
				// A header that no blank line ends. The next message begins here.
				w.next(line, at)
				return nil
			}
		}
		if fresh && line[0] != ' ' && line[0] != '\t' {
			skip = w.field(line)
		}
		if !skip {
			w.sum.add(line)
		}
		fresh = line[len(line)-1] == '\n'
	}
}

// field looks at a header field and reports whether mail programs rewrite it.
func (w *walker) field(line []byte) (volatile bool) {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return false
	}
	name, value = bytes.ToLower(bytes.TrimSpace(name)), bytes.TrimSpace(value)
	switch string(name) {
	case "content-length":
		if n, err := strconv.ParseInt(string(value), 10, 62); err == nil && n >= 0 {
			w.length = n
		}
		return true
	case "lines":
		return true
	}
	return w.flags.field(string(name), string(value))
}

// finish ends the message at a position where a From line begins, or at the
// end of the file. The blank line in front of it is the mbox's own.
func (w *walker) finish(end int64) {
	w.ended = true
	w.m.end = end
	for _, eol := range [...]string{"\r\n\r\n", "\n\n"} {
		b := make([]byte, len(eol))
		blank := int64(len(eol) / 2)
		if at := end - int64(len(eol)); at < w.m.start || end-blank < w.bodyStart {
			continue
		} else if _, err := w.r.src.ReadAt(b, at); err == nil && string(b) == eol {
			w.m.end = end - blank
			return
		}
	}
}

// next ends the message where the From line of the next one begins.
func (w *walker) next(from []byte, at int64) {
	w.r.pending = from
	w.finish(at)
}

// digester hashes a message but for the line ends at its end, so that the last
// message of a file is the same when another has been added behind it.
type digester struct {
	hash.Hash
	held []byte // line ends that nothing has followed yet
}

// add hashes the next bytes.
func (d *digester) add(b []byte) {
	content := bytes.TrimRight(b, "\r\n")
	if len(content) > 0 || len(d.held) > 64<<10 {
		d.Write(d.held)
		d.held = d.held[:0]
		d.Write(content)
	}
	d.held = append(d.held, b[len(content):]...)
}

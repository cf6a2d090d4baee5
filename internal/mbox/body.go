package mbox

import (
	"bufio"
	"bytes"
	"io"
)

// body reads to the end of the message.
func (w *walker) body() error {
	if w.ended {
		return nil
	}
	w.m.escaped = true
	if w.length > 0 {
		ok, err := w.byLength()
		if ok || err != nil {
			return err
		}
	}
	blank := true // the line before was blank
	fresh := true
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
		if fresh && mayBeFrom(line) {
			line = bytes.Clone(line) // looking ahead may overwrite it
			if blank && isFrom(line, w.r) || isStrictFrom(line, w.r) {
				w.next(line, at)
				return nil
			}
		}
		w.sum.add(line)
		blank = fresh && isBlank(line)
		fresh = line[len(line)-1] == '\n'
	}
}

// byLength takes the Content-Length for true when a From line, or the end of
// the file, stands where it says; otherwise it reads nothing. Programs that
// change a message often leave the old number behind.
func (w *walker) byLength() (bool, error) {
	end := w.r.pos + w.length
	if end > w.r.size {
		return false, nil
	}
	rest := make([]byte, min(maxFromLine, w.r.size-end))
	if _, err := w.r.src.ReadAt(rest, end); err != nil && err != io.EOF {
		return false, err
	}
	after := bytes.TrimLeft(rest, "\r\n")
	if len(rest)-len(after) > 4 || len(after) > 0 && !hasFromDate(firstLine(after)) {
		return false, nil
	}
	if len(after) == len(rest) && len(rest) > 0 && w.length > 0 {
		// No line end between: the length must end a line itself.
		var last [1]byte
		if _, err := w.r.src.ReadAt(last[:], end-1); err != nil || last[0] != '\n' {
			return false, err
		}
	}
	// A From line inside that nobody has escaped shows that this dialect does
	// not escape (mboxcl2), so nothing is to be taken away.
	body := io.NewSectionReader(w.r.src, w.r.pos, w.length)
	plain, err := w.digestBody(body)
	if err != nil {
		return false, err
	}
	w.m.escaped = !plain
	skip := w.length + int64(len(rest)-len(after))
	if _, err := io.CopyN(io.Discard, w.r.br, skip); err != nil {
		return false, err
	}
	w.r.pos += skip
	w.ended, w.m.end = true, end
	return true, nil
}

// digestBody adds a body of known length to the digest, as the reading by
// lines would, and reports whether it has a line that begins with From.
func (w *walker) digestBody(body io.Reader) (hasFrom bool, err error) {
	br := bufio.NewReaderSize(body, 64<<10)
	fresh := true
	for {
		line, err := br.ReadSlice('\n')
		if len(line) == 0 && err == io.EOF {
			return hasFrom, nil
		}
		if err != nil && err != bufio.ErrBufferFull && err != io.EOF {
			return hasFrom, err
		}
		hasFrom = hasFrom || fresh && mayBeFrom(line)
		w.sum.add(line)
		fresh = line[len(line)-1] == '\n'
	}
}

// Open returns a reader of the message: its header as it is, Status and all,
// its body with the escapes of From lines taken away.
func (m *Message) Open() io.Reader {
	raw := io.NewSectionReader(m.src, m.start, m.end-m.start)
	if !m.escaped {
		return raw
	}
	return &unescaper{br: bufio.NewReaderSize(raw, 64<<10), fresh: true}
}

// unescaper takes one > away from lines that begin with one or more and From.
type unescaper struct {
	br    *bufio.Reader
	part  []byte // of the current line, not yet given on
	fresh bool
	body  bool
}

func (u *unescaper) Read(p []byte) (int, error) {
	for len(u.part) == 0 {
		line, err := u.br.ReadSlice('\n')
		if len(line) == 0 && err != nil {
			return 0, err
		}
		u.part = line
		if u.fresh && u.body && isEscaped(line) {
			u.part = line[1:]
		}
		if u.fresh && isBlank(line) {
			u.body = true
		}
		u.fresh = line[len(line)-1] == '\n'
	}
	n := copy(p, u.part)
	u.part = u.part[n:]
	return n, nil
}

func isEscaped(line []byte) bool {
	rest := bytes.TrimLeft(line, ">")
	return len(rest) < len(line) && bytes.HasPrefix(rest, []byte("From "))
}

func isBlank(line []byte) bool {
	return len(line) == 1 && line[0] == '\n' || len(line) == 2 && line[0] == '\r' && line[1] == '\n'
}

func firstLine(b []byte) []byte {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i+1]
	}
	return b
}

package lmtp

import (
	"bytes"
	"io"
)

// dataDecoder finds the end of the message that follows DATA, which is CR LF dot
// CR LF and nothing else, and takes away the dots that lines have in front (RFC 5321
// section 4.5.2). All other bytes stay as they are: a LF without CR ends no line, nor
// does a CR without LF, so that no message can have in it what another program
// takes for its end. The zero value is at the beginning of a message.
type dataDecoder struct{ state dataState }

type dataState uint8

const (
	lineBegin dataState = iota // after CR LF, and at first
	inLine
	lineCR    // after CR
	lineDot   // after the first dot of a line, which is not given on
	lineDotCR // after that and CR, which waits to be given on
	dataEnd
)

func (d *dataDecoder) ended() bool { return d.state == dataEnd }

// decode gives w what p has of the message, in as few pieces as possible, and returns
// how much of p was used: all, or less where the message has ended.
func (d *dataDecoder) decode(w io.Writer, p []byte) (used int, err error) {
	i, from := 0, 0 // p[from:i] is yet to be given on
	give := func(b []byte) {
		if len(b) > 0 && err == nil {
			_, err = w.Write(b)
		}
	}
	for i < len(p) && d.state != dataEnd {
		switch b := p[i]; {
		case d.state == inLine:
			i += d.lines(p[i:])
		case d.state == lineCR && b == '\n':
			d.state = lineBegin
			i++
		case d.state == lineBegin && b == '.':
			give(p[from:i])
			d.state = lineDot
			i++
			from = i
		case d.state == lineDot && b == '\r':
			d.state = lineDotCR
			i++
		case d.state == lineDotCR && b == '\n':
			d.state = dataEnd
			i++
			from = i
		case d.state == lineDotCR:
			if from == i { // the CR came with what p was before
				give([]byte{'\r'})
			}
			d.state = lineCR
		default:
			d.state = inLine
		}
	}
	if d.state != lineDotCR {
		give(p[from:i])
	}
	return i, err
}

// lines goes to the next line that begins with a dot, or to the end of p.
func (d *dataDecoder) lines(p []byte) int {
	if i := bytes.Index(p, []byte("\r\n.")); i >= 0 {
		d.state = lineBegin
		return i + len("\r\n")
	}
	switch {
	case bytes.HasSuffix(p, []byte("\r\n")):
		d.state = lineBegin
	case p[len(p)-1] == '\r':
		d.state = lineCR
	}
	return len(p)
}

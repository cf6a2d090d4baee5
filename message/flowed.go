package message

// flower joins the lines that format=flowed (RFC 3676) breaks softly.
type flower struct {
	delSp bool

	lineLen int     // of the current line, without quote marks
	head    [4]byte // its beginning
	joined  bool    // the current line continues the one before
	last    byte
}

// join returns b without soft line breaks; it works in place.
func (f *flower) join(b []byte) []byte {
	out := b[:0]
	for _, c := range b {
		if c == '\n' {
			soft := f.last == ' ' && f.lineLen > 0 && (f.lineLen != 3 || string(f.head[:3]) != "-- ")
			*f = flower{delSp: f.delSp, joined: soft}
			if !soft {
				out = append(out, c)
			} else if f.delSp && len(out) > 0 {
				out = out[:len(out)-1]
			}
			continue
		}
		if f.lineLen == 0 {
			if c == '>' {
				if !f.joined {
					out = append(out, c)
				}
				f.last = c
				continue
			}
			if c == ' ' && (f.last == '>' || f.last == 0) { // space-stuffing
				if !f.joined {
					out = append(out, c)
				}
				f.last = 1
				continue
			}
		}
		if f.lineLen < len(f.head) {
			f.head[f.lineLen] = c
		}
		f.lineLen++
		f.last = c
		out = append(out, c)
	}
	return out
}

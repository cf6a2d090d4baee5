package mailstore

import (
	"encoding/binary"
	"fmt"

	"github.com/rookery-mail/rookery/mailstore/driver"
	"github.com/rookery-mail/rookery/mailstore/textindex"
	"github.com/rookery-mail/rookery/message"
)

// sampledTexts is how many messages of a segment are compared with their texts.
// Of a small segment it is all.
const sampledTexts = 64

// textIndex reads the text index as a whole, and compares it with the texts of
// some messages. What is wrong with it makes no message unreadable, but
// searches would miss some.
func (c *checker) textIndex(r driver.Reader) error {
	const advice = "; `rookery index --rebuild` makes it anew"
	var d textDeriver
	data, ok, err := r.Get(markKey(&d))
	if err != nil || !ok {
		return c.indexDamage("its mark", err, advice)
	}
	p, err := decodeProgress(data)
	if err != nil {
		return c.indexDamage("its mark", err, advice)
	}
	if p.version != d.version() {
		return nil // it is deleted when the account is used
	}
	dir, err := readDirectory(r)
	if err != nil {
		return c.indexDamage("its directory", err, advice)
	}
	if dir.last() != p.mark {
		c.found(nil, 0, "the text index ends with message %d, and %d are marked as indexed%s", dir.last(), p.mark, advice)
	}
	pages := make(map[uint64]int) // by segment, those that are missing
	for _, s := range dir.segments {
		pages[s.num] = s.Pages
	}
	err = scanPrefix(r, []byte{keySegPage}, func(key, _ []byte) error {
		if num := numOfKey(key[:9]); num != dir.writing {
			pages[num]--
		}
		return nil
	})
	if err != nil {
		return c.indexDamage("its pages", err, advice)
	}
	for num, n := range pages {
		if n < 0 {
			c.found(nil, 0, "the text index has %d pages too many of segment %d%s", -n, num, advice)
		}
	}
	for i := range dir.segments {
		s := &dir.segments[i]
		what := fmt.Sprintf("the segment of messages %d to %d", s.First, s.Last)
		wrong, err := textindex.Verify(textindex.Input{Segment: s.Segment, Source: &pageSource{r: r, seg: s.num}}, sample(r, s),
			func(msg uint64) ([][]byte, bool) { return indexedTexts(r, msg) })
		if err != nil {
			if err := c.indexDamage(what, err, advice); err != nil {
				return err
			}
			continue
		}
		for _, msg := range wrong {
			c.foundMessage(msg, "is not in the text index as its text is%s", advice)
		}
	}
	return nil
}

// textMark returns up to which message all have their texts.
func textMark(r driver.Reader) (uint64, error) {
	data, ok, err := r.Get(markKey(textKeeper{}))
	if err != nil && !isDamage(err) || !ok {
		return 0, err
	}
	p, err := decodeProgress(data)
	if err != nil || p.version != (textKeeper{}).version() {
		return 0, nil // it is made anew
	}
	return p.mark, nil
}

// indexDamage notes damage of the text index, and returns errors of another
// kind.
func (c *checker) indexDamage(what string, err error, advice string) error {
	if !damagedIndex(err) && !isDamage(err) {
		return err
	}
	c.found(nil, 0, "the text index is damaged (%s): %v%s", what, err, advice)
	return nil
}

// sample returns some messages of a segment.
func sample(r driver.Reader, s *segment) (msgs []uint64) {
	step := uint64(max(1, s.Span()/sampledTexts))
	for msg := s.First; msg <= s.Last; msg += step {
		// The next that is there, without reading all numbers.
		err := scanRange(r, numKey(keyMessage, msg), numKey(keyMessage, min(msg+step, s.Last+1)), func(key, _ []byte) error {
			msgs = append(msgs, binary.BigEndian.Uint64(key[1:]))
			return errEnough
		})
		_ = err // the check of the records tells
	}
	return msgs
}

// indexedTexts returns what a message is to be found by, ok false where its
// text tells nothing: it is cut off, or made anew when it is wanted.
func indexedTexts(r driver.Reader, msg uint64) (texts [][]byte, ok bool) {
	data, ok, err := r.Get(numKey(keyText, msg))
	if err != nil || !ok {
		return nil, false
	}
	t := currentText(data)
	if t == nil || t.Truncated || t.Version != message.Version {
		return nil, false
	}
	return [][]byte{t.Header, t.MIME, t.Body}, true
}

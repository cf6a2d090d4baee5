package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/rookery-mail/rookery/internal/crlf"
	"github.com/rookery-mail/rookery/internal/maildir"
	"github.com/rookery-mail/rookery/internal/mbox"
)

// Mail is a supply of messages that never ends: those that it has, in turn,
// each time with another Message-ID. It is safe for concurrent use.
type Mail struct {
	source string
	texts  []text
	bytes  int64
	next   atomic.Int64 // text to take
	ids    atomic.Int64 // Message-IDs so far

	// Rare is a word of few messages, Common one of most, Part a part of Rare;
	// FromWord and SubjectWord are in the header of some.
	rare, common, fromWord, subjectWord string
}

// text is a message without its Message-ID: the header before, what follows.
type text struct{ before, after []byte }

// message is one message of the supply.
type message struct {
	*text
	number int64
}

const (
	idBefore = "Message-ID: <"
	idAfter  = ".bench@rookery.invalid>\r\n"
	idDigits = 12
	idSize   = len(idBefore) + idDigits + len(idAfter)
)

func (m message) size() int { return len(m.before) + idSize + len(m.after) }

// appendTo appends the message to b.
func (m message) appendTo(b []byte) []byte {
	b = slices.Grow(b, m.size())
	b = append(append(b, m.before...), idBefore...)
	var digits [20]byte
	d := strconv.AppendInt(digits[:0], m.number, 10)
	for range idDigits - len(d) {
		b = append(b, '0')
	}
	b = append(append(b, d...), idAfter...)
	return append(b, m.after...)
}

// take returns the next message.
func (m *Mail) take() message {
	n := m.next.Add(1) - 1
	return message{&m.texts[n%int64(len(m.texts))], m.ids.Add(1) - 1}
}

// seek has take go on at a part of the texts, from 0 to 1. Message-IDs go on too.
func (m *Mail) seek(part float64) { m.next.Store(int64(part * float64(len(m.texts)))) }

// takeAt returns a message with the i-th text: mailboxes that are filled from 0
// on hold the same mail on every server, whatever has been taken before, so that
// searches find the same in them.
func (m *Mail) takeAt(i int) message {
	return message{&m.texts[i%len(m.texts)], m.ids.Add(1) - 1}
}

// MailSummary describes the mail of a run.
type MailSummary struct {
	Source   string  `json:"source"`
	Distinct int     `json:"distinct"` // messages before they repeat
	Mean     float64 `json:"mean"`     // of their sizes, in bytes
	Median   float64 `json:"median"`
	Largest  float64 `json:"largest"`
	Rare     string  `json:"rare"`
	Common   string  `json:"common"`
}

// Messages returns the first n of the supply, as often as they are wanted.
func (m *Mail) Messages(n int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i := range n {
			if !yield(m.takeAt(i).appendTo(nil)) {
				return
			}
		}
	}
}

// Summary describes the mail.
func (m *Mail) Summary() MailSummary {
	sizes := make([]float64, len(m.texts))
	for i := range m.texts {
		sizes[i] = float64(message{&m.texts[i], 0}.size())
	}
	return MailSummary{Source: m.source, Distinct: len(m.texts), Mean: float64(m.bytes) / float64(len(m.texts)),
		Median: median(sizes), Largest: quantile(sizes, 1), Rare: m.rare, Common: m.common}
}

// add takes a message with CRLF line ends into the supply, less its Message-ID.
func (m *Mail) add(raw []byte) {
	t := text{after: raw}
	for at := 0; at < len(raw) && !bytes.HasPrefix(raw[at:], []byte("\r\n")); {
		end := bytes.IndexByte(raw[at:], '\n')
		if end < 0 {
			break
		}
		if end > len("message-id:") && strings.EqualFold(string(raw[at:at+len("message-id:")]), "message-id:") {
			rest := at + end + 1
			for rest < len(raw) && (raw[rest] == ' ' || raw[rest] == '\t') { // folded
				n := bytes.IndexByte(raw[rest:], '\n')
				if n < 0 {
					break
				}
				rest += n + 1
			}
			t.before, t.after = raw[:at], raw[rest:]
			break
		}
		at += end + 1
	}
	m.texts = append(m.texts, t)
	m.bytes += int64(len(t.before) + idSize + len(t.after))
}

// poolSize bounds what a supply holds in memory, in bytes.
const poolSize = 256 << 20

// LoadMail reads an mbox or a Maildir, up to some hundred megabytes of it. A
// message that holds a NUL, which APPEND cannot carry, is left out.
func LoadMail(path string) (*Mail, error) {
	m := &Mail{source: path}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("the mail cannot be read: %w", err)
	}
	read := m.readMbox
	if info.IsDir() {
		read = m.readMaildir
	}
	if err := read(path); err != nil {
		return nil, err
	}
	if len(m.texts) == 0 {
		return nil, fmt.Errorf("%s has no messages", path)
	}
	m.chooseWords()
	return m, nil
}

func (m *Mail) readMbox(path string) error {
	r, err := mbox.Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	for m.bytes < poolSize {
		msg, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := m.addFrom(msg.Open()); err != nil {
			return err
		}
	}
	return nil
}

func (m *Mail) readMaildir(path string) error {
	md, err := maildir.Open(path)
	if err != nil {
		return err
	}
	defer md.Close()
	folders, _, err := md.Folders()
	if err != nil {
		return err
	}
	for _, f := range folders {
		messages, _, err := f.Messages()
		if err != nil {
			return err
		}
		for i := range messages {
			if m.bytes >= poolSize {
				return nil
			}
			file, err := messages[i].Open()
			if err != nil {
				return err
			}
			err = m.addFrom(file)
			file.Close()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *Mail) addFrom(r io.Reader) error {
	raw, err := io.ReadAll(crlf.NewReader(r))
	if err != nil {
		return err
	}
	if len(raw) > 0 && bytes.IndexByte(raw, 0) < 0 {
		m.add(raw)
	}
	return nil
}

// chooseWords looks for words to search: in the bodies one that about a
// thousandth of the messages has, and one that most have.
func (m *Mail) chooseWords() {
	const look = 4000
	seen := make(map[string]int)
	texts := m.texts[:min(look, len(m.texts))]
	for i := range texts {
		words := make(map[string]bool)
		_, body, _ := bytes.Cut(texts[i].after, []byte("\r\n\r\n"))
		for line := range bytes.Lines(body[:min(len(body), 32<<10)]) {
			if len(line) > 78 || bytes.IndexByte(line, ' ') < 0 {
				continue // coded, as it seems
			}
			for w := range bytes.FieldsFuncSeq(line, func(r rune) bool { return r < 'a' || r > 'z' }) {
				if len(w) >= 4 && len(w) <= 24 {
					words[string(w)] = true
				}
			}
		}
		for w := range words {
			seen[w]++
		}
		m.headerWords(&texts[i])
	}
	goal := max(1, float64(len(texts))/1000)
	best := math.Inf(1)
	most := 0
	for w, n := range seen {
		if n > most || n == most && w < m.common {
			m.common, most = w, n
		}
		// The longer a word the more likely it is no part of another one.
		score := math.Abs(math.Log(float64(n)/goal)) + 6/float64(len(w))
		if score < best || score == best && w < m.rare {
			m.rare, best = w, score
		}
	}
}

// headerWords takes the last word of the first From and Subject that has one.
func (m *Mail) headerWords(t *text) {
	header, _, _ := bytes.Cut(slices.Concat(t.before, t.after), []byte("\r\n\r\n"))
	for line := range strings.SplitSeq(string(header), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		word := &m.fromWord
		if strings.EqualFold(name, "subject") {
			word = &m.subjectWord
		} else if !strings.EqualFold(name, "from") {
			continue
		}
		for w := range strings.FieldsFuncSeq(value, func(r rune) bool { return (r|0x20) < 'a' || (r|0x20) > 'z' }) {
			if *word == "" && len(w) >= 4 && !strings.Contains(value, "=?") {
				*word = w
			}
		}
	}
}

package bench

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/rand/v2"
	"mime"
	"mime/quotedprintable"
	"strings"
	"time"
)

// Bounds of the sizes of generated messages, in bytes.
const (
	smallest = 2_000
	largest  = 10_000_000
	distinct = 64 << 20 // bytes of messages before they repeat
)

// Of the few very large messages.
const (
	largeFrom = 200_000 // bytes
	largeRate = 3_000   // one of about so many messages, or of more
)

// GenerateMail makes up to n messages (after about 64 MB they repeat) whose
// sizes have about the given mean and vary as those of real mail do: most are small,
// few are large, and about one of 3,000 (of more, where the mean is below 5 kB) has
// 200 kB to 10 MB. About a third has alternatives in HTML, a tenth has attachments, many
// are answers in threads, and some are not ASCII. The same seed gives the same
// messages.
func GenerateMail(n int, mean float64, seed uint64) (*Mail, error) {
	if mean < smallest*1.1 || mean > largest/10 {
		return nil, fmt.Errorf("the mean size of generated messages is %.0f bytes; it can be from %d to %d", mean, int(smallest*1.1), largest/10)
	}
	m := &Mail{source: fmt.Sprintf("generated, mean %.0f bytes, seed %d", mean, seed)}
	g := &generator{rng: rand.New(rand.NewPCG(seed, 1)), words: vocabulary(rand.New(rand.NewPCG(1, 2)))}
	big, others := large(mean, seed)
	const sigma = 1.1
	mu := math.Log(others-smallest) - sigma*sigma/2
	for len(m.texts) < max(n, 1) && m.bytes < distinct {
		size := smallest + math.Exp(mu+sigma*g.rng.NormFloat64())
		if s, ok := big[len(m.texts)]; ok {
			size = s
		}
		m.add([]byte(g.message(len(m.texts), int(min(size, largest)))))
	}
	m.chooseWords()
	return m, nil
}

// large says which messages are very large, and how large: their sizes are spread
// evenly over the logarithms from largeFrom to largest. There are a handful of them
// before messages repeat, so they are not left to chance: they are far from each
// other, in their places as in their sizes, and the others get the mean that
// makes the mean of all the one that is wanted. They leave a quarter at least of what
// it has above the smallest messages.
func large(mean float64, seed uint64) (sizes map[int]float64, others float64) {
	above := mean - smallest
	n := distinct / mean // messages before they repeat
	to := min(largest, above*n/2)
	usual := (to - largeFrom) / math.Log(to/largeFrom) // the mean of their sizes
	every := max(largeRate, int(4*usual/above))
	rng := rand.New(rand.NewPCG(seed, 2))
	sizes, at, sum := make(map[int]float64), rng.Float64(), 0.0
	for block := 0; float64(block) < n; block += every {
		// Steps of the golden ratio fill a range evenly, however many there are.
		_, at = math.Modf(at + math.Phi)
		if i := block + rng.IntN(every/3); float64(i) < n {
			sizes[i] = largeFrom * math.Pow(to/largeFrom, at)
			sum += sizes[i]
		}
	}
	return sizes, (mean*n - sum) / (n - float64(len(sizes)))
}

// generator makes messages.
type generator struct {
	rng   *rand.Rand
	words []string
}

// vocabulary makes words that can be said, the same in every run.
func vocabulary(rng *rand.Rand) []string {
	const count = 12_000
	on := strings.Fields("b br c ch d dr f fl g gr h j k kl l m n p pl qu r s sh st t tr v w z")
	mid := strings.Fields("a e i o u ai ea ee io ou")
	off := strings.Fields("l n r s t nd rk st ng m x")
	pick := func(from []string) string { return from[rng.IntN(len(from))] }
	words := strings.Fields("the and that have with this from they would there their what about which when make like time just know take people into year your good some could them than then look only come over think also back after work first well even want because these give most")
	known := make(map[string]bool, count)
	for len(words) < count {
		var b strings.Builder
		for range 1 + min(len(words)/1500, 2) + rng.IntN(2) {
			b.WriteString(pick(on) + pick(mid))
		}
		b.WriteString(pick(off))
		if w := b.String(); !known[w] {
			known[w] = true
			words = append(words, w)
		}
	}
	return words
}

// word picks a word, the first ones far more often, as in a language.
func (g *generator) word() string {
	u := g.rng.Float64()
	return g.words[int(float64(len(g.words))*u*u*u*u)]
}

// prose makes lines of words, n bytes or a little more.
func (g *generator) prose(n int, foreign bool) string {
	var b strings.Builder
	b.Grow(n + 80)
	if g.rng.IntN(4) == 0 { // a word that about one message in a thousand has
		k := g.rng.IntN(250)
		b.WriteString(g.words[4000+k] + g.words[6000+7*k] + " ")
	}
	for line := 0; b.Len() < n; {
		w := g.word()
		if foreign && g.rng.IntN(6) == 0 {
			w = [...]string{"größer", "über", "señal", "déjà", "日本語", "письмо", "łąka"}[g.rng.IntN(7)]
		}
		b.WriteString(w)
		if line += len(w) + 1; line > 66 {
			b.WriteString("\r\n")
			line = 0
		} else {
			b.WriteByte(' ')
		}
	}
	b.WriteString("\r\n")
	return b.String()
}

var people = [...]string{"Ann Crow", "Bob Jackdaw", "Carla Muñoz", "Dmitri Rook", "Eve Magpie", "Frank Jay", "Grete Häher", "渡辺 鴉", "Ida Raven", "Jonas Chough"}

func (g *generator) address() string {
	i := g.rng.IntN(len(people))
	return fmt.Sprintf("%s <person%d@example.org>", mime.QEncoding.Encode("UTF-8", people[i]), i*31+g.rng.IntN(30))
}

// message makes the n-th message, of about the given size.
func (g *generator) message(n, size int) string {
	foreign := g.rng.IntN(6) == 0
	thread := n - g.rng.IntN(min(n, 400)+1)
	reply := thread != n && g.rng.IntN(2) == 0
	if !reply {
		thread = n
	}
	topic := rand.New(rand.NewPCG(uint64(thread), 7))
	subject := g.words[topic.IntN(3000)] + " " + g.words[topic.IntN(9000)] + " " + g.words[topic.IntN(400)]
	if topic.IntN(8) == 0 {
		subject += " für Köln"
	}
	date := time.Date(2020, 1, 1, 8, 0, 0, 0, time.UTC).Add(time.Duration(n)*11*time.Minute + time.Duration(g.rng.IntN(86400))*time.Second)
	var b strings.Builder
	b.Grow(size + 4096)
	fmt.Fprintf(&b, "Return-Path: <person%d@example.org>\r\nReceived: from mx%d.example.org (mx%d.example.org [192.0.2.%d])\r\n\tby mail.example.net with ESMTPS id %012x\r\n\tfor <me@example.net>; %s\r\n",
		g.rng.IntN(300), g.rng.IntN(9), g.rng.IntN(9), g.rng.IntN(250), g.rng.Uint64()>>16, date.Format(time.RFC1123Z))
	b.WriteString("From: " + g.address() + "\r\nTo: Me <me@example.net>")
	for range g.rng.IntN(3) {
		b.WriteString(",\r\n " + g.address())
	}
	if reply {
		subject = "Re: " + subject
		fmt.Fprintf(&b, "\r\nIn-Reply-To: <root.%d@example.org>\r\nReferences: <root.%d@example.org>", thread, thread)
		if g.rng.IntN(2) == 0 {
			fmt.Fprintf(&b, "\r\n <reply.%d.%d@example.org>", thread, g.rng.IntN(4))
		}
	}
	fmt.Fprintf(&b, "\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <root.%d@example.org>\r\nMIME-Version: 1.0\r\nX-Mailer: Wings %d.%d\r\n",
		mime.QEncoding.Encode("UTF-8", subject), date.Format(time.RFC1123Z), n, g.rng.IntN(9), g.rng.IntN(9))
	if g.rng.IntN(3) == 0 {
		b.WriteString("List-Id: Birds of the roof <roof.lists.example.org>\r\nPrecedence: list\r\n")
	}
	g.body(&b, n, size-b.Len(), foreign)
	return b.String()
}

// body writes the MIME fields and what they say, about n bytes.
func (g *generator) body(b *strings.Builder, number, n int, foreign bool) {
	n = max(n, 200)
	kind := g.rng.IntN(10)
	switch {
	case kind < 1 || n > 60_000:
		boundary := fmt.Sprintf("=_mixed_%d", number)
		fmt.Fprintf(b, "Content-Type: multipart/mixed; boundary=\"%s\"\r\n\r\n--%s\r\n", boundary, boundary)
		words := min(n/3, 6000)
		g.textPart(b, "plain", g.prose(words, foreign), foreign)
		name := g.word() + ".pdf"
		fmt.Fprintf(b, "\r\n--%s\r\nContent-Type: application/pdf; name=\"%s\"\r\nContent-Disposition: attachment; filename=\"%s\"\r\nContent-Transfer-Encoding: base64\r\n\r\n", boundary, name, name)
		g.base64(b, n-words-300)
		fmt.Fprintf(b, "--%s--\r\n", boundary)
	case kind < 4:
		boundary := fmt.Sprintf("=_alt_%d", number)
		fmt.Fprintf(b, "Content-Type: multipart/alternative;\r\n boundary=\"%s\"\r\n\r\n--%s\r\n", boundary, boundary)
		plain := g.prose(n*2/5, foreign)
		g.textPart(b, "plain", plain, foreign)
		fmt.Fprintf(b, "\r\n--%s\r\n", boundary)
		html := "<html><body style=\"font-family: sans-serif\"><p>" + strings.ReplaceAll(plain, "\r\n", "</p>\r\n<p>") + "</p></body></html>\r\n"
		g.textPart(b, "html", html, foreign)
		fmt.Fprintf(b, "\r\n--%s--\r\n", boundary)
	default:
		g.textPart(b, "plain", g.prose(n-120, foreign), foreign)
	}
}

// textPart writes a part of text: as it is, or in an encoding.
func (g *generator) textPart(b *strings.Builder, subtype, text string, foreign bool) {
	fmt.Fprintf(b, "Content-Type: text/%s; charset=utf-8\r\n", subtype)
	switch {
	case foreign && g.rng.IntN(2) == 0:
		b.WriteString("Content-Transfer-Encoding: base64\r\n\r\n")
		writeBase64(b, []byte(text))
	case foreign || subtype == "html":
		b.WriteString("Content-Transfer-Encoding: quoted-printable\r\n\r\n")
		w := quotedprintable.NewWriter(b)
		_, _ = w.Write([]byte(text)) // a Builder takes everything
		_ = w.Close()
	default:
		b.WriteString("Content-Transfer-Encoding: 7bit\r\n\r\n" + text)
	}
}

// base64 writes about n bytes of coded noise.
func (g *generator) base64(b *strings.Builder, n int) {
	noise := make([]byte, max(n, 64)*3/4)
	for i := range noise {
		noise[i] = byte(g.rng.Uint32())
	}
	writeBase64(b, noise)
}

func writeBase64(b *strings.Builder, data []byte) {
	const line = 57 // bytes that make 76 characters
	for len(data) > 0 {
		n := min(line, len(data))
		b.WriteString(base64.StdEncoding.EncodeToString(data[:n]))
		b.WriteString("\r\n")
		data = data[n:]
	}
}

package imapserver_test

import (
	"compress/flate"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/internal/race"
)

func attackSlowReader(a *attacker) error {
	if err := a.login(); err != nil {
		return err
	}
	if err := a.say("y FETCH 1:* (FLAGS BODY.PEEK[])\r\n"); err != nil {
		return err
	}
	return a.expectAndStay("* 1 FETCH")
}

// attackSlowIdler has one client change the mailbox that all others watch
// without reading what they are told.
func attackSlowIdler(a *attacker) error {
	if err := a.login(); err != nil {
		return err
	}
	if a.number > 0 {
		if err := a.say("y IDLE\r\n"); err != nil {
			return err
		}
		return a.expectAndStay("+")
	}
	for i := range 100 {
		sign := "+-"[i%2]
		if err := a.command(fmt.Sprintf("STORE 1:* %cFLAGS.SILENT (\\Flagged a%d)", sign, i), "OK"); err != nil {
			return err
		}
	}
	return nil
}

func attackSlowWriter(size, sent int) func(*attacker) error {
	return func(a *attacker) error {
		if err := a.login(); err != nil {
			return err
		}
		if err := a.say(fmt.Sprintf("y APPEND INBOX {%d+}\r\nSubject: slow\r\n\r\n", size)); err != nil {
			return err
		}
		// The server may take no more of it for now; that is where it stays.
		a.inPlace()
		_ = a.flood("x", sent-8192-17)
		return nil
	}
}

func attackNeverSent(a *attacker) error {
	if err := a.login(); err != nil {
		return err
	}
	command := []string{"APPEND INBOX {60000000}", "APPEND INBOX {200000}", "CREATE {60000}", "SEARCH BODY {60000}"}[a.number%4]
	if err := a.say("y " + command + "\r\n"); err != nil {
		return err
	}
	return a.expectAndStay("+")
}

func attackSilent(a *attacker) error { return a.expectAndStay("* OK") }

func attackLine(a *attacker) error {
	if a.number%2 == 0 {
		if err := a.login(); err != nil {
			return err
		}
	}
	go io.Copy(io.Discard, a)
	begin := []string{"y NOOP ", "y LIST \"\" \"", "", "y SEARCH SUBJECT "}[a.number/2%4]
	if err := a.say(begin); err != nil {
		return err
	}
	_ = a.flood("y", 30_000_000/race.Factor) // it may be cut off
	return nil
}

func attackDeep(a *attacker) error {
	if err := a.login(); err != nil {
		return err
	}
	for _, begin := range []string{"SEARCH ", "SEARCH NOT ", "FETCH 1 ", "LIST ", "STORE 1 FLAGS ", "STATUS INBOX ", "ID "} {
		if err := a.command(begin+strings.Repeat("(", 250_000), "BAD"); err != nil {
			return err
		}
		if err := a.command(begin+strings.Repeat("(", 60_000)+"SEEN"+strings.Repeat(")", 60_000), "BAD"); err != nil {
			return err
		}
	}
	if err := a.command("SEARCH "+strings.Repeat("NOT ", 60_000)+"SEEN", "BAD"); err != nil {
		return err
	}
	return a.command("SEARCH "+strings.Repeat("OR SEEN ", 30_000)+"SEEN", "BAD")
}

func attackSets(a *attacker) error {
	if err := a.login(); err != nil {
		return err
	}
	var set strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&set, ",%d:%d", 100_000-4*i, 100_002-4*i)
	}
	for _, command := range []string{"UID FETCH 1%s FLAGS", "SEARCH UID 1%s", "UID STORE 1%s +FLAGS.SILENT (\\Seen)", "UID COPY 5%s INBOX", "UID EXPUNGE 5%s", "UID SEARCH NOT UID 1%s"} {
		if err := a.command(fmt.Sprintf(command, set.String()), "OK"); err != nil {
			return err
		}
	}
	return nil
}

func attackKeys(a *attacker) error {
	if err := a.login(); err != nil {
		return err
	}
	for _, key := range []string{" NOT LARGER %d", " NOT SUBJECT s%d", " NOT HEADER X-%d x", " NOT KEYWORD k%d", " UNSEEN OLDER %d1000"} {
		err := a.commandBy(func(w io.Writer) {
			io.WriteString(w, "SEARCH")
			for i := range 10_000 / 2 {
				fmt.Fprintf(w, key+key, 1000+i, 2000+i)
			}
		}, "OK")
		if err != nil {
			return err
		}
	}
	return nil
}

// attackPatterns asks what costs the product of two things that the client has
// chosen: patterns and names of mailboxes, header fields and their names.
func attackPatterns(a *attacker) error {
	if err := a.login(); err != nil {
		return err
	}
	for i := range 50 {
		if err := a.command(fmt.Sprintf("CREATE %s/%d-%d", strings.Repeat("ab", 100), a.number, i), "OK"); err != nil {
			return err
		}
	}
	var short, fields strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&short, " *a*b%d", i)
		fmt.Fprintf(&fields, " X%d", i)
	}
	long := strings.Repeat(strings.Repeat("*a*b", 80)+"z ", 25) + "z"
	for _, c := range []struct{ command, want string }{
		{"LIST \"\" (z" + short.String() + ")", "NO [LIMIT]"},
		{"LIST " + strings.Repeat("r", 60_000) + " (" + long + ")", "NO [LIMIT]"},
		{"LIST \"\" (" + long + ")", "OK"},
		{"LIST (SUBSCRIBED RECURSIVEMATCH) \"\" (" + long + ")", "OK"},
		{"LIST \"\" INBOX RETURN (STATUS (" + strings.Repeat("MESSAGES ", 20_000) + "UNSEEN))", "OK"},
		{"LSUB \"\" " + strings.Repeat("*a*b", 250) + "%", "OK"},
		{"FETCH 1:* BODY.PEEK[HEADER.FIELDS (A" + fields.String() + ")]", "OK"},
	} {
		if err := a.command(c.command, c.want); err != nil {
			return err
		}
	}
	return nil
}

func attackBomb(a *attacker) error {
	if err := a.login(); err != nil {
		return err
	}
	if err := a.command("COMPRESS DEFLATE", "OK"); err != nil {
		return err
	}
	go io.Copy(io.Discard, a)
	w, err := flate.NewWriter(a, flate.BestCompression)
	if err != nil {
		return err
	}
	const size = 48 / race.Factor << 20
	zeros := make([]byte, 64<<10)
	begin := []string{fmt.Sprintf("y CREATE {%d+}\r\n", size), "y NOOP ", fmt.Sprintf("y APPEND Nowhere {%d+}\r\n", size)}[a.number%3]
	_, _ = io.WriteString(w, begin)
	for range size / len(zeros) {
		if _, err := w.Write(zeros); err != nil {
			return nil // it has been cut off
		}
	}
	_ = w.Flush()
	return nil
}

// bombard appends messages and asks all that can be asked of them.
func (a *attacker) bombard(messages ...func() (head, each, tail string, n int)) error {
	if err := a.login(); err != nil {
		return err
	}
	for _, message := range messages {
		head, each, tail, n := message()
		n /= race.Factor
		if testing.Short() {
			n /= 10
		}
		size := len(head) + n*len(each) + len(tail)
		if err := a.say(fmt.Sprintf("zz9 APPEND INBOX {%d+}\r\n%s", size, head)); err != nil {
			return err
		}
		chunk := strings.Repeat(each, 100)
		for range n / 100 {
			if err := a.say(chunk); err != nil {
				return err
			}
		}
		if err := a.say(strings.Repeat(each, n%100) + tail + "\r\n"); err != nil {
			return err
		}
		if err := a.expect("zz9 OK"); err != nil {
			return err
		}
	}
	for _, command := range []string{
		"FETCH 5:* (ENVELOPE BODYSTRUCTURE BODY PREVIEW RFC822.SIZE)", "FETCH 5:* (BODY.PEEK[HEADER])",
		"FETCH 5:* (BODY.PEEK[HEADER.FIELDS (SUBJECT X-BOMB)])", "FETCH 5:* (BODY.PEEK[HEADER.FIELDS.NOT (SUBJECT)])",
		"FETCH 5:* (BODY.PEEK[1] BODY.PEEK[1.1.1.1.1.MIME])", "SEARCH TEXT nothing", "SEARCH HEADER X-Bomb nothing",
	} {
		if err := a.command(command, "OK"); err != nil {
			return err
		}
	}
	return nil
}

func attackMIME(a *attacker) error {
	return a.bombard(
		func() (string, string, string, int) {
			return "Content-Type: multipart/mixed; boundary=b\r\n\r\n", "--b\r\n\r\nx\r\n", "--b--\r\n", 1_000_000
		},
		func() (string, string, string, int) {
			return "", "Content-Type: message/rfc822\r\n\r\n", "end", 100_000
		},
		func() (string, string, string, int) {
			return "", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", "end", 100_000
		},
	)
}

func attackHeader(a *attacker) error {
	return a.bombard(
		func() (string, string, string, int) { return "", "X-Bomb: some words of text\r\n", "\r\nbody", 100_000 },
		func() (string, string, string, int) { return "To: x@y", ",\r\n a@b", "\r\n\r\nbody", 300_000 },
		func() (string, string, string, int) { return "References: ", "<a@b>\r\n ", "x\r\n\r\nbody", 300_000 },
	)
}

// expectAndStay reads up to a line, and no more from then on.
func (a *attacker) expectAndStay(prefix string) error {
	if err := a.expect(prefix); err != nil {
		return err
	}
	a.inPlace()
	return nil
}

package imap

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Inbox is the name of the mailbox that every account has, in its canonical
// case (RFC 9051 section 5.1).
const Inbox = "INBOX"

// MaxMailboxName is how many bytes of UTF-8 a mailbox name may have.
const MaxMailboxName = 1000

// NormalizeMailbox returns the one form in which a mailbox name is stored and
// compared: NFC (Net-Unicode, RFC 9051 section 5.1), with a first component of
// "inbox" in any case as "INBOX". name is UTF-8 (see [DecodeUTF7]); sep is the
// hierarchy separator, zero where names are flat.
//
// It refuses what is no name: the empty name, bytes that are no UTF-8, control
// characters, line and paragraph separators, empty components, and names of
// more than [MaxMailboxName] bytes. A CREATE may carry one separator at its
// end (RFC 9051 section 6.3.4), which the caller removes first. Errors have
// the kind Cannot and a text for the client.
func NormalizeMailbox(name string, sep rune) (string, error) {
	if name == "" {
		return "", badName("mailbox name is empty")
	}
	if len(name) > MaxMailboxName {
		return "", badName(fmt.Sprintf("mailbox name is longer than %d bytes", MaxMailboxName))
	}
	ascii := true
	for i, r := range name {
		switch {
		case r < ' ' || 0x7f <= r && r < 0xa0:
			return "", badName(fmt.Sprintf("mailbox name has the control character U+%04X", r))
		case r == 0x2028 || r == 0x2029:
			return "", badName("mailbox name has a line or paragraph separator")
		case r == utf8.RuneError && !strings.HasPrefix(name[i:], "\uFFFD"):
			return "", badName("mailbox name is not valid UTF-8")
		}
		ascii = ascii && r < 0x80
	}
	if !ascii {
		// NFC can lengthen a name, so the limit is asked for once more.
		if name = norm.NFC.String(name); len(name) > MaxMailboxName {
			return "", badName(fmt.Sprintf("mailbox name is longer than %d bytes", MaxMailboxName))
		}
	}
	if sep != 0 {
		s := string(sep)
		switch {
		case strings.HasPrefix(name, s):
			return "", badName(fmt.Sprintf("mailbox name begins with the separator %q", s))
		case strings.HasSuffix(name, s):
			return "", badName(fmt.Sprintf("mailbox name ends with the separator %q", s))
		case strings.Contains(name, s+s):
			return "", badName(fmt.Sprintf("mailbox name has an empty part between two separators %q", s))
		}
	}
	if n := inboxPrefix(name, sep); n > 0 && name[:n] != Inbox {
		name = Inbox + name[n:]
	}
	return name, nil
}

func badName(text string) error {
	return &Error{Op: "mailbox name", Kind: Cannot, Text: text}
}

// IsInbox reports whether name is INBOX in any case.
func IsInbox(name string) bool { return equalFold(name, Inbox) }

// inboxPrefix returns 5 when the first component of name is INBOX in any
// case, else 0.
func inboxPrefix(name string, sep rune) int {
	if len(name) < len(Inbox) || !equalFold(name[:len(Inbox)], Inbox) {
		return 0
	}
	if len(name) == len(Inbox) || sep != 0 && strings.HasPrefix(name[len(Inbox):], string(sep)) {
		return len(Inbox)
	}
	return 0
}

// MailboxParent returns the name above name, "" at the top level.
func MailboxParent(name string, sep rune) string {
	if sep == 0 {
		return ""
	}
	return name[:max(0, strings.LastIndex(name, string(sep)))]
}

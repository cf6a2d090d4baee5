package imapserver_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/memory"
)

// TestFetchTwice: an item that is asked for twice is written once.
func TestFetchTwice(t *testing.T) {
	m := memory.New(imapmodel.Mailbox{Name: "INBOX"})
	m.Add("ann", "INBOX", "Subject: one\r\n\r\nbody\r\n")
	c := selected(t, newServer(t, overMemory(t, m), imapserver.Options{}))
	for _, test := range []struct{ items, want string }{
		{"UID UID FLAGS UID", `UID 1 FLAGS (\Recent)`},
		{"BODY.PEEK[TEXT] BODY.PEEK[text]", "BODY[TEXT] {6}\r\nbody\r\n"},
		{"BODY.PEEK[TEXT]<0.2> BODY.PEEK[TEXT]<0.2>", "BODY[TEXT]<0> {2}\r\nbo"},
		{"BODY.PEEK[TEXT]<0.2> BODY.PEEK[TEXT]<0.3>", "BODY[TEXT]<0> {2}\r\nbo BODY[TEXT]<0> {3}\r\nbod"},
		{"BODY.PEEK[TEXT] RFC822.SIZE BODY.PEEK[]<0.1> BODY.PEEK[TEXT]", "BODY[TEXT] {6}\r\nbody\r\n RFC822.SIZE 22 BODY[]<0> {1}\r\nS"},
		{"BINARY.PEEK[1] BINARY.SIZE[1] BINARY.PEEK[1] BINARY.SIZE[1]", "BINARY[1] {6}\r\nbody\r\n BINARY.SIZE[1] 6"},
		{"BODY.PEEK[HEADER.FIELDS (Subject)]<0.7> BODY.PEEK[HEADER.FIELDS (Subject)]<0.7>", "BODY[HEADER.FIELDS (Subject)]<0> {7}\r\nSubject"},
		{"BODY.PEEK[TEXT]<0.1> BODY[TEXT]<0.1>", "BODY[TEXT]<0> {1}\r\nb FLAGS (\\Recent \\Seen)"}, // last: it sets \Seen
	} {
		got := strings.Join(c.ok("FETCH 1 ("+test.items+")"), "|")
		if want := fmt.Sprintf("* 1 FETCH (%s)", test.want); got != want {
			t.Errorf("%s:\n got %q\nwant %q", test.items, got, want)
		}
	}
}

// TestCreateSpecialUseNeedsCreate: what cannot be made is not announced.
func TestCreateSpecialUseNeedsCreate(t *testing.T) {
	for features, want := range map[imapserver.Features]bool{
		imapserver.FeatureSpecialUse:                               false,
		imapserver.FeatureMailboxes:                                false,
		imapserver.FeatureSpecialUse | imapserver.FeatureMailboxes: true,
	} {
		c := connect(t, newServer(t, featured{memoryBackend(t), features}, imapserver.Options{}))
		if got := strings.Contains(c.ok("CAPABILITY")[0], " CREATE-SPECIAL-USE"); got != want {
			t.Errorf("features %b: announced: %v, want %v", features, got, want)
		}
	}
}

// featured is a back end with other features.
type featured struct {
	imapserver.Backend
	features imapserver.Features
}

func (f featured) Features() imapserver.Features { return f.features }

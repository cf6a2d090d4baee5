package demo_test

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/internal/demo"
)

// The sample mail is sound: other code than ours reads all of it.
func TestMailboxes(t *testing.T) {
	uses := make(map[imap.MailboxAttr]bool)
	total := 0
	ids := make(map[string]bool)
	for _, box := range demo.Mailboxes(time.Now()) {
		if name, err := imap.NormalizeMailbox(box.Name, '/'); err != nil || name != box.Name {
			t.Errorf("mailbox name %q: %q, %v", box.Name, name, err)
		}
		uses[box.Use] = true
		for _, m := range box.Messages {
			total++
			msg, err := mail.ReadMessage(bytes.NewReader(m.Raw))
			if err != nil {
				t.Errorf("%s: %v\n%s", box.Name, err, m.Raw)
				continue
			}
			if id := msg.Header.Get("Message-ID"); ids[id] {
				t.Errorf("two messages have the Message-ID %s", id)
			} else {
				ids[id] = true
			}
			if strings.Contains(strings.ReplaceAll(string(m.Raw), "\r\n", ""), "\n") {
				t.Errorf("%s: bare LF in %q", box.Name, msg.Header.Get("Subject"))
			}
			for _, f := range m.Flags {
				if !f.Valid() {
					t.Errorf("%s: flag %q", box.Name, f)
				}
			}
			walk(t, msg.Header.Get("Content-Type"), msg.Body)
		}
	}
	for _, use := range []imap.MailboxAttr{imap.AttrSent, imap.AttrDrafts, imap.AttrJunk, imap.AttrTrash, imap.AttrArchive} {
		if !uses[use] {
			t.Errorf("no mailbox for %s", use)
		}
	}
	if total < 20 {
		t.Errorf("%d messages, want more to look at", total)
	}
}

func walk(t *testing.T, contentType string, body io.Reader) {
	t.Helper()
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		t.Errorf("Content-Type %q: %v", contentType, err)
		return
	}
	if !strings.HasPrefix(kind, "multipart/") {
		if _, err := io.Copy(io.Discard, body); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		return
	}
	r := multipart.NewReader(body, params["boundary"])
	for n := 0; ; n++ {
		p, err := r.NextPart()
		if err == io.EOF {
			if n == 0 {
				t.Errorf("%s without parts", kind)
			}
			return
		}
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			return
		}
		walk(t, p.Header.Get("Content-Type"), p)
	}
}

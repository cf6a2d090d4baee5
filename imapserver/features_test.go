package imapserver_test

import (
	"testing"
	"testing/fstest"

	"github.com/rookery-mail/rookery/imapmodel"
	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imaptest"
	"github.com/rookery-mail/rookery/memory"
)

// readOnly is a model that can be read only.
type readOnly struct{ *memory.Model }

func (readOnly) Features() imapmodel.Features { return 0 }

// What IMAP4rev2 has as commands is there, whatever the back end can do; what
// it cannot do is not announced, and answered with NO.
func TestRev2WithoutFeatures(t *testing.T) {
	imaptest.Run(t, imaptest.Target{
		New: func(t testing.TB) *imaptest.Server {
			model := memory.New(imapmodel.Mailbox{Name: "INBOX"})
			model.Add("ann", "INBOX", "Subject: one\r\n\r\nbody\r\n")
			backend, err := imapmodel.New(readOnly{model}, imapmodel.Options{})
			if err != nil {
				t.Fatal(err)
			}
			return serve(t, backend, imapserver.Options{})
		},
		Transcripts: fstest.MapFS{"rev2-without-features.txtar": {Data: []byte(`rfc: 9051 E
enable: IMAP4rev2
state: selected

a C: MOVE 1 INBOX
a S: NO
a C: COPY 1 INBOX
a S: NO [CANNOT]
a C: FETCH 1 BINARY.PEEK[1]
a S: * 1 FETCH (BINARY[1] {"body\r\n"})
a S: OK
a C: LIST (SPECIAL-USE) "" *
a S: OK
a C: APPEND INBOX {"Subject: two\r\n\r\n"+}
a S: NO [CANNOT]
`)}},
	})
}

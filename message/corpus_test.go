package message_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/internal/corpus"
	"github.com/rookery-mail/rookery/message"
)

// TestCorpus checks every file in the folder that ROOKERY_CORPUS names, where
// it is set: as it is, with its line ends made CRLF, and under tight limits.
func TestCorpus(t *testing.T) {
	all := corpus.Messages(t)
	if all == nil {
		t.Skip("ROOKERY_CORPUS names no folder of mail; the other tests use messages of their own")
	}
	for _, m := range all {
		raw := m.Raw
		t.Run(strings.TrimSuffix(m.Name, ".eml"), func(t *testing.T) {
			checkMessage(t, raw, message.Limits{})
			crlf := bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
			checkMessage(t, crlf, message.Limits{})
			checkMessage(t, raw, message.Limits{Depth: 2, Parts: 3, HeaderBytes: 500, HeaderFields: 5, Addresses: 2, TextBytes: 300})
		})
	}
}

package imapserver_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rookery-mail/rookery/imaptest"
)

// What stands behind the end of the digested text is found in the message.
func TestSearchBehindTheDigest(t *testing.T) {
	for name, target := range map[string]imaptest.Target{"memory": memoryTarget(), "store": storeTarget()} {
		t.Run(name, func(t *testing.T) {
			target.Transcripts = fstest.MapFS{"search-long.txtar": {Data: []byte(`rfc: 9051 6.4.4
state: selected
seed: long
seed: 1

a C: SEARCH BODY needle
a S: * SEARCH 1
a S: OK
a C: SEARCH NOT TEXT needle
a S: * SEARCH 2
a S: OK
a C: SEARCH BODY haystack
a S: * SEARCH
a S: OK
-- long --
Subject: long

` + strings.Repeat("straw straw straw straw straw straw\n", 60_000) + "the Needle\n")}}
			imaptest.Run(t, target)
		})
	}
}

package message_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/message"
)

// Dates as they come. What is not a time of day leaves midnight.
func TestSentDate(t *testing.T) {
	for field, want := range map[string]string{
		"Tue, 1 Jul 2003 10:52:37 +0200":      "2003-07-01T10:52:37+02:00",
		"Tue, 1 Jul 2003 10:52:37+0200":       "2003-07-01T10:52:37+02:00",
		"1 Jul 03 10:52 EST (a comment)":      "2003-07-01T10:52:00-05:00",
		"Tue, 1 Jul 2003 10-52:37 +0200":      "2003-07-01T00:00:00Z",
		"Tue, 1 Jul 2003 1+:5 +0200":          "2003-07-01T00:00:00Z",
		"Tue, 1 Jul 2003 :52 +0200":           "2003-07-01T00:00:00Z",
		"Tue, 1 Jul 2003 25:61:61 +0200":      "2003-07-01T00:00:00+02:00",
		"1-Jul-2003 10:52:37 +9999":           "2003-07-01T10:52:37Z",
		"Tue, 32 Jul 2003 10:52:37 +0200":     "",
		"Tue, 1 Nix 2003 10:52:37 +0200":      "",
		"10:52:37-":                           "",
		"":                                    "",
		"Tue, 1 Jul 99999999999 10:52 +0000":  "",
		"Tue, 1 Jul 2003 10:52:37 -0000 -+:-": "2003-07-01T10:52:37Z",
	} {
		d, _, err := message.Parse(strings.NewReader("Date: "+field+"\r\n\r\n"), message.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if at, ok := d.SentDate(); ok {
			got = at.Format(time.RFC3339)
		}
		if got != want {
			t.Errorf("%q: %s, want %s", field, got, want)
		}
	}
}

package imapserver_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/imapstore"
	"github.com/rookery-mail/rookery/internal/crashfs"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// shortMemory serves an embedded store that remembers few expunges.
func shortMemory(t *testing.T, fs *crashfs.FS) (srv *imapserver.Server, end func()) {
	t.Helper()
	ctx := context.Background()
	kv, err := pebblekv.Open("kv", pebblekv.Options{FS: fs, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := bloblog.Open("blobs", bloblog.Options{FS: fs, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	store, err := mailstore.Open(ctx, kv, blobs, mailstore.Options{Logger: quiet(), HistoryRanges: 4})
	if err != nil {
		t.Fatal(err)
	}
	srv = newServer(t, imapstore.New(store), imapserver.Options{})
	return srv, func() {
		srv.Close()
		if err := errors.Join(store.Close(ctx), kv.Close(), blobs.Close()); err != nil {
			t.Error(err)
		}
	}
}

// number returns the number behind a word in one of the lines.
func number(t *testing.T, lines []string, word string) (n uint64) {
	t.Helper()
	_, rest, ok := strings.Cut(strings.Join(lines, "\n"), word+" ")
	if _, err := fmt.Sscan(rest, &n); !ok || err != nil {
		t.Fatalf("no %s in %q", word, lines)
	}
	return n
}

// vanished returns the UIDs in VANISHED (EARLIER), which comes once at most.
func vanished(t *testing.T, lines []string) (uids string) {
	t.Helper()
	for _, line := range lines {
		if set, ok := strings.CutPrefix(line, "* VANISHED (EARLIER) "); ok {
			if uids != "" {
				t.Errorf("VANISHED (EARLIER) comes again: %q", lines)
			}
			uids = strings.TrimRight(set, "\r\n")
		}
	}
	return uids
}

// TestHistoryThatIsTooShort: where the store has forgotten some of the expunges
// that a client asks for, the client is told of all UIDs that are not there, of
// those that it knows, and above those that its samples show (RFC 7162 sections
// 3.2.5.1, 3.2.5.2, 3.2.6); and what is remembered (section 3.2.7) is told exactly.
func TestHistoryThatIsTooShort(t *testing.T) {
	fs := crashfs.New()
	srv, end := shortMemory(t, fs)
	c := login(t, srv)
	c.ok("ENABLE QRESYNC")
	for range 20 {
		c.appendTo("INBOX", hello)
	}
	lines := c.ok("SELECT INBOX")
	validity, first := number(t, lines, "UIDVALIDITY"), number(t, lines, "HIGHESTMODSEQ")
	highest := first
	expunge := func(uids ...int) {
		t.Helper()
		for _, uid := range uids {
			c.ok(fmt.Sprintf("UID STORE %d +FLAGS.SILENT (\\Deleted)", uid))
			_, tagged := c.do(fmt.Sprintf("UID EXPUNGE %d", uid))
			// Section 3.2.7: it MUST increment, and MUST send.
			if n := number(t, []string{tagged}, "OK [HIGHESTMODSEQ"); n <= highest {
				t.Errorf("HIGHESTMODSEQ %d after %d: %s", n, highest, tagged)
			} else {
				highest = n
			}
		}
	}
	expunge(1, 3, 5)
	middle := highest // what a client has that knows of those, but not of these:
	expunge(7, 9, 11, 13, 15, 17)
	late := highest
	expunge(19)
	c.ok(`UID STORE 4,12 +FLAGS.SILENT (\Flagged)`)

	for round, again := range []string{"", " after a restart", " after a power cut"} {
		if round > 0 {
			after := fs
			if round == 2 {
				after = fs.Clones()[0].FS
			}
			end()
			fs = after
			srv, end = shortMemory(t, fs)
		}
		c := login(t, srv)
		c.ok("ENABLE QRESYNC")
		for _, tc := range []struct {
			what    string
			since   uint64
			more    string // known UIDs and samples
			want    string
			flagged string // the UIDs that are told to have changed
		}{
			{"everything", first, "", "1,3,5,7,9,11,13,15,17,19", "4 12"},
			{"since always", 1, "", "1,3,5,7,9,11,13,15,17,19", ""},
			{"known UIDs", first, " 2:8", "3,5,7", "4"},
			{"known UIDs, some never given out", first, " 9:1000", "9,11,13,15,17,19", "12"},
			{"known UIDs, all of them there", first, " 2,4,6,8,10", "", "4"},
			// Now message 1 has UID 2, 2 has 4, 3 has 6, 4 has 8.
			{"samples that match", middle, " 1:20 (1:3 2,4,6)", "7,9,11,13,15,17,19", "4 12"},
			{"samples that match, no known UIDs", middle, " (3 6)", "7,9,11,13,15,17,19", "4 12"},
			{"samples that match at first", middle, " 1:20 (1,3,5 2,6,11)", "7,9,11,13,15,17,19", "4 12"},
			{"samples that match to the end", first, " 1:20 (1,10 2,20)", "", "4 12"},
			{"samples of which none matches", first, " 1:20 (1:3 1:3)", "1,3,5,7,9,11,13,15,17,19", "4 12"},
			{"one that matches behind one that does not", first, " 1:20 (1,3 1,6)", "1,3,5,7,9,11,13,15,17,19", "4 12"},
			{"samples beyond the end", first, " 1:20 (19:20 19:20)", "1,3,5,7,9,11,13,15,17,19", "4 12"},
			{"known UIDs and samples", middle, " 5:15 (1:3 2,4,6)", "7,9,11,13,15", "12"},
			{"what is remembered", late, "", "19", "4 12"},
			{"what is remembered, of known UIDs", late, " 1:18", "", "4 12"},
		} {
			command := fmt.Sprintf("SELECT INBOX (QRESYNC (%d %d%s))", validity, tc.since, tc.more)
			lines := c.ok(command)
			if got := vanished(t, lines); got != tc.want {
				t.Errorf("%s%s: %s: vanished %q, want %q", tc.what, again, command, got, tc.want)
			}
			for uid := range strings.FieldsSeq(tc.flagged) {
				if !strings.Contains(strings.Join(lines, "\n"), "FETCH (UID "+uid+" FLAGS (\\Flagged)") {
					t.Errorf("%s%s: %s: nothing of the change of UID %s: %q", tc.what, again, command, uid, lines)
				}
			}
		}
		for _, tc := range []struct {
			uids  string
			since uint64
			want  string
		}{
			{"1:*", first, "1,3,5,7,9,11,13,15,17,19"},
			{"4:9", first, "5,7,9"},
			{"18:500", first, "19"},
			{"1:*", late, "19"},
		} {
			fetch := fmt.Sprintf("UID FETCH %s (FLAGS) (CHANGEDSINCE %d VANISHED)", tc.uids, tc.since)
			if got := vanished(t, c.ok(fetch)); got != tc.want {
				t.Errorf("%s%s: vanished %q, want %q", fetch, again, got, tc.want)
			}
		}
	}
	end()
}

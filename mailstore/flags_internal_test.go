package mailstore

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailindex"
)

// TestKeeps: what is said to keep flags makes the same of them, and nothing else
// does.
func TestKeeps(t *testing.T) {
	flags := rapid.SliceOfN(rapid.SampledFrom([]imap.Flag{
		imap.FlagSeen, `\SEEN`, imap.FlagDeleted, imap.FlagRecent, `\Nonsense`, "kw", "KW", "other",
	}), 0, 4)
	rapid.Check(t, func(t *rapid.T) {
		e := mailindex.New(mailindex.Meta{}, nil).Edit()
		old := e.Intern(flags.Draw(t, "old"))
		req := &StoreRequest{Op: FlagOp(rapid.IntRange(0, 2).Draw(t, "op")), Flags: flags.Draw(t, "flags")}
		next := e.Intern(applyFlags(req.Op, e.Flags(old).List(), req.Flags))
		if got := req.keeps(e.Flags(old)); got != (next == old) {
			t.Errorf("op %d with %q: %s becomes %s, and keeps says %v", req.Op, req.Flags, e.Flags(old).Wire(), e.Flags(next).Wire(), got)
		}
	})
}

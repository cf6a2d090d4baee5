package mailstore_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestMetamorphic runs random lists of operations on stores that differ in all
// that must not matter (metaConfigs), and wants the same answers from all of
// them: every result, every message and its digest, every error's kind, what is
// there in the end, and a check without defects. What fails is cut down to a
// short list. ROOKERY_SEED replays a run, ROOKERY_FULL does many.
//
// Operations are drawn without a look at the store, so that a list stays one
// when parts are cut out: half of them name what is not there, and their errors
// are compared like all else.
func TestMetamorphic(t *testing.T) {
	runs, steps := 4, 60
	switch {
	case full():
		runs, steps = 150, 120
	case testing.Short():
		runs, steps = 1, 60
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("ROOKERY_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("ROOKERY_SEED: %v", err)
		}
		seed, runs = n, 1
	}
	answers := 0
	for run := range runs {
		seed := seed + uint64(run)
		ops := metaOps(seed, steps)
		want := runMeta(t, metaConfigs()[0], ops)
		answers += len(want)
		for _, c := range metaConfigs()[1:] {
			got := runMeta(t, c, ops)
			answers += len(got)
			if metaDiff(want, got) == "" {
				continue
			}
			small, diff := shrinkMeta(t, c, ops, metaDiff(want, got))
			t.Fatalf("ROOKERY_SEED=%d (%d operations): %s differs from %s with these %d:\n%s\n%s",
				seed, steps, c.name, metaConfigs()[0].name, len(small), showMeta(small), diff)
		}
	}
	t.Logf("%d lists of %d operations, %d configurations, %d answers compared", runs, steps, len(metaConfigs()), answers)
}

// metaDiff is "" where two runs have answered alike, and nothing is broken.
func metaDiff(want, got []string) string {
	for i := range max(len(want), len(got)) {
		w, g := "(nothing)", "(nothing)"
		if i < len(want) {
			w = want[i]
		}
		if i < len(got) {
			g = got[i]
		}
		if w != g || strings.Contains(g, metaBroken) {
			return fmt.Sprintf("answer %d:\nwant %s\n got %s", i, w, g)
		}
	}
	return ""
}

// shrinkMeta leaves out what is not needed to differ, for at most a minute.
func shrinkMeta(t *testing.T, c metaConfig, ops []metaOp, first string) ([]metaOp, string) {
	differs := func(ops []metaOp) string {
		return metaDiff(runMeta(t, metaConfigs()[0], ops), runMeta(t, c, ops))
	}
	diff := differs(ops)
	for try := 0; diff == ""; try++ {
		if try == 50 {
			return ops, "(not every time) " + first
		}
		diff = differs(ops)
	}
	deadline := time.Now().Add(time.Minute)
	for size := len(ops) / 2; size > 0; {
		cut := false
		for at := 0; at+size <= len(ops) && time.Now().Before(deadline); {
			fewer := slices.Concat(ops[:at], ops[at+size:])
			if d := differs(fewer); d != "" {
				ops, diff, cut = fewer, d, true
			} else {
				at += size
			}
		}
		if !cut || size > 1 {
			size /= 2
		}
	}
	return ops, diff
}

// A metaOp is one operation. What its numbers mean, its kind says.
type metaOp struct {
	kind    string
	user    int // of metaUsers
	box     int // of metaBoxes
	dest    int
	session int
	a, b, c uint32
}

func showMeta(ops []metaOp) string {
	var b strings.Builder
	for _, op := range ops {
		fmt.Fprintf(&b, "%s %s %s -> %s, session %d: %d %d %d\n",
			op.kind, metaUsers[op.user], metaBoxes[op.box], metaBoxes[op.dest], op.session, op.a, op.b, op.c)
	}
	return b.String()
}

const metaSessions = 3

var (
	metaUsers = []string{"ann", "bob"}
	metaBoxes = []string{"INBOX", "INBOX", "INBOX", "a", "a/b", "a/b/c", "d"}
)

var metaWeights = []struct {
	kind   string
	weight int
}{
	{"append", 14}, {"burst", 3}, {"store", 16}, {"store unchanged", 5}, {"expunge", 8}, {"uid expunge", 4},
	{"copy", 8}, {"move", 6}, {"create", 5}, {"delete", 2}, {"rename", 3}, {"subscribe", 2}, {"look", 10},
	{"fetch", 8}, {"close", 6}, {"recent", 3}, {"status", 4}, {"seen", 2}, {"restart", 3}, {"tidy", 3},
	{"rename account", 1}, {"remove account", 1},
}

// metaBegin makes some mailboxes and messages, so that not all names are wrong.
func metaBegin() []metaOp {
	var ops []metaOp
	for _, user := range []int{0, 1} {
		for _, box := range []int{0, 3, 4, 6} {
			ops = append(ops, metaOp{kind: "create", user: user, box: box}, metaOp{kind: "append", user: user, box: box, a: uint32(box), b: 4})
		}
	}
	return ops
}

func metaOps(seed uint64, n int) []metaOp {
	rng := rand.New(rand.NewPCG(seed, 0x3e7a))
	total := 0
	for _, w := range metaWeights {
		total += w.weight
	}
	ops := make([]metaOp, n)
	for i := range ops {
		k, left := 0, rng.IntN(total)
		for left >= metaWeights[k].weight {
			left -= metaWeights[k].weight
			k++
		}
		ops[i] = metaOp{
			kind: metaWeights[k].kind, user: min(rng.IntN(5), 1), box: rng.IntN(len(metaBoxes)), dest: rng.IntN(len(metaBoxes)),
			session: rng.IntN(metaSessions), a: rng.Uint32(), b: rng.Uint32(), c: rng.Uint32(),
		}
		ops[i].user = 1 - ops[i].user // four of five for ann
	}
	return ops
}

// metaMessage is message n: plain, in a thread, in parts, with odd bytes, large
// or empty.
func metaMessage(n uint32) string {
	id := n % 50
	head := fmt.Sprintf("Message-ID: <%d@example.org>\r\nDate: Mon, 2 Jan 2023 15:04:%02d +0000\r\nFrom: Somebody <s%d@example.org>\r\nSubject: about %d\r\n", n, n%60, id, id)
	switch n % 9 {
	case 0:
		return head + fmt.Sprintf("References: <%d@example.org> <%d@example.org>\r\nIn-Reply-To: <%d@example.org>\r\n\r\nYes.\r\n", n-1, n/2, n-2)
	case 1:
		return head + "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\none\r\n--x\r\nContent-Type: text/html; charset=utf-8\r\n" +
			"Content-Transfer-Encoding: quoted-printable\r\n\r\n<b>tw=C3=B6</b>\r\n--x--\r\n"
	case 2:
		return head + "\r\n" + strings.Repeat(fmt.Sprintf("line of %d\r\n", n), int(n%2000))
	case 3:
		return head + "\r\nbare\nand\rodd \xff\xfe\r\n"
	case 4:
		return head + "\r\nwith \x00 in it\r\n"
	case 5:
		return ""
	case 6:
		return "no header at all"
	case 7:
		if n%8 == 0 {
			return head + "\r\n" + strings.Repeat("x", 300_000) + "\r\n" // more than is gathered in memory
		}
	}
	return head + "\r\nThe body.\r\n"
}

package imaptest

import (
	"context"
	"net"
	"slices"
	"testing"
)

// Run is the whole test of a server: every transcript (RunTranscripts), then
// random commands of several sessions (Random and Concurrent), each as subtests.
// What needs something that target.Lacks lists is left out, and the log says so.
// Where target has transcripts of its own only those are run.
func Run(t *testing.T, target Target) {
	if target.Transcripts != nil {
		RunTranscripts(t, target)
		return
	}
	t.Run("transcripts", func(t *testing.T) { RunTranscripts(t, target) })
	if need := lacksForRandom(&target); need != "" {
		t.Logf("random commands are left out: they need %s, which the server is declared to lack", need)
		return
	}
	t.Run("random", func(t *testing.T) { Random(t, target, RandomOptions{Restarts: true}) })
	t.Run("concurrent", func(t *testing.T) { Concurrent(t, target, RandomOptions{}) })
}

// Pipe makes a Server.Dial of a function that serves one connection and
// returns when it has ended, such as the method ServeConn of a server: no
// network is needed.
func Pipe(serve func(context.Context, net.Conn)) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go serve(context.WithoutCancel(ctx), theirs)
		return ours, nil
	}
}

// lacksForRandom returns what random commands cannot do without and the target is
// declared not to have, or "".
func lacksForRandom(target *Target) string {
	for _, need := range []string{"UIDPLUS", canAppend, canExpunge, canFlag, canKeyword, canCreate, canKeepBytes} {
		if slices.Contains(target.Lacks, need) {
			return need
		}
	}
	return ""
}

// skipRandom skips a test that was asked for, and cannot be made.
func skipRandom(t *testing.T, target *Target) {
	t.Helper()
	if need := lacksForRandom(target); need != "" {
		t.Skipf("random commands need %s, which the server is declared to lack", need)
	}
}

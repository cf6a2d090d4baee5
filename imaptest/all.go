package imaptest

import (
	"context"
	"net"
	"slices"
	"testing"
)

// Run is the whole test of a server: every transcript (RunTranscripts), then
// random commands of several sessions (Random and Concurrent), each as subtests.
// Where target has transcripts of its own only those are run.
func Run(t *testing.T, target Target) {
	if target.Transcripts != nil {
		RunTranscripts(t, target)
		return
	}
	t.Run("transcripts", func(t *testing.T) { RunTranscripts(t, target) })
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

// skipRandom skips a test of random commands where the server is meant to lack
// what it cannot do without.
func skipRandom(t *testing.T, target Target) {
	t.Helper()
	for _, need := range []string{"UIDPLUS", "APPEND", "EXPUNGE", "FLAGS", "KEYWORDS", "CREATE", "EXACT"} {
		if slices.Contains(target.Lacks, need) {
			t.Skipf("random commands need %s, which the server is declared to lack", need)
		}
	}
}

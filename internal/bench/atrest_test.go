package bench_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/rookery-mail/rookery/internal/bench"
)

// TestAtRest waits for a process that does nothing, one that never rests, and one
// that there is not.
func TestAtRest(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the processor time of other processes is known on Linux only")
	}
	idle := exec.Command("sleep", "60")
	if err := idle.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = idle.Process.Kill()
		_ = idle.Wait()
	}()
	if ok, err := bench.AtRest(t.Context(), idle.Process.Pid, time.Minute); !ok || err != nil {
		t.Errorf("a process that sleeps: at rest %v, %v", ok, err)
	}
	// The window is longer than this, so nothing can be known to be at rest.
	if ok, err := bench.AtRest(t.Context(), os.Getpid(), time.Millisecond); ok || err != nil {
		t.Errorf("after a millisecond: at rest %v, %v", ok, err)
	}
	if ok, err := bench.AtRest(t.Context(), os.Getpid(), -1); !ok || err != nil {
		t.Errorf("who is not to wait: at rest %v, %v", ok, err)
	}
	if _, err := bench.AtRest(t.Context(), 1<<30, time.Minute); err == nil {
		t.Error("a process that does not exist is at rest")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := bench.AtRest(ctx, os.Getpid(), time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// What servers have put off (an index that is built in the background, tables that
// are merged) is a cost of the workload that has caused it, and must not fall on
// whichever comes next. So before workloads whose figures are times of single
// commands, or memory, servers are waited for until they are at rest. Processor time
// shows that for any server.
const (
	restWindow = 3 * time.Second        // so long a server has done next to nothing
	restBusy   = 10 * time.Millisecond  // a second of it at most
	restLook   = 250 * time.Millisecond // how often it is looked at
)

// atRest waits until the server does next to nothing, for Config.Settle at most, and
// reports whether it does. It returns at once where its processor time is not known.
func (s *server) atRest(ctx context.Context) (bool, error) {
	if s.PID == "" || s.cfg.Settle < 0 {
		return true, nil
	}
	var times []time.Duration // at each look; the last ones, as many as a window has
	tick := time.NewTicker(restLook)
	defer tick.Stop()
	for deadline := time.Now().Add(s.cfg.Settle); time.Now().Before(deadline); {
		u, err := s.usage(false)
		if err != nil {
			return false, err
		}
		times = append(times, u.cpu)
		if n := len(times) - int(restWindow/restLook) - 1; n >= 0 {
			if times = times[n:]; u.cpu-times[0] <= restBusy*restWindow/time.Second {
				return true, nil
			}
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-tick.C:
		}
	}
	return false, nil
}

// settle waits for all servers, and returns a note about one that does not come to
// rest.
func (b *bench) settle(ctx context.Context, what string, done float64) (note string, err error) {
	b.cfg.Reporter.Step(fmt.Sprintf("%s, waiting until the servers are at rest", what), done)
	errs, resting := make([]error, len(b.servers)), make([]bool, len(b.servers))
	var wg sync.WaitGroup
	for i, s := range b.servers {
		wg.Go(func() { resting[i], errs[i] = s.atRest(ctx) })
	}
	wg.Wait()
	for i, s := range b.servers {
		if errs[i] == nil && !resting[i] {
			note = fmt.Sprintf("%s had not come to rest in %v", s.Name, b.cfg.Settle)
		}
	}
	return note, errors.Join(errs...)
}

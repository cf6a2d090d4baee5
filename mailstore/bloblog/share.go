package bloblog

import (
	"context"

	"github.com/rookery-mail/rookery/mailstore/driver"
)

// laneShare is how many lanes one account may have at once: uploads that one
// user begins and does not go on with hold up only that user.
const laneShare = maxLanes / 8

// A share counts the lanes of one account, and those who wait for one.
type share struct {
	lanes chan struct{}
	users int // guarded by Store.mu
}

// takeShare waits until the account may have one more lane.
func (s *Store) takeShare(ctx context.Context, a driver.Account) error {
	s.mu.Lock()
	sh := s.shares[a]
	if sh == nil {
		sh = &share{lanes: make(chan struct{}, laneShare)}
		s.shares[a] = sh
	}
	sh.users++
	s.mu.Unlock()
	err := take(ctx, sh.lanes)
	if err != nil {
		s.leaveShare(a)
	}
	return err
}

// take takes one of what places counts, and waits for it until ctx ends.
func take(ctx context.Context, places chan<- struct{}) error {
	select {
	case places <- struct{}{}:
		return nil
	default:
	}
	select {
	case places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// giveShare ends what takeShare began.
func (s *Store) giveShare(a driver.Account) {
	s.mu.Lock()
	sh := s.shares[a]
	s.mu.Unlock()
	<-sh.lanes
	s.leaveShare(a)
}

func (s *Store) leaveShare(a driver.Account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.shares[a]
	if sh.users--; sh.users == 0 {
		delete(s.shares, a)
	}
}

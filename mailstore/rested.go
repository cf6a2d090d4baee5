package mailstore

// restedBytes is how much the derivers of a store have to write until Options.Rested
// is called when they are done.
const restedBytes = 8 << 20

// deriveLoopEnded notes that the loop of an account has ended. The last one says so,
// where much has been built since it was said before.
func (s *Store) deriveLoopEnded() {
	if s.loops.Add(-1) > 0 || s.built.Load() < restedBytes || s.ctx.Err() != nil {
		return
	}
	s.built.Store(0)
	if s.opts.Rested != nil {
		s.opts.Rested()
	}
}

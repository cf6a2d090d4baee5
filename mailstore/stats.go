package mailstore

// Stats says what the store holds in memory, and what it has done since it was
// opened.
type Stats struct {
	Accounts    int   // in memory: those in use, and those used lately
	IndexMemory int64 // bytes of the mailbox indexes in memory
	Commits     int64 // transactions that were committed for accounts
	Operations  int64 // changes in them: Operations / Commits share a sync
	Lost        int64 // messages that were asked for and that the store did not have, or not whole in length; each counts once
	Missing     int64 // messages whose files are gone, as the last look at all of them has found
}

// Stats returns the Stats of this moment.
func (s *Store) Stats() Stats {
	st := Stats{IndexMemory: s.indexed.Load(), Commits: s.counts.commits.Load(), Operations: s.counts.operations.Load(), Lost: s.lost.count(), Missing: s.missing.Load()}
	s.mu.Lock()
	st.Accounts = len(s.accounts)
	s.mu.Unlock()
	return st
}

package pebblekv

// Stats says how large the index is, and what it does in the background.
type Stats struct {
	Bytes     uint64 // of its files, the log and files of no more use included
	LogBytes  uint64 // of these, what is in the log
	Debt      uint64 // bytes that compactions have still to rewrite, an estimate
	Cache     int64  // bytes of the cache in memory
	MemTables uint64 // bytes of what is in memory and not in files yet
}

// Stats returns the Stats of this moment, none while the store has failed. It
// costs some microseconds.
func (kv *KV) Stats() Stats {
	const a = 0
	acct, in, err := kv.enter("index stats", a)
	if err != nil {
		return Stats{}
	}
	defer kv.leave(a, acct)
	m := in.db.Metrics()
	return Stats{
		Bytes: m.DiskSpaceUsage(), LogBytes: m.WAL.Size, Debt: m.Compact.EstimatedDebt,
		Cache: m.BlockCache.Size, MemTables: m.MemTable.Size,
	}
}

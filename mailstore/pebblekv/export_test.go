package pebblekv

// MarkLog does at once what is done a moment after a commit.
func (kv *KV) MarkLog() { kv.mark() }

// MarkIsDue reports whether there was a commit since.
func (kv *KV) MarkIsDue() bool { return kv.marks.due.Load() }

// KeptAccounts is how many accounts the store remembers that nobody uses.
const KeptAccounts = keptAccounts

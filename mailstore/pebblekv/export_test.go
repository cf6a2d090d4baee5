package pebblekv

// LookAtJournal does at once what is done now and then.
func (kv *KV) LookAtJournal() (due bool) { return kv.journal.looks() }

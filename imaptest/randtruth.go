package imaptest

import (
	"fmt"
	"slices"
	"strings"
)

// A truth is what INBOX holds, as far as follows from the commands that were
// acknowledged one after the other.
type truth struct {
	*registry
	alive   []uint32 // ascending
	flags   map[uint32]string
	history map[uint32][]string
	lastUID uint32
}

func newTruth() *truth {
	return &truth{registry: newRegistry(), flags: map[uint32]string{}, history: map[uint32][]string{}}
}

// add notes a new message; its UID must be greater than all before.
func (t *truth) add(uid uint32, flags string) error {
	if uid <= t.lastUID {
		return fmt.Errorf("new UID %d, but %d was given before", uid, t.lastUID)
	}
	t.lastUID = uid
	t.alive = append(t.alive, uid)
	t.set(uid, flags)
	return nil
}

func (t *truth) isAlive(uid uint32) bool {
	_, found := slices.BinarySearch(t.alive, uid)
	return found
}

// after is the first living message with a UID greater than last.
func (t *truth) after(last uint32) (uint32, bool) {
	i, _ := slices.BinarySearch(t.alive, last+1)
	if i == len(t.alive) {
		return 0, false
	}
	return t.alive[i], true
}

func (t *truth) kill(uid uint32) {
	if i, found := slices.BinarySearch(t.alive, uid); found {
		t.alive = slices.Delete(t.alive, i, i+1)
	}
}

// may notes flags that the message may be said to have from now on.
func (t *truth) may(uid uint32, flags string) {
	if !slices.Contains(t.history[uid], flags) {
		t.history[uid] = append(t.history[uid], flags)
	}
}

func (t *truth) set(uid uint32, flags string) {
	t.may(uid, flags)
	t.flags[uid] = flags
}

// had says whether the message ever had these flags.
func (t *truth) had(uid uint32, flags string) error {
	if known, ok := t.history[uid]; ok && !slices.Contains(known, flags) {
		return fmt.Errorf("UID %d never had the flags (%s)", uid, flags)
	}
	return nil
}

// changed computes what STORE makes of flags.
func changed(item, old string, flags []string) string {
	set := map[string]bool{}
	if item != "FLAGS" {
		for _, f := range strings.Fields(old) {
			set[f] = true
		}
	}
	for _, f := range flags {
		set[strings.ToLower(f)] = item != "-FLAGS"
	}
	var list []string
	for f, on := range set {
		if on {
			list = append(list, f)
		}
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func hasFlag(flags, flag string) bool {
	return slices.Contains(strings.Fields(flags), flag)
}

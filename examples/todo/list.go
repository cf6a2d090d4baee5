package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

// list is a to-do list that is kept in a file.
type list struct {
	path    string
	changed func(user, mailbox string) // set by Watch

	mu    sync.Mutex
	items []item
}

type item struct {
	ID      int64 // never used twice
	Title   string
	Added   time.Time
	Done    bool
	Deleted bool `json:",omitempty"` // marked, until the mailbox is expunged
}

func openList(path string) (*list, error) {
	l := &list{path: path}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	} else if err != nil {
		return nil, err
	}
	return l, json.Unmarshal(data, &l.items)
}

// add puts an item on the list.
func (l *list) add(title string) (id string, err error) {
	err = l.change(func(items []item) []item {
		next := time.Now().UnixNano()
		for _, it := range items {
			next = max(next, it.ID+1)
		}
		id = strconv.FormatInt(next, 10)
		return append(items, item{ID: next, Title: title, Added: time.Now()})
	})
	return id, err
}

// change changes the list, in the file first.
func (l *list) change(f func([]item) []item) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	items := f(slices.Clone(l.items))
	data, err := json.MarshalIndent(items, "", "\t")
	if err != nil {
		return err
	}
	if err := writeFile(l.path, data); err != nil {
		return err
	}
	l.items = items
	if l.changed != nil {
		l.changed("", "INBOX")
	}
	return nil
}

// key is the item's key as a message.
func (it item) key() string { return strconv.FormatInt(it.ID, 10) }

// writeFile replaces a file in one step.
func writeFile(path string, data []byte) error {
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

package mailstore

import (
	"fmt"

	"github.com/rookery-mail/rookery/mailstore/driver"
)

// columns checks the blocks of columns: that they can be read, are in order and
// below the mark. What they say of messages is not compared; it is built anew
// where a block is damaged.
func (c *checker) columns(r driver.Reader) error {
	_, builder := c.store.columnBuilder()
	if builder == nil {
		return nil
	}
	data, ok, err := r.Get(markKey(builder))
	if err != nil {
		return err
	}
	p := progress{version: builder.version()}
	if ok {
		if p, err = decodeProgress(data); err != nil {
			return err
		}
	}
	if p.version != builder.version() {
		return nil // of another version of the program: it is replaced
	}
	if p.mark > c.rec.nextMsg {
		c.found(nil, 0, "columns are built up to message %d, which has not been given out", p.mark)
	}
	for _, col := range builder.columns {
		var b block
		before := uint64(0)
		err := scanPrefix(r, []byte{keyColumn, col.id}, func(key, value []byte) error {
			last := numOfKey(key)
			if err := b.readAll(col.id, value); err != nil {
				return err
			}
			switch {
			case b.n == 0 || b.last() != last || last > p.mark:
				c.found(nil, 0, "the column of %s has a block out of place, at message %d", col.name(), last)
			case b.first() <= before:
				c.found(nil, 0, "the column of %s has message %d twice", col.name(), b.first())
			}
			before = last
			return nil
		})
		if err := c.damaged(nil, fmt.Sprintf("the column of %s", col.name()), err); err != nil {
			return err
		}
	}
	return nil
}

// name is for people.
func (c column) name() string {
	if c.id == sentColumnID {
		return "DATE"
	}
	return c.field
}

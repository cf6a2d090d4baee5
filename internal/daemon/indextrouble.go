package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"github.com/rookery-mail/rookery/imap"
	"github.com/rookery-mail/rookery/mailstore/datadir"
)

// indexTrouble returns err, which kept the index of a folder from being opened,
// with what the operator can do where the index is damaged or gone. existing says
// that the folder has been in use.
func indexTrouble(dir *datadir.Dir, existing bool, err error) error {
	what := ""
	switch kind := imap.KindOf(err); {
	case kind == imap.Corruption:
		what = "is damaged"
	case !existing || kind != imap.ContactAdmin:
		return err
	case errors.Is(err, pebble.ErrDBDoesNotExist):
		what = "is gone, but there is mail"
	case errors.Is(err, fs.ErrNotExist):
		what = "is damaged: a part of it is gone"
	default:
		return err // of a format that this release does not know: nothing is to be repaired
	}
	text := fmt.Sprintf("the index (%s) %s: %s", dir.Join(indexDir), what, indexRemedy(dir))
	if what != "is gone, but there is mail" { // where there is none, the cause says no more
		cause, _, _ := strings.Cut(err.Error(), "\n")
		text += " (" + cause + ")"
	}
	return &toldError{text, imap.KindOf(err), err}
}

// indexRemedy says what to do where the index of a folder cannot be used.
func indexRemedy(dir *datadir.Dir) string {
	return fmt.Sprintf("run `rookery check --repair --data %s`, which makes it again", dir.Join())
}

package main

import (
	"log/slog"
	"strings"
)

// shortError makes one line of an error in the log. Those of the index would
// otherwise be written with the stack that they come from.
func shortError(_ []string, a slog.Attr) slog.Attr {
	if err, ok := a.Value.Any().(error); ok {
		a.Value = slog.StringValue(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return a
}

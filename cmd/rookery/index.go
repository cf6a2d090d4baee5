package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/internal/daemon"
)

const indexLong = `Say how far the text index of each account is, which SEARCH BODY and TEXT use,
or make it anew.

The index follows the mail by itself, in the background; searches are exact at any
time, as what is not indexed yet is looked into. With --rebuild all that searches
use is thrown away and made from the messages, which helps where ` + "`rookery check`" + `
says that the index is damaged. The command waits until that is done. It works
while the server runs; then searches are slower meanwhile.`

type indexFlags struct {
	data    string
	user    string
	rebuild bool
	json    bool
}

func newIndex(std streams) *cobra.Command {
	var f indexFlags
	cmd := &cobra.Command{
		Use:   "index --data DIR",
		Short: "Say how far the search indexes are, or make them anew",
		Long:  indexLong,
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return f.run(cmd, std) },
	}
	addDataFlag(cmd, &f.data)
	cmd.Flags().StringVar(&f.user, "user", "", "only the indexes of this user")
	cmd.Flags().BoolVar(&f.rebuild, "rebuild", false, "make the indexes anew")
	cmd.Flags().BoolVar(&f.json, "json", false, "write the result as JSON")
	return cmd
}

func (f *indexFlags) run(cmd *cobra.Command, std streams) error {
	if err := checkData(f.data); err != nil {
		return err
	}
	s, err := daemon.Connect(cmd.Context(), f.data, version(), false)
	if err != nil {
		return err
	}
	p := newProgress(std.err, "messages")
	list, err := s.Index(cmd.Context(), admin.IndexRequest{User: f.user, Rebuild: f.rebuild}, func(e admin.Event) { p.Progress(e.Done, e.Total) })
	p.finish()
	if err = errors.Join(err, s.Close()); err != nil {
		return err
	}
	if f.json {
		enc := json.NewEncoder(std.out)
		enc.SetIndent("", "  ")
		return enc.Encode(list)
	}
	for _, st := range list {
		_, err := fmt.Fprintf(std.out, "%s: %d messages indexed in %s (%s), %d waiting\n", st.User, st.Indexed, count(st.Segments, "segment"), size(st.Bytes), st.Waiting)
		if err != nil {
			return err
		}
	}
	return nil
}

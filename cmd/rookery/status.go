package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/internal/daemon"
)

const statusLong = `Say which server has a store, and what is counted and measured of both: how
large the store is, how much of it waits to be taken back, what memory is used
for, which commands clients have given.

Names and numbers are those of the server's metrics (--metrics of serve). Those
that end in _total count from the start of the server. Without a server only the
store's are told; the folder is not written to.`

func newStatus(std streams) *cobra.Command {
	var data string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status --data DIR",
		Short: "Say what a store and its server are doing",
		Long:  statusLong,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkData(data); err != nil {
				return err
			}
			s, err := daemon.ConnectToCheck(cmd.Context(), data, version())
			if err != nil {
				return err
			}
			defer s.Close()
			st, err := s.Status(cmd.Context())
			if err != nil {
				return err
			}
			numbers, err := s.Numbers(cmd.Context())
			if err != nil {
				return err
			}
			_, running := s.(*admin.Client)
			if asJSON {
				return statusJSON(std.out, st, running, numbers)
			}
			return statusText(std.out, data, st, running, numbers)
		},
	}
	addDataFlag(cmd, &data)
	cmd.Flags().BoolVar(&asJSON, "json", false, "write one JSON object")
	return cmd
}

func statusJSON(out io.Writer, st admin.Status, running bool, numbers []admin.Number) error {
	var server *admin.Status
	if running {
		server = &st
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(struct {
		Server  *admin.Status  `json:"server"` // null without one
		Numbers []admin.Number `json:"numbers"`
	}{server, numbers})
}

func statusText(out io.Writer, data string, st admin.Status, running bool, numbers []admin.Number) error {
	var b strings.Builder
	if running {
		fmt.Fprintf(&b, "%s: rookery %s, process %d\n", data, st.Version, st.PID)
	} else {
		fmt.Fprintf(&b, "%s: no server\n", data)
	}
	for _, n := range numbers {
		name := strings.TrimPrefix(n.Name, "rookery_")
		if len(n.Labels) > 0 {
			name += " " + strings.Join(n.Labels, " ")
		}
		value := strconv.FormatFloat(n.Value, 'f', -1, 64)
		if strings.Contains(name, "_bytes") {
			value = size(int64(n.Value))
		}
		fmt.Fprintf(&b, "%10s  %s\n", value, name)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

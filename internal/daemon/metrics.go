package daemon

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rookery-mail/rookery/imapserver"
	"github.com/rookery-mail/rookery/internal/admin"
	"github.com/rookery-mail/rookery/mailstore"
	"github.com/rookery-mail/rookery/mailstore/bloblog"
	"github.com/rookery-mail/rookery/mailstore/pebblekv"
)

// metrics is what monitoring is told, and `rookery status`: all of it is listed
// in this file. What the store knows is asked when somebody wants to know.
type metrics struct {
	registry *prometheus.Registry
	commands *prometheus.CounterVec
	greeted  prometheus.Counter
}

// newMetrics makes the metrics of a store and, where imap is not nil, of a
// server.
func newMetrics(s *storage, imap func() *imapserver.Server) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rookery_imap_commands_total", Help: "IMAP commands, by how they ended.",
		}, []string{"command", "result"}),
		greeted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rookery_imap_connections_total", Help: "IMAP connections that were greeted.",
		}),
	}
	m.registry.MustRegister(&storeCollector{s})
	if imap == nil {
		return m
	}
	m.registry.MustRegister(m.commands, m.greeted,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "rookery_imap_connections", Help: "IMAP connections that are open.",
		}, func() float64 {
			if server := imap(); server != nil {
				return float64(len(server.Connections()))
			}
			return 0
		}))
	return m
}

// hooks count what connections do.
func (m *metrics) hooks() imapserver.Hooks {
	return imapserver.Hooks{
		Connected: func(context.Context, *imapserver.Conn) error {
			m.greeted.Inc()
			return nil
		},
		CommandEnded: func(_ context.Context, _ *imapserver.Conn, name string, err error) {
			result := "ok"
			if err != nil {
				result = "failed"
			}
			m.commands.WithLabelValues(name, result).Inc()
		},
	}
}

// storeStats are the numbers of a store at one moment.
type storeStats struct {
	messages bloblog.Stats
	index    pebblekv.Stats
	mail     mailstore.Stats
	free     int64
	missing  int64 // files that are gone while the store is open
	saved    int64 // that were, and are back
}

func (s *storage) stats() (n storeStats) {
	if s.blobs != nil {
		n.messages = s.blobs.Stats()
	}
	if s.kv != nil {
		n.index = s.kv.Stats()
	}
	if s.store != nil {
		n.mail = s.store.Stats()
	}
	if s.watch != nil {
		n.missing, n.saved = s.watch.missing.Load(), s.watch.saved.Load()
	}
	if usage, err := s.dir.FS().GetDiskUsage(s.dir.Join()); err == nil {
		n.free = int64(usage.AvailBytes)
	}
	return n
}

// storeMetrics are the metrics of a store.
var storeMetrics = []struct {
	name, help string
	kind       prometheus.ValueType
	value      func(n *storeStats) float64
}{
	{"messages_segments", "Files that messages are in.", prometheus.GaugeValue, func(n *storeStats) float64 { return float64(n.messages.Segments) }},
	{"messages_bytes", "Bytes of the files that messages are in.", prometheus.GaugeValue, func(n *storeStats) float64 { return float64(n.messages.Bytes) }},
	{"messages_dead_bytes", "Of these, bytes that nobody needs any more, of messages and of parts of the index's log: waste that waits to be taken back.", prometheus.GaugeValue, func(n *storeStats) float64 { return float64(n.messages.DeadBytes) }},
	{"messages_reclaimed_bytes_total", "Bytes of files that were removed because most in them was dead.", prometheus.CounterValue, func(n *storeStats) float64 { return float64(n.messages.ReclaimedBytes) }},
	{"messages_moved_bytes_total", "Bytes that were copied for that.", prometheus.CounterValue, func(n *storeStats) float64 { return float64(n.messages.MovedBytes) }},
	{"messages_stored_total", "Messages that came in.", prometheus.CounterValue, func(n *storeStats) float64 { return float64(n.messages.Stored) }},
	{"messages_content_bytes_total", "Bytes of the messages that came in.", prometheus.CounterValue, func(n *storeStats) float64 { return float64(n.messages.Content) }},
	{"messages_stored_bytes_total", "Bytes that they take on the disk: less where they are compressed.", prometheus.CounterValue, func(n *storeStats) float64 { return float64(n.messages.StoredBytes) }},
	{"messages_syncs_total", "Syncs of messages to the disk.", prometheus.CounterValue, func(n *storeStats) float64 { return float64(n.messages.Syncs) }},
	{"messages_rides_total", "Of these, syncs that made the log of the index durable as well.", prometheus.CounterValue, func(n *storeStats) float64 { return float64(n.messages.Rides) }},
	{"messages_ride_bytes_total", "Bytes that these took beside the messages.", prometheus.CounterValue, func(n *storeStats) float64 { return float64(n.messages.RideBytes) }},
	{"messages_sync_calls_total", "Those who waited for one: more than syncs where they share them.", prometheus.CounterValue, func(n *storeStats) float64 { return float64(n.messages.SyncCalls) }},
	{"messages_damaged_total", "Messages that were found lost or damaged since the start, each once, however often it is asked for (up to 100,000 of each). Run `rookery check`.", prometheus.CounterValue, func(n *storeStats) float64 { return float64(n.messages.Damaged + n.mail.Lost) }},
	{"messages_missing", "Messages that the index names and whose files were gone at the start. Above 0: run `rookery check`.", prometheus.GaugeValue, func(n *storeStats) float64 { return float64(n.mail.Missing) }},
	{"index_bytes", "Bytes of the index on the disk.", prometheus.GaugeValue, func(n *storeStats) float64 { return float64(n.index.Bytes) }},
	{"index_log_bytes", "Of these, bytes of its log.", prometheus.GaugeValue, func(n *storeStats) float64 { return float64(n.index.LogBytes) }},
	{"index_debt_bytes", "Bytes of the index that are still to be rewritten in the background, about.", prometheus.GaugeValue, func(n *storeStats) float64 { return float64(n.index.Debt) }},
	{"index_cache_bytes", "Memory of the index's cache.", prometheus.GaugeValue, func(n *storeStats) float64 { return float64(n.index.Cache) }},
	{"index_memtable_bytes", "Memory of what is not in the index's files yet.", prometheus.GaugeValue, func(n *storeStats) float64 { return float64(n.index.MemTables) }},
	{"accounts_in_memory", "Accounts in use, and used lately.", prometheus.GaugeValue, func(n *storeStats) float64 { return float64(n.mail.Accounts) }},
	{"mailbox_memory_bytes", "Memory of the mailboxes that are open, and were lately.", prometheus.GaugeValue, func(n *storeStats) float64 { return float64(n.mail.IndexMemory) }},
	{"commits_total", "Transactions of the index.", prometheus.CounterValue, func(n *storeStats) float64 { return float64(n.mail.Commits) }},
	{"changes_total", "Changes that were made in them: more than commits where sessions of one account share them.", prometheus.CounterValue, func(n *storeStats) float64 { return float64(n.mail.Operations) }},
	{"files_missing", "Files of the store that were removed from the data folder while the server had it, and that it could not write again. Above 0: the log says what to do.", prometheus.GaugeValue, func(n *storeStats) float64 { return float64(n.missing) }},
	{"files_saved_total", "Files that were removed from the data folder, or replaced, while the server had it, and are back.", prometheus.CounterValue, func(n *storeStats) float64 { return float64(n.saved) }},
	{"disk_free_bytes", "Bytes that are free on the disk of the data folder.", prometheus.GaugeValue, func(n *storeStats) float64 { return float64(n.free) }},
}

// storeCollector is the prometheus.Collector of storeMetrics.
type storeCollector struct{ *storage }

// Describe implements prometheus.Collector.
func (c *storeCollector) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, to) }

// Collect implements prometheus.Collector.
func (c *storeCollector) Collect(to chan<- prometheus.Metric) {
	n := c.stats()
	for _, m := range storeMetrics {
		to <- prometheus.MustNewConstMetric(prometheus.NewDesc("rookery_"+m.name, m.help, nil, nil), m.kind, m.value(&n))
	}
}

// numbers are the metrics of our own, for `rookery status`.
func (m *metrics) numbers() ([]admin.Number, error) {
	families, err := m.registry.Gather()
	if err != nil {
		return nil, err
	}
	var list []admin.Number
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "rookery_") {
			continue
		}
		for _, v := range f.GetMetric() {
			n := admin.Number{Name: f.GetName(), Help: f.GetHelp(), Value: v.GetGauge().GetValue() + v.GetCounter().GetValue()}
			for _, l := range v.GetLabel() {
				n.Labels = append(n.Labels, l.GetName()+"="+l.GetValue())
			}
			list = append(list, n)
		}
	}
	return list, nil
}

// listenMetrics opens the listener of --metrics.
func (d *daemon) listenMetrics() error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.metrics.registry, promhttp.HandlerOpts{}))
	server := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       5 * time.Minute,
		ErrorLog:          slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
	}
	if d.cfg.Metrics != "" {
		d.scraped = server
	}
	return d.listenTCP("--metrics", d.cfg.Metrics, func(ln net.Listener) error { return server.Serve(ln) })
}

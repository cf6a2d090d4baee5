package admin

import (
	"net/http"
	"net/http/pprof"
)

// profiles serves what the Go runtime measures of the server, for `go tool
// pprof`. Only the owner of the data folder can open the socket, and nothing is
// measured until somebody asks.
func profiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}

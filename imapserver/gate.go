package imapserver

import (
	"net"
	"net/netip"
	"sync"
)

// gate decides who may connect: by address, and by how many connections there
// are in total, per address and per user.
type gate struct {
	limits      Limits
	allow, deny []netip.Prefix

	mu     sync.Mutex
	total  int
	byAddr map[netip.Addr]int
	byUser map[string]int
}

func newGate(l Limits, allow, deny []netip.Prefix) *gate {
	return &gate{limits: l, allow: allow, deny: deny, byAddr: map[netip.Addr]int{}, byUser: map[string]int{}}
}

// enter admits a connection, or says why not. leave must be called at its end.
func (g *gate) enter(addr netip.Addr) (leave func(), refusal string) {
	if contains(g.deny, addr) || len(g.allow) > 0 && !contains(g.allow, addr) {
		return nil, "Connections from your address are not allowed"
	}
	key := addrKey(addr)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.total >= g.limits.Connections {
		return nil, "[LIMIT] Too many connections; try again later"
	}
	// Addresses that are not known (pipes) are not counted.
	if key.IsValid() && g.byAddr[key] >= g.limits.ConnectionsPerAddr {
		return nil, "[LIMIT] Too many connections from your address"
	}
	g.total++
	count(g.byAddr, key, 1)
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.total--
		count(g.byAddr, key, -1)
	}, ""
}

// enterUser counts a connection for its user.
func (g *gate) enterUser(user string) (leave func(), ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.byUser[user] >= g.limits.ConnectionsPerUser {
		return nil, false
	}
	count(g.byUser, user, 1)
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		count(g.byUser, user, -1)
	}, true
}

// count adds to a counter and forgets it at zero, so that the map stays small.
func count[K comparable](m map[K]int, k K, by int) {
	if m[k] += by; m[k] <= 0 {
		delete(m, k)
	}
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// addrKey is what an address counts as: itself, or its /64 in IPv6, where one
// subscriber has all of it.
func addrKey(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}

// remoteAddr returns the client's address; the zero Addr where nc has none.
func remoteAddr(nc net.Conn) netip.Addr {
	ap, err := netip.ParseAddrPort(nc.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

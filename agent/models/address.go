package models

import (
	"fmt"
	"net/netip"
)

// addressError says that a host leads to an address that is not downloaded from.
type addressError struct {
	host string
	why  string
}

func (e *addressError) Error() string {
	return fmt.Sprintf("%s is not downloaded from: it leads to %s; models come from public addresses only", e.host, e.why)
}

// notPublic are the networks that are no public host's, with what they are (the IANA registries of special-purpose addresses, RFC
// 6890). What carries an IPv4 address inside is judged by that one.
var notPublic = []struct{ network, what string }{
	{"0.0.0.0/8", "an unspecified address"}, {"10.0.0.0/8", "a private network"}, {"100.64.0.0/10", "a carrier's private network"},
	{"127.0.0.0/8", "this machine"}, {"169.254.0.0/16", "a link-local address"}, {"172.16.0.0/12", "a private network"},
	{"192.0.0.0/24", "a reserved address"}, {"192.0.2.0/24", "a documentation address"}, {"192.88.99.0/24", "a reserved address"},
	{"192.168.0.0/16", "a private network"}, {"198.18.0.0/15", "a test network"}, {"198.51.100.0/24", "a documentation address"},
	{"203.0.113.0/24", "a documentation address"}, {"224.0.0.0/4", "a multicast address"}, {"240.0.0.0/4", "a reserved address"},
	{"2001::/23", "a reserved address"}, {"2001:db8::/32", "a documentation address"}, {"3fff::/20", "a documentation address"},
	{"::1/128", "this machine"}, {"fc00::/7", "a private network"}, {"fe80::/10", "a link-local address"}, {"ff00::/8", "a multicast address"},
}

var (
	publicIPv6 = netip.MustParsePrefix("2000::/3")
	// The well-known prefix of NAT64 (RFC 6052), through which IPv6-only networks reach IPv4; the last 4 bytes are the address.
	nat64  = netip.MustParsePrefix("64:ff9b::/96")
	sixTo4 = netip.MustParsePrefix("2002::/16") // RFC 3056: bytes 2 to 5 are the address
)

var notPublicPrefixes = func() (prefixes []netip.Prefix) {
	for _, n := range notPublic {
		prefixes = append(prefixes, netip.MustParsePrefix(n.network))
	}
	return prefixes
}()

// PublicOnly gives an error for every address that can be of this machine, of a network around it, or of nobody.
func PublicOnly(address netip.Addr) error {
	if what := whyNotPublic(address); what != "" {
		return fmt.Errorf("%s (%s)", what, address.Unmap())
	}
	return nil
}

func whyNotPublic(address netip.Addr) string {
	if address.Zone() != "" {
		return "a link-local address"
	}
	address = address.Unmap()
	for i, prefix := range notPublicPrefixes {
		if prefix.Contains(address) {
			return notPublic[i].what
		}
	}
	bytes := address.As16()
	switch {
	case !address.IsValid():
		return "no address"
	case address.Is4():
		return ""
	case nat64.Contains(address):
		return whyNotPublic(netip.AddrFrom4([4]byte(bytes[12:])))
	case sixTo4.Contains(address):
		return whyNotPublic(netip.AddrFrom4([4]byte(bytes[2:6])))
	case !publicIPv6.Contains(address):
		return "a reserved address"
	}
	return ""
}

//! The hosts that subscribers may have notifications sent to.
//!
//! A subscriber names the address that the service calls from within its own network. Whoever
//! runs the service can say which hosts that may be. Where nobody said, any host will do but the
//! addresses that machines use among themselves on one link: behind 169.254.169.254 a cloud
//! answers with the credentials of the machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// `host`, `host:port` or `*.domain`; none of them: any host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(Vec<String>);

impl Hosts {
    pub(super) fn parse(list: &[String]) -> Result<Hosts, String> {
        let mut hosts = Vec::with_capacity(list.len());
        for item in list {
            let item = item.trim().to_ascii_lowercase();
            let name = item.strip_prefix("*.").unwrap_or(&item);
            if name.is_empty() || name.contains(['/', '*', '@', '?', ' ']) {
                return Err(format!(
                    "cannot use {item:?}: give hosts as in fhir.clinic.example, clinic.example:8443 or *.clinic.example"
                ));
            }
            hosts.push(item);
        }
        Ok(Hosts(hosts))
    }

    /// Whether notifications may go to a URL, as far as the URL tells.
    pub fn allow(&self, url: &Url) -> bool {
        let Some(host) = url.host_str().map(str::to_ascii_lowercase) else { return false };
        if self.0.is_empty() {
            return match url.host() {
                Some(Host::Ipv4(address)) => self.allow_address(address.into()),
                Some(Host::Ipv6(address)) => self.allow_address(address.into()),
                _ => true,
            };
        }
        let with_port = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
        self.0.iter().any(|item| match item.strip_prefix('*') {
            Some(domain) => host.ends_with(domain),
            None => *item == host || *item == with_port,
        })
    }

    /// Whether notifications may go to what a name was resolved to. A host that was listed is
    /// trusted with its addresses.
    pub fn allow_address(&self, address: IpAddr) -> bool {
        if !self.0.is_empty() {
            return true;
        }
        match address {
            IpAddr::V4(address) => allow_v4(address),
            IpAddr::V6(address) => allow_v6(address) && embedded(address).is_none_or(allow_v4),
        }
    }
}

/// The IPv4 address that an IPv6 address leads to: mapped, compatible (RFC 4291), translated
/// (RFC 6052) or by 6to4 (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let (high, low) = match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => (high, low),
        // Without those that are IPv6's own, such as ::1.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => (high, low),
        [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

fn allow_v4(address: Ipv4Addr) -> bool {
    !(address.is_link_local()
        || address.is_unspecified()
        || address.is_multicast()
        || address.is_broadcast())
}

fn allow_v6(address: Ipv6Addr) -> bool {
    // The address of a cloud's own service on IPv6, which is none of a link.
    const CLOUD: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    !(address.is_unicast_link_local()
        || address.is_unspecified()
        || address.is_multicast()
        || address == CLOUD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(list: &[&str], url: &str) -> bool {
        let list: Vec<String> = list.iter().map(|item| (*item).to_owned()).collect();
        let url = Url::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        Hosts::parse(&list).is_ok_and(|hosts| hosts.allow(&url))
    }

    #[test]
    fn a_list_lets_only_its_hosts_in() {
        for (list, url, expected) in [
            (&["a.example"][..], "https://a.example/x", true),
            (&["a.example"], "http://A.Example:8080/", true),
            (&["a.example"], "https://b.example/", false),
            (&["a.example"], "https://a.example.evil.example/", false),
            (&["a.example:443"], "https://a.example/", true),
            (&["a.example:443"], "https://a.example:444/", false),
            (&["*.clinic.example"], "https://x.clinic.example/", true),
            (&["*.clinic.example"], "https://clinic.example/", false),
            (&["*.clinic.example"], "https://evilclinic.example/", false),
            (&["169.254.1.1"], "http://169.254.1.1/", true),
        ] {
            assert_eq!(allowed(list, url), expected, "{list:?} {url}");
        }
        assert!(Hosts::parse(&["https://a.example".to_owned()]).is_err());
    }

    #[test]
    fn without_a_list_only_addresses_of_a_link_are_refused() {
        for (url, expected) in [
            ("http://127.0.0.1:9/", true),
            ("http://10.1.2.3/", true),
            ("https://a.example/", true),
            ("http://[::1]/", true),
            ("http://169.254.169.254/latest", false),
            ("http://2852039166/", false),
            ("http://0xa9fea9fe/", false),
            ("http://[::ffff:169.254.169.254]/", false),
            ("http://[::169.254.169.254]/", false),
            ("http://[64:ff9b::a9fe:a9fe]/", false),
            ("http://[64:ff9b::808:808]/", true),
            ("http://[2002:a9fe:a9fe::]/", false),
            ("http://[fe80::1]/", false),
            ("http://[fd00:ec2::254]/", false),
            ("http://0.0.0.0/", false),
        ] {
            assert_eq!(allowed(&[], url), expected, "{url}");
        }
    }
}

//! Syntax of IP addresses and CIDRs, with upstream's texts (apimachinery `util/validation/ip.go`).

use std::net::IpAddr;

use model::IpNet;

use super::error::invalid;
use crate::status::{FieldError, quote};

/// An address as old clients may write it: leading zeros in IPv4 octets are decimal.
pub fn parse_sloppy(value: &str) -> Option<IpAddr> {
    if let Ok(address) = value.parse() {
        return Some(address);
    }
    let (head, dotted) = match value.rfind(':') {
        Some(colon) => value.split_at(colon + 1),
        None => ("", value),
    };
    let octets: Vec<&str> = dotted.split('.').collect();
    let plain = |octet: &&str| {
        let digits = !octet.is_empty() && octet.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| octet.trim_start_matches('0')).map(|rest| match rest {
            "" => "0".to_owned(),
            rest => rest.to_owned(),
        })
    };
    let octets: Option<Vec<String>> = octets.iter().map(plain).collect();
    format!("{head}{}", octets?.join(".")).parse().ok()
}

/// A CIDR as old clients may write it: leading zeros, host bits.
pub fn parse_cidr_sloppy(value: &str) -> Option<IpNet> {
    let (address, length) = value.split_once('/')?;
    if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    IpNet::new(parse_sloppy(address)?, length.parse().ok()?).ok()
}

/// An IPv4-mapped IPv6 address counts as IPv4, as Go's `net.IP` does.
pub fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// What is wrong with an address, strictly (gate StrictIPCIDRValidation).
pub fn address(value: &str) -> Vec<String> {
    if parse_sloppy(value).is_none() {
        return vec![NOT_AN_ADDRESS.to_owned()];
    }
    match value.parse::<IpAddr>() {
        Err(_) => vec!["must not have leading 0s".to_owned()],
        Ok(address) if is_mapped(address) => {
            vec!["must not be an IPv4-mapped IPv6 address".to_owned()]
        }
        Ok(_) => Vec::new(),
    }
}

/// What is wrong with an address that is a name: it must be in canonical form as well.
pub fn canonical_address(value: &str) -> Vec<String> {
    let errors = address(value);
    match value.parse::<IpAddr>() {
        Ok(parsed) if errors.is_empty() && parsed.to_string() != value => {
            vec![format!("must be in canonical form ({})", quote(&parsed.to_string()))]
        }
        _ => errors,
    }
}

/// What is wrong with a CIDR, strictly.
pub fn cidr(value: &str) -> Vec<String> {
    let Some(net) = parse_cidr_sloppy(value) else {
        return vec![NOT_A_CIDR.to_owned()];
    };
    if !is_strict_cidr(value) {
        return vec!["must not have leading 0s in IP or prefix length".to_owned()];
    }
    if is_mapped(net.addr()) {
        return vec!["must not have an IPv4-mapped IPv6 address".to_owned()];
    }
    if net.trunc() != net {
        return vec!["must not have bits set beyond the prefix length".to_owned()];
    }
    Vec::new()
}

/// What is wrong with a CIDR that must be in canonical form as well.
pub fn canonical_cidr(value: &str) -> Vec<String> {
    let errors = cidr(value);
    match value.parse::<IpNet>() {
        Ok(parsed) if errors.is_empty() && parsed.to_string() != value => {
            vec![format!("must be in canonical form ({})", quote(&parsed.to_string()))]
        }
        _ => errors,
    }
}

/// Errors of an address that may not be unspecified, loopback or link-local.
pub(crate) fn not_special(field: &str, value: &str) -> Vec<FieldError> {
    let Some(address) = parse_sloppy(value).map(unmapped) else {
        return vec![invalid(field, value, NOT_AN_ADDRESS)];
    };
    let (local, multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    let unspecified = format!("may not be unspecified ({value})");
    [
        (address.is_unspecified(), unspecified.as_str()),
        (address.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
    ]
    .into_iter()
    .filter(|(broken, _)| *broken)
    .map(|(_, text)| invalid(field, value, text))
    .collect()
}

/// Warns of an address that is not written canonically.
pub fn address_warning(field: &str, value: &str) -> Option<String> {
    let sloppy = parse_sloppy(value)?;
    match value.parse::<IpAddr>() {
        Ok(IpAddr::V6(parsed)) if parsed.to_ipv4_mapped().is_none() => {
            let canonical = parsed.to_string();
            (canonical != value).then(|| {
                format!(
                    "{field}: IPv6 address {} should be in RFC 5952 canonical format ({})",
                    quote(value),
                    quote(&canonical)
                )
            })
        }
        Ok(IpAddr::V4(_)) => None,
        _ => Some(format!(
            "{field}: non-standard IP address {} is invalid: use {}",
            quote(value),
            quote(&unmapped(sloppy).to_string())
        )),
    }
}

/// Warns of a CIDR that is not written canonically.
pub fn cidr_warning(field: &str, value: &str) -> Option<String> {
    let net = parse_cidr_sloppy(value)?;
    let canonical = unmapped_net(net).trunc().to_string();
    if !is_strict_cidr(value) || is_mapped(net.addr()) {
        return Some(format!(
            "{field}: non-standard CIDR value {} is invalid: use {}",
            quote(value),
            quote(&canonical)
        ));
    }
    if net.trunc() != net {
        let host = net.addr();
        return Some(format!(
            "{field}: CIDR value {} is ambiguous in this context (should be {} or {}?)",
            quote(value),
            quote(&canonical),
            quote(&format!("{host}/{}", net.max_prefix_len()))
        ));
    }
    (net.addr().is_ipv6() && canonical != value).then(|| {
        format!(
            "{field}: IPv6 CIDR value {} should be in RFC 5952 canonical format ({})",
            quote(value),
            quote(&canonical)
        )
    })
}

/// Text for what is no address at all.
pub(crate) const NOT_AN_ADDRESS: &str =
    "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Whether neither the address nor the length has leading zeros, given that it parses at all.
fn is_strict_cidr(value: &str) -> bool {
    let (address, length) = value.split_once('/').unwrap_or((value, ""));
    address.parse::<IpAddr>().is_ok() && (length.len() == 1 || !length.starts_with('0'))
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

fn unmapped_net(net: IpNet) -> IpNet {
    let length = net.prefix_len().saturating_sub(96);
    match unmapped(net.addr()) {
        address @ IpAddr::V4(_) if net.addr().is_ipv6() => {
            IpNet::new(address, length).unwrap_or(net)
        }
        _ => net,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_judged_strictly() {
        let cases = [
            ("10.96.0.5", None),
            ("2001:DB8::1", None),
            ("foo", Some(NOT_AN_ADDRESS)),
            ("none", Some(NOT_AN_ADDRESS)),
            ("10.96.0.40/32", Some(NOT_AN_ADDRESS)),
            ("", Some(NOT_AN_ADDRESS)),
            ("10.096.0.5", Some("must not have leading 0s")),
            ("::ffff:1.2.3.04", Some("must not have leading 0s")),
            ("::ffff:10.96.0.5", Some("must not be an IPv4-mapped IPv6 address")),
        ];
        for (value, error) in cases {
            assert_eq!(address(value).first().map(String::as_str), error, "{value}");
        }
    }

    #[test]
    fn cidrs_are_judged_strictly() {
        let cases = [
            ("10.0.0.0/8", None),
            ("1.2.3.4", Some(NOT_A_CIDR)),
            ("x/8", Some(NOT_A_CIDR)),
            ("10.0.0.0/+8", Some(NOT_A_CIDR)),
            ("010.0.0.0/24", Some("must not have leading 0s in IP or prefix length")),
            ("10.0.0.0/08", Some("must not have leading 0s in IP or prefix length")),
            ("10.0.0.1/24", Some("must not have bits set beyond the prefix length")),
            ("::ffff:10.0.0.0/120", Some("must not have an IPv4-mapped IPv6 address")),
        ];
        for (value, error) in cases {
            assert_eq!(cidr(value).first().map(String::as_str), error, "{value}");
        }
    }

    #[test]
    fn odd_spellings_are_warned_of() {
        // S12.
        let warning = |value| address_warning("f", value);
        assert_eq!(warning("10.0.0.1"), None);
        assert_eq!(
            warning("010.0.0.1").as_deref(),
            Some("f: non-standard IP address \"010.0.0.1\" is invalid: use \"10.0.0.1\"")
        );
        let ipv6 = "f: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format \
                    (\"2001:db8::1\")";
        assert_eq!(warning("2001:DB8::1").as_deref(), Some(ipv6));
    }
}

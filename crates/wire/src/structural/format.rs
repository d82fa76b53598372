//! `format` of strings (kube-openapi `strfmt`). Formats that are not known are not checked, as
//! upstream has it.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;

use crate::rules::text;

/// Whether a text has a format.
pub(super) fn fits(format: &str, value: &str) -> bool {
    match format {
        "date-time" | "datetime" => is_date_time(value),
        "date" => value.parse::<jiff::civil::Date>().is_ok() && value.len() == 10,
        "duration" => is_duration(value),
        "ipv4" => value.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => value.parse::<Ipv6Addr>().is_ok(),
        "cidr" => value.parse::<IpNet>().is_ok(),
        "mac" => is_mac(value),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => is_uuid(format, value),
        "byte" => STANDARD.decode(value).is_ok(),
        "uri" => is_uri(value),
        "email" => value.split_once('@').is_some_and(|(user, host)| {
            !user.is_empty() && is_hostname(host) && !value.contains(char::is_whitespace)
        }),
        "hostname" => is_hostname(value),
        "hexcolor" => value.strip_prefix('#').is_some_and(|digits| {
            matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())
        }),
        "k8s-short-name" => text::dns_label(value).is_empty(),
        "k8s-long-name" => text::dns_subdomain(value).is_empty(),
        _ => true,
    }
}

fn is_date_time(value: &str) -> bool {
    let separated = value.as_bytes().get(10).is_some_and(|byte| matches!(byte, b'T' | b't'));
    separated && value.parse::<jiff::Timestamp>().is_ok()
}

/// Go's durations (`1h30m`), and those of words that strfmt takes besides (`3 days`).
fn is_duration(value: &str) -> bool {
    let value = value.strip_prefix(['-', '+']).unwrap_or(value);
    if value == "0" {
        return true;
    }
    let mut rest = value;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        if rest[..digits].parse::<f64>().is_err() {
            return false;
        }
        let unit = rest[digits..].trim_start();
        let end = unit.find(|c: char| c.is_ascii_digit() || c == ' ').unwrap_or(unit.len());
        if !DURATION_UNITS.contains(&&unit[..end]) {
            return false;
        }
        rest = unit[end..].trim_start();
    }
    !value.is_empty()
}

fn is_mac(value: &str) -> bool {
    let separator = if value.contains('-') { '-' } else { ':' };
    let parts: Vec<&str> = value.split(separator).collect();
    matches!(parts.len(), 6 | 8 | 20)
        && parts.iter().all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_uuid(format: &str, value: &str) -> bool {
    let plain: String = value.chars().filter(|c| *c != '-').collect();
    let version = format.strip_prefix("uuid").unwrap_or_default();
    plain.len() == 32
        && plain.bytes().all(|byte| byte.is_ascii_hexdigit())
        && (version.is_empty() || plain[12..13] == *version)
}

/// An absolute URI, or an absolute path (Go's `url.ParseRequestURI`).
fn is_uri(value: &str) -> bool {
    if value.contains(|c: char| c.is_ascii_control() || c == ' ') {
        return false;
    }
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    value.starts_with('/') || value.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme))
}

fn is_hostname(value: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    let name = value.strip_suffix('.').unwrap_or(value);
    value.len() <= 255 && name.split('.').all(is_label)
}

const DURATION_UNITS: [&str; 24] = [
    "ns", "us", "µs", "ms", "s", "m", "h", "d", "w", "nano", "micro", "milli", "sec", "second",
    "seconds", "min", "minute", "minutes", "hour", "hours", "day", "days", "week", "weeks",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_take_what_they_say() {
        for (format, good, bad) in [
            ("date-time", "2026-01-02T03:04:05Z", "2026-01-02 03:04:05"),
            ("date", "2026-01-02", "2026-1-2"),
            ("duration", "1h30m", "soon"),
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "fd00::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0"),
            ("mac", "00:11:22:33:44:55", "00:11:22"),
            (
                "uuid4",
                "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
                "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            ),
            ("byte", "aGk=", "a b"),
            ("uri", "https://example.com/a", "example"),
            ("email", "a@example.com", "a"),
            ("hostname", "example.com", "-a"),
            ("hexcolor", "#abcdef", "abcdef"),
        ] {
            assert!(fits(format, good), "{format}");
            assert!(!fits(format, bad), "{format}");
        }
        assert!(fits("of-my-own", "anything"));
    }
}
